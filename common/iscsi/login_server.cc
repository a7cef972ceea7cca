#include "common/iscsi/login_server.h"

#include "common/base/assert.h"
#include "common/iscsi/sequence.h"

namespace holdfast::iscsi {
namespace {

LoginStatus to_status(const base::Error& error) {
  switch (error.code) {
    case base::Errc::limit:
      return LoginStatus::out_of_resources;
    case base::Errc::not_found:
      return LoginStatus::not_found;
    case base::Errc::unsupported:
      return LoginStatus::session_type_not_supported;
    default:
      return LoginStatus::initiator_error;
  }
}

}  // namespace

LoginServer::LoginServer(const Options& options, LoginPolicy& policy, base::Random& random)
    : options_(options),
      policy_(policy),
      random_(random),
      negotiation_(Role::target, options.parameters) {
  ASSERT(options.command_window > 0);
}

LoginServer::Outcome LoginServer::on_pdu(const Bhs& bhs, base::Bytes data) {
  ASSERT(state_ != State::finished);
  answers_.clear();
  if (bhs.code() != Opcode::login_request) {
    refuse(LoginStatus::invalid_during_login, "a PDU other than a login request before the login");
    // RFC 7143 6.3.1: nothing is known of the peer yet, so there is nobody to answer.
    if (state_ == State::first_pdu) {
      state_ = State::finished;
      return {.next = Next::close};
    }
    return refused();
  }
  if (state_ == State::waiting_for_grant) {
    refuse(LoginStatus::invalid_during_login, "a PDU came before the login's final response");
    return refused();
  }
  return on_login(base::load<LoginRequestPdu>(base::as_bytes(bhs)), data);
}

LoginServer::Outcome LoginServer::on_login(const LoginRequestPdu& request, base::Bytes data) {
  if (state_ == State::first_pdu) {
    state_ = State::negotiating;
    first_ = request;
    stage_ = static_cast<LoginStage>(current_stage(request.flags));
    // Any start is legal. This one also suits initiators that never learn ours.
    stat_sn_ = request.exp_stat_sn;
  }
  if (!check_request(request, data)) return refused();
  if ((request.flags & login_flags::kContinue) != 0) {
    partial_.insert(partial_.end(), data.begin(), data.end());
    prepare_response(stage_bits());
    return {.next = Next::reply};
  }
  if (partial_.empty()) return on_message(request, data);
  partial_.insert(partial_.end(), data.begin(), data.end());
  const Outcome outcome = on_message(request, partial_);
  partial_ = {};
  return outcome;
}

bool LoginServer::check_request(const LoginRequestPdu& request, base::Bytes data) {
  // RFC 7143 11.12.4: we speak version 0 only.
  if (request.version_min > 0) {
    return refuse(LoginStatus::unsupported_version, "the initiator needs a later protocol version");
  }
  if (request.total_ahs_length != 0) {
    return refuse(LoginStatus::initiator_error, "a login request has an AHS");
  }
  bytes_ += data.size();
  if (++pdus_ > kMaxLoginPdus || bytes_ > kMaxNegotiationBytes) {
    return refuse(LoginStatus::initiator_error, "the login takes too many PDUs or bytes");
  }
  return check_flags(request) && check_same_login(request);
}

bool LoginServer::check_flags(const LoginRequestPdu& request) {
  const bool transit = (request.flags & login_flags::kTransit) != 0;
  const bool more = (request.flags & login_flags::kContinue) != 0;
  const uint8_t current = current_stage(request.flags);
  const uint8_t next = next_stage(request.flags);
  if (transit && more) {
    return refuse(LoginStatus::initiator_error, "a login request has both T and C");
  }
  if (current > static_cast<uint8_t>(LoginStage::operational)) {
    return refuse(LoginStatus::initiator_error, "an illegal current login stage");
  }
  if (transit && (next <= current || next == 2)) {
    return refuse(LoginStatus::initiator_error, "an illegal next login stage");
  }
  return true;
}

// RFC 7143 11.12.5 to 11.12.8: what may not change during one login.
bool LoginServer::check_same_login(const LoginRequestPdu& request) {
  if (current_stage(request.flags) != static_cast<uint8_t>(stage_)) {
    return refuse(LoginStatus::initiator_error, "the login is not in the stage of the request");
  }
  const bool same =
      request.isid.get() == first_.isid.get() && request.tsih.get() == first_.tsih.get() &&
      request.cid.get() == first_.cid.get() && request.itt.get() == first_.itt.get() &&
      request.cmd_sn.get() == first_.cmd_sn.get();
  if (!same) {
    return refuse(LoginStatus::initiator_error,
                  "ISID, TSIH, CID, task tag or CmdSN changed during the login");
  }
  if (serial_less(stat_sn_, request.exp_stat_sn)) {
    return refuse(LoginStatus::initiator_error, "ExpStatSN acknowledges what was not sent");
  }
  return true;
}

LoginServer::Outcome LoginServer::on_message(const LoginRequestPdu& request, base::Bytes text) {
  TextMessage message;
  if (const auto parsed = message.parse(text); !parsed.has_value()) {
    refuse(parsed.error());
    return refused();
  }
  TextKeyWriter out(answers_, kMaxLoginResponseBytes);
  Outcome outcome;
  if (!process(request, message, out) || !establish_identity(outcome)) return refused();
  return advance(request, outcome);
}

bool LoginServer::process(const LoginRequestPdu& request, const TextMessage& message,
                          TextKeyWriter& out) {
  const bool transit = (request.flags & login_flags::kTransit) != 0;
  const bool security = stage_ == LoginStage::security;
  const auto phase = security ? NegotiationPhase::security : NegotiationPhase::operational;
  if (const auto received = negotiation_.receive(message, phase, out); !received.has_value()) {
    return refuse(received.error());
  }
  if (!leading_message_done_ && !on_leading_message(out)) return false;
  return security ? run_security(message, transit, out) : run_operational(transit, out);
}

// RFC 7143 6.3.1: who talks to whom, in the first message and before anything else.
bool LoginServer::on_leading_message(TextKeyWriter& out) {
  leading_message_done_ = true;
  const PeerNames& peer = negotiation_.peer();
  const bool discovery = peer.session_type == SessionType::discovery;
  if (peer.initiator_name.empty()) {
    return refuse(LoginStatus::missing_parameter, "the first login request has no InitiatorName");
  }
  if (!discovery && peer.target_name.empty()) {
    return refuse(LoginStatus::missing_parameter, "the first login request has no TargetName");
  }
  LoginDecision decision = discovery ? policy_.discovery(peer.initiator_name)
                                     : policy_.normal(peer.initiator_name, peer.target_name);
  if (decision.status != LoginStatus::success) {
    return refuse(decision.status, decision.reason != nullptr
                                       ? decision.reason
                                       : "the target's configuration does not admit this login");
  }
  chap_ = std::move(decision.chap);
  if (chap_.required() && stage_ != LoginStage::security) {
    return refuse(LoginStatus::authentication_failure,
                  "CHAP is required, but the login skips the security stage");
  }
  if (discovery) return true;
  // RFC 7143 13.9: in the first response of a normal session.
  const auto added =
      out.add_number(key_info(Key::target_portal_group_tag).name, options_.portal_group_tag);
  return added.has_value() || refuse(added.error());
}

bool LoginServer::run_security(const TextMessage& message, bool transit, TextKeyWriter& out) {
  if (const auto offered = message.find(key_info(Key::auth_method).name)) {
    if (!choose_method(*offered, out)) return false;
  }
  const ChapKeys keys = ChapKeys::of(message);
  if (chap_server_.has_value() && !authenticated_) {
    if (!run_chap(keys, out)) return false;
  } else if (!keys.empty()) {
    return refuse(LoginStatus::initiator_error, "CHAP keys while CHAP is not going on");
  }
  if (transit && chap_.required() && !chap_server_.has_value()) {
    return refuse(LoginStatus::authentication_failure,
                  "CHAP is required, but the initiator does not offer it");
  }
  return true;
}

bool LoginServer::choose_method(std::string_view offered, TextKeyWriter& out) {
  if (method_chosen_) {
    return refuse(LoginStatus::initiator_error, "AuthMethod came twice");
  }
  method_chosen_ = true;
  const std::string_view method = chap_.required() ? "CHAP" : "None";
  if (!list_contains(offered, method)) {
    return refuse(LoginStatus::authentication_failure,
                  chap_.required() ? "CHAP is required, but the initiator does not offer it"
                                   : "the initiator insists on authentication, but no secret is "
                                     "configured for it");
  }
  if (chap_.required()) chap_server_.emplace(chap_, random_);
  const auto added = out.add(key_info(Key::auth_method).name, method);
  return added.has_value() || refuse(added.error());
}

bool LoginServer::run_chap(const ChapKeys& keys, TextKeyWriter& out) {
  const ChapServer::Step step = chap_server_->step(keys, out);
  if (step == ChapServer::Step::waiting || step == ChapServer::Step::challenged) return true;
  authenticated_ = step == ChapServer::Step::authenticated;
  if (!policy_.chap_ended(authenticated_)) {
    return refuse(LoginStatus::service_unavailable, "too many failed logins of this account");
  }
  if (!authenticated_) {
    return refuse(LoginStatus::authentication_failure, chap_server_->failure());
  }
  user_ = chap_.initiator->user;
  return true;
}

bool LoginServer::run_operational(bool transit, TextKeyWriter& out) {
  if (const auto declared = negotiation_.declare(out); !declared.has_value()) {
    return refuse(declared.error());
  }
  if (!transit) return true;
  const auto offered = negotiation_.offer(out);
  return offered.has_value() || refuse(offered.error());
}

bool LoginServer::establish_identity(Outcome& outcome) {
  if (identity_established_ || (chap_.required() && !authenticated_)) return true;
  // Only now: an unproved name must not learn which sessions exist.
  if (tsih() != 0) {
    const LoginStatus status = policy_.join_session(initiator_name(), isid(), tsih(), cid());
    ASSERT(status != LoginStatus::success);
    return refuse(status, "a session has one connection; a new session has TSIH 0");
  }
  identity_established_ = true;
  outcome.identity_established = true;
  return true;
}

bool LoginServer::may_transit() const {
  if (stage_ == LoginStage::security) return !chap_.required() || authenticated_;
  return !negotiation_.waiting_for_answers();
}

LoginServer::Outcome LoginServer::advance(const LoginRequestPdu& request, Outcome outcome) {
  outcome.next = Next::reply;
  if ((request.flags & login_flags::kTransit) == 0 || !may_transit()) {
    prepare_response(stage_bits());
    return outcome;
  }
  const uint8_t next = next_stage(request.flags);
  const auto flags = static_cast<uint8_t>(login_flags::kTransit | stage_bits() | next);
  if (next == static_cast<uint8_t>(LoginStage::full_feature)) {
    granted_flags_ = flags;
    state_ = State::waiting_for_grant;
    outcome.next = Next::wait_for_grant;
    return outcome;
  }
  prepare_response(flags);
  stage_ = LoginStage::operational;
  return outcome;
}

LoginServer::Outcome LoginServer::grant(uint16_t tsih) {
  ASSERT(state_ == State::waiting_for_grant && tsih != 0);
  state_ = State::finished;
  prepare_response(granted_flags_);
  response_.tsih = tsih;
  return {.next = Next::full_feature};
}

LoginServer::Outcome LoginServer::deny(LoginStatus status, const char* reason) {
  ASSERT(state_ != State::finished && status != LoginStatus::success);
  refuse(status, reason);
  if (state_ == State::first_pdu) {
    state_ = State::finished;
    return {.next = Next::close};
  }
  return refused();
}

bool LoginServer::refuse(LoginStatus status, const char* reason) {
  status_ = status;
  reason_ = reason;
  return false;
}

bool LoginServer::refuse(const base::Error& error) { return refuse(to_status(error), error.what); }

LoginServer::Outcome LoginServer::refused() {
  ASSERT(status_ != LoginStatus::success);
  state_ = State::finished;
  answers_.clear();
  prepare_response(stage_bits());
  response_.status_class = status_class(status_);
  response_.status_detail = status_detail(status_);
  return {.next = Next::reply_and_close};
}

uint8_t LoginServer::stage_bits() const {
  return static_cast<uint8_t>(static_cast<unsigned>(stage_) << login_flags::kCurrentStageShift);
}

void LoginServer::prepare_response(uint8_t flags) {
  response_ = LoginResponsePdu();
  response_.flags = flags;
  response_.isid = first_.isid;
  response_.tsih = first_.tsih;
  response_.itt = first_.itt;
  response_.stat_sn = stat_sn_++;
  // RFC 7143 11.12.8: login requests are immediate and do not consume CmdSN.
  response_.exp_cmd_sn = first_.cmd_sn;
  response_.max_cmd_sn = first_.cmd_sn + options_.command_window - 1;
  response_.data_segment_length = static_cast<uint32_t>(answers_.size());
}

}  // namespace holdfast::iscsi
