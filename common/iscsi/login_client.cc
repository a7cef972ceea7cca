#include "common/iscsi/login_client.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"
#include "common/iscsi/sequence.h"

namespace holdfast::iscsi {
namespace {

// What every target must take before it has declared anything (RFC 7143 13.12).
constexpr size_t kMaxRequestBytes = kDefaultDataSegmentBytes;

LoginStage after(LoginStage stage) {
  return stage == LoginStage::security ? LoginStage::operational : LoginStage::full_feature;
}

}  // namespace

LoginClient::LoginClient(Options options, base::Random& random)
    : options_(std::move(options)),
      random_(random),
      negotiation_(Role::initiator, options_.parameters,
                   discovery() ? SessionType::discovery : SessionType::normal),
      max_cmd_sn_(options_.cmd_sn) {
  ASSERT(!options_.initiator_name.empty());
  ASSERT(options_.isid >> 48 == 0);
}

LoginClient::Next LoginClient::start() {
  ASSERT(state_ == State::idle);
  state_ = State::negotiating;
  request_.isid = options_.isid;
  request_.itt = options_.itt;
  request_.cid = options_.cid;
  request_.cmd_sn = options_.cmd_sn;
  TextKeyWriter out(text_, kMaxRequestBytes);
  if (const auto written = write_names(out); !written.has_value()) return give_up(written.error());
  return send(wants_transit());
}

base::Result<void> LoginClient::write_names(TextKeyWriter& out) const {
  TRY(out.add(key_info(Key::initiator_name).name, options_.initiator_name));
  if (!options_.initiator_alias.empty()) {
    TRY(out.add(key_info(Key::initiator_alias).name, options_.initiator_alias));
  }
  TRY(out.add(key_info(Key::session_type).name, discovery() ? "Discovery" : "Normal"));
  if (!discovery()) TRY(out.add(key_info(Key::target_name).name, options_.target_name));
  const std::string_view methods = !options_.chap.has_value()  ? "None"
                                   : options_.chap->demanded() ? "CHAP"
                                                               : "CHAP,None";
  return out.add(key_info(Key::auth_method).name, methods);
}

LoginClient::Next LoginClient::on_pdu(const Bhs& bhs, base::Bytes data) {
  ASSERT(state_ == State::negotiating);
  text_.clear();
  bytes_ += data.size();
  if (++pdus_ > kMaxLoginPdus || bytes_ > kMaxNegotiationBytes) {
    return give_up("the login takes too many PDUs or bytes");
  }
  if (bhs.code() != Opcode::login_response) {
    return give_up("a PDU other than a login response came before the login's end");
  }
  const auto response = base::load<LoginResponsePdu>(base::as_bytes(bhs));
  // Before the other checks: in refusals targets in use leave ISID, StatSN and stages 0 (LIO, tgt).
  if (response.status_class != 0) return take_refusal(response, data);
  if (const char* const wrong = find_fault(response)) return give_up(wrong);
  take_numbers(response);
  if ((response.flags & login_flags::kContinue) != 0) {
    partial_.insert(partial_.end(), data.begin(), data.end());
    return send(false);  // RFC 7143 6.2: an empty request asks for the rest
  }
  if (partial_.empty()) return on_message(response, data);
  partial_.insert(partial_.end(), data.begin(), data.end());
  const std::vector<uint8_t> whole = std::exchange(partial_, {});
  return on_message(response, whole);
}

LoginClient::Next LoginClient::take_refusal(const LoginResponsePdu& response, base::Bytes data) {
  const unsigned status = unsigned{response.status_class} << 8 | response.status_detail;
  if (response.status_class > status_class(LoginStatus::target_error)) {
    return give_up("the target answers with a reserved status class");
  }
  if (response.status_class == status_class(LoginStatus::target_moved_temporarily)) {
    TextMessage message;
    if (const auto parsed = message.parse(data); !parsed.has_value()) {
      return give_up(parsed.error());
    }
    const auto value = message.find(key_info(Key::target_address).name);
    if (!value) return give_up("the target redirects, but does not say where to");
    auto address = TargetAddress::parse(*value);
    if (!address.has_value()) return give_up(address.error());
    redirect_ = std::move(*address);
  }
  state_ = State::finished;
  status_ = static_cast<LoginStatus>(status);
  reason_ = to_string(status_);
  return response.status_class == 1 ? Next::redirected : Next::refused;
}

// RFC 7143 11.13: what is wrong with a response as such, or null.
const char* LoginClient::find_fault(const LoginResponsePdu& response) const {
  const bool transit = (response.flags & login_flags::kTransit) != 0;
  if (response.version_active != 0) return "the target chose a protocol version we do not speak";
  if (response.total_ahs_length != 0) return "a login response has an AHS";
  if (response.isid.get() != options_.isid || response.itt.get() != options_.itt) {
    return "a login response has another ISID or task tag";
  }
  if (any_response_ && response.stat_sn.get() != exp_stat_sn_) {
    return "a login response is missing: StatSN is not the next one";
  }
  if (current_stage(response.flags) != static_cast<uint8_t>(stage_)) {
    return "a login response is of another stage";
  }
  if (!transit) return nullptr;  // NSG means nothing then, and tgt fills it
  if ((response.flags & login_flags::kContinue) != 0) return "a login response has both T and C";
  if (!transit_asked_) return "the target leaves a login stage unasked";
  if (next_stage(response.flags) != static_cast<uint8_t>(after(stage_))) {
    return "the target goes to another login stage than asked for";
  }
  return nullptr;
}

void LoginClient::take_numbers(const LoginResponsePdu& response) {
  any_response_ = true;
  exp_stat_sn_ = response.stat_sn + 1;
  // RFC 7143 4.2.2.1, 11.13.7: nothing was sent that consumes a CmdSN, so ExpCmdSN can only be our
  // first one; MaxCmdSN is at least the number before it.
  const uint32_t last = response.max_cmd_sn;
  if (response.exp_cmd_sn.get() != options_.cmd_sn || serial_less(last + 1, options_.cmd_sn))
    return;
  max_cmd_sn_ = last;
}

LoginClient::Next LoginClient::on_message(const LoginResponsePdu& response, base::Bytes text) {
  TextMessage message;
  if (const auto parsed = message.parse(text); !parsed.has_value()) return give_up(parsed.error());
  TextKeyWriter out(text_, kMaxRequestBytes);
  const bool security = stage_ == LoginStage::security;
  const auto phase = security ? NegotiationPhase::security : NegotiationPhase::operational;
  if (const auto received = negotiation_.receive(message, phase, out); !received.has_value()) {
    return give_up(received.error());
  }
  if (security && !run_security(message, out)) return Next::failed;
  const bool transit = (response.flags & login_flags::kTransit) != 0;
  transit_asked_ = false;
  if (!transit) return send(wants_transit());
  return security ? enter_operational(out) : enter_full_feature(response);
}

bool LoginClient::run_security(const TextMessage& message, TextKeyWriter& out) {
  const ChapKeys keys = ChapKeys::of(message);
  const auto method = message.find(key_info(Key::auth_method).name);
  if (!keys.empty() && (method || !chap_.has_value())) {
    return distrust("the target sent CHAP keys while CHAP is not going on");
  }
  if (method) return choose_method(*method, out);
  if (!chap_.has_value()) return true;
  const ChapClient::Step step = chap_->step(keys, out);
  if (step == ChapClient::Step::failed) return distrust(chap_->reason());
  target_proved_ = target_proved_ || step == ChapClient::Step::proved;
  return true;
}

bool LoginClient::choose_method(std::string_view chosen, TextKeyWriter& out) {
  if (method_chosen_) return distrust("AuthMethod came twice");
  method_chosen_ = true;
  if (chosen == "CHAP" && options_.chap.has_value()) {
    chap_.emplace(*options_.chap, random_);
    const auto offered = chap_->offer(out);
    return offered.has_value() || distrust(offered.error().what);
  }
  if (chosen == "CHAP")
    return distrust("the target wants CHAP, but no secret is configured for it");
  if (chosen != "None") return distrust("the target accepts no authentication method of ours");
  return !chap_demanded() || distrust("CHAP is demanded, but the target does not do it");
}

bool LoginClient::chap_demanded() const {
  return options_.chap.has_value() && options_.chap->demanded();
}

// Of the request that goes out now.
bool LoginClient::wants_transit() const {
  if (stage_ == LoginStage::operational) return true;
  return chap_.has_value() ? chap_->answered() : !chap_demanded();
}

LoginClient::Next LoginClient::enter_operational(TextKeyWriter& out) {
  const bool proved = chap_.has_value() ? chap_->complete() : !chap_demanded();
  if (!proved) {
    distrust("the target ends the security stage before CHAP is done");
    return Next::failed;
  }
  authenticated_ = chap_.has_value();
  stage_ = LoginStage::operational;
  if (const auto declared = negotiation_.declare(out); !declared.has_value()) {
    return give_up(declared.error());
  }
  if (const auto offered = negotiation_.offer(out); !offered.has_value()) {
    return give_up(offered.error());
  }
  return send(true);
}

LoginClient::Next LoginClient::enter_full_feature(const LoginResponsePdu& response) {
  // RFC 7143 6.2: what calls for an answer can not come with the last response. A key that we do
  // not understand can: nothing depends on our saying so.
  TextPairs answers(text_);
  while (!answers.at_end()) {
    const auto answer = answers.next();
    if (!answer.has_value() || answer->value != "NotUnderstood") {
      return give_up("the target offers a key in the login's last response");
    }
  }
  text_.clear();
  if (const auto ended = negotiation_.end_stage(); !ended.has_value()) {
    return give_up(ended.error());
  }
  tsih_ = response.tsih;
  state_ = State::finished;
  return Next::full_feature;
}

LoginClient::Next LoginClient::send(bool transit) {
  ASSERT(state_ == State::negotiating);
  unsigned flags = static_cast<unsigned>(stage_) << login_flags::kCurrentStageShift;
  if (transit) flags |= login_flags::kTransit | static_cast<unsigned>(after(stage_));
  transit_asked_ = transit_asked_ || transit;
  request_.flags = static_cast<uint8_t>(flags);
  request_.exp_stat_sn = exp_stat_sn_;
  request_.data_segment_length = static_cast<uint32_t>(text_.size());
  return Next::send;
}

bool LoginClient::distrust(const char* reason) {
  give_up(reason);
  status_ = LoginStatus::authentication_failure;
  return false;
}

LoginClient::Next LoginClient::give_up(const base::Error& error) { return give_up(error.what); }

LoginClient::Next LoginClient::give_up(const char* reason) {
  state_ = State::finished;
  text_.clear();
  partial_ = {};
  status_ = LoginStatus::target_error;
  reason_ = reason;
  return Next::failed;
}

ChapAlgorithm LoginClient::chap_algorithm() const {
  ASSERT(chap_.has_value());
  return chap_->algorithm();
}

bool LoginClient::chap_refused() const {
  return state_ == State::finished && stage_ == LoginStage::security &&
         status_class(status_) == status_class(LoginStatus::initiator_error) && chap_.has_value() &&
         chap_->answered();
}

bool LoginClient::may_retry_without_sha256() const {
  return chap_refused() && chap_->algorithm() == ChapAlgorithm::sha256;
}

std::string LoginClient::target_alias() const {
  std::string alias = negotiation_.peer().target_alias;
  std::ranges::replace_if(alias, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return alias;
}

}  // namespace holdfast::iscsi
