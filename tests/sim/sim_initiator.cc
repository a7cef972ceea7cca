#include "tests/sim/sim_initiator.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/iscsi/pdu_writer.h"
#include "common/iscsi/text_keys.h"

namespace holdfast::sim {

namespace {
constexpr size_t kReceiveBuffer = 16 * 1024;
constexpr uint8_t kOperational = static_cast<uint8_t>(iscsi::LoginStage::operational);
constexpr uint8_t kFullFeature = static_cast<uint8_t>(iscsi::LoginStage::full_feature);
}  // namespace

SimInitiator::SimInitiator(SimLoop& loop, SimNetwork& network, base::Random& random,
                           const LoginOptions& options, InitiatorEvents& events)
    : loop_(loop),
      network_(network),
      random_(random),
      options_(options),
      events_(events),
      negotiation_(iscsi::Role::initiator, options.parameters),
      receive_buffer_(kReceiveBuffer) {}

void SimInitiator::start() {
  phase_ = Phase::connecting;
  socket_ = network_.open_stream(options_.portal, {.source = options_.source}).value();
  network_.connect(connect_op_, socket_, options_.portal);
}

void SimInitiator::on_connected(int32_t result) noexcept {
  if (phase_ == Phase::closing) {
    close_when_idle();
    return;
  }
  if (result < 0) {
    lose("connect failed");
    return;
  }
  phase_ = Phase::login;
  cmd_sn_ = static_cast<uint32_t>(random_.next());  // wraps in some runs
  if (random_.below(4) == 0) cmd_sn_ = 0xffffffff - static_cast<uint32_t>(random_.below(20));
  exp_cmd_sn_ = max_cmd_sn_ = cmd_sn_;
  login_tag_ = next_tag_++;
  arm_receive();
  send_login(true);
}

void SimInitiator::send_login(bool first) {
  std::vector<uint8_t> text;
  iscsi::TextKeyWriter writer(text, iscsi::kDefaultDataSegmentBytes);
  bool ok = true;
  if (first) {
    ok = writer.add("InitiatorName", options_.initiator_name) &&
         writer.add("TargetName", options_.target_name) && writer.add("SessionType", "Normal");
    ok = ok && negotiation_.declare(writer) && negotiation_.offer(writer);
  } else {
    iscsi::TextMessage message;
    ok = message.parse(data_) &&
         negotiation_.receive(message, iscsi::NegotiationPhase::operational, writer);
  }
  if (!ok) {
    breach("login negotiation failed");
    return;
  }
  iscsi::LoginRequestPdu pdu;
  pdu.flags =
      static_cast<uint8_t>(iscsi::login_flags::kTransit |
                           (kOperational << iscsi::login_flags::kCurrentStageShift) | kFullFeature);
  pdu.isid = options_.isid;
  pdu.itt = login_tag_;
  pdu.cmd_sn = cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  send_pdu(pdu, text);
}

void SimInitiator::on_login_response() {
  const auto pdu = reader_.as<iscsi::LoginResponsePdu>();
  if (reader_.bhs().code() != iscsi::Opcode::login_response) {
    breach("something else than a login response during login");
    return;
  }
  if (pdu.itt != login_tag_ || pdu.isid.get() != options_.isid) {
    breach("login response with a wrong tag or ISID");
    return;
  }
  if (pdu.status_class != 0) {
    const auto status = static_cast<iscsi::LoginStatus>(pdu.status_class << 8 | pdu.status_detail);
    events_.on_login_refused(status);
    drop(false);
    return;
  }
  exp_stat_sn_ = pdu.stat_sn + 1;
  const bool final = (pdu.flags & iscsi::login_flags::kTransit) != 0 &&
                     iscsi::next_stage(pdu.flags) == kFullFeature;
  if (!final) {
    send_login(false);
    return;
  }
  std::vector<uint8_t> answers;
  iscsi::TextKeyWriter writer(answers, iscsi::kDefaultDataSegmentBytes);
  iscsi::TextMessage message;
  if (!message.parse(data_) ||
      !negotiation_.receive(message, iscsi::NegotiationPhase::operational, writer) ||
      !answers.empty() || negotiation_.waiting_for_answers()) {
    breach("the final login response leaves something to negotiate");
    return;
  }
  if (pdu.tsih == 0) breach("TSIH 0 in the final login response");
  exp_cmd_sn_ = pdu.exp_cmd_sn;
  max_cmd_sn_ = pdu.max_cmd_sn;
  if (exp_cmd_sn_ != cmd_sn_) breach("ExpCmdSN after login is not the login's CmdSN");
  const iscsi::SessionParameters& agreed = negotiation_.parameters();
  reader_.set_digests(agreed.header_digest, agreed.data_digest);
  reader_.set_max_data_segment(agreed.max_recv_data_segment_length);
  phase_ = Phase::full_feature;
  loop_.world().trace("{}: {} logged in isid {:x}", loop_.name(), options_.initiator_name,
                      options_.isid);
  events_.on_logged_in();
}

void SimInitiator::drop(bool reset) {
  reset_ = reset;
  lose("dropped by the initiator");
}

void SimInitiator::lose(const char* why) {
  if (phase_ == Phase::closing || phase_ == Phase::gone) return;
  loop_.world().trace("{}: {} connection ends: {}", loop_.name(), options_.initiator_name, why);
  phase_ = Phase::closing;
  network_.cancel(connect_op_);
  network_.cancel(receive_op_);
  network_.cancel(send_op_);
  close_when_idle();
  if (std::exchange(lost_reported_, true)) return;
  // The owner may not destroy this object from a callback: it waits for gone().
  std::vector<std::pair<uint32_t, ScsiResult>> ended;
  for (const auto& [tag, task] : tasks_) {
    ended.emplace_back(tag, ScsiResult{.received = was_received(tag)});
  }
  tasks_.clear();
  for (const auto& [tag, result] : ended) events_.on_command_done(tag, result);
  const auto management = std::exchange(management_, {});
  for (const auto& [tag, function] : management) {
    events_.on_task_management_done(tag, false, iscsi::TaskResponse::function_rejected);
  }
  events_.on_connection_lost();
}

void SimInitiator::close_when_idle() {
  if (connect_op_.busy() || receive_op_.busy() || send_op_.busy()) return;
  if (socket_ != io::kNoSocket) network_.close(std::exchange(socket_, io::kNoSocket), reset_);
  phase_ = Phase::gone;
}

void SimInitiator::breach(const std::string& what) {
  breached_ = true;
  events_.on_breach(options_.initiator_name + ": " + what);
  drop(true);
}

void SimInitiator::arm_receive() {
  receive_iovec_ = {receive_buffer_.data(), 1 + random_.below(kReceiveBuffer)};
  network_.receive(receive_op_, socket_, {&receive_iovec_, 1});
}

void SimInitiator::on_received(int32_t result) noexcept {
  if (phase_ == Phase::closing) {
    close_when_idle();
    return;
  }
  if (result <= 0) {
    lose(result == 0 ? "closed by the target" : "receive failed");
    return;
  }
  process(base::Bytes(receive_buffer_).first(static_cast<size_t>(result)));
  if (phase_ == Phase::login || phase_ == Phase::full_feature) arm_receive();
}

void SimInitiator::process(base::Bytes input) {
  while (phase_ == Phase::login || phase_ == Phase::full_feature) {
    const auto event = reader_.next(input);
    if (!event) {
      breach(fmt::format("unreadable PDU: {}", event.error().what));
      return;
    }
    if (*event == iscsi::PduReader::Event::need_more) return;
    if (*event == iscsi::PduReader::Event::header) {
      data_.assign(reader_.data_length(), 0);
      if (!data_.empty()) reader_.set_data_target(data_);
      continue;
    }
    if (!reader_.data_digest_ok()) {
      breach("data digest wrong");
      return;
    }
    on_pdu();
  }
}

void SimInitiator::on_pdu() {
  if (phase_ == Phase::login) {
    on_login_response();
  } else {
    on_full_feature_pdu();
  }
}

void SimInitiator::send_bhs(const iscsi::Bhs& header, base::Bytes data) {
  const bool full_feature = phase_ == Phase::full_feature;
  const iscsi::SessionParameters& agreed = negotiation_.parameters();
  const bool header_digest = full_feature && agreed.header_digest;
  const bool data_digest = full_feature && agreed.data_digest;
  uint8_t wire[iscsi::kMaxWireHeaderBytes];
  const size_t length = iscsi::write_header(wire, header, data.size(), header_digest);
  const iscsi::DataTrailer trailer = iscsi::data_trailer(data, data_digest);
  out_.append(base::as_text(base::Bytes(wire).first(length)));
  out_.append(base::as_text(data));
  out_.append(base::as_text(trailer.bytes()));
  flush();
}

void SimInitiator::flush() {
  if (send_op_.busy() || socket_ == io::kNoSocket || phase_ == Phase::closing) return;
  if (sent_ == sending_.size()) {
    if (out_.empty()) return;
    sending_ = std::exchange(out_, {});
    sent_ = 0;
  }
  send_iovec_ = {sending_.data() + sent_, sending_.size() - sent_};
  network_.send(send_op_, socket_, {&send_iovec_, 1});
}

void SimInitiator::on_sent(int32_t result) noexcept {
  if (phase_ == Phase::closing) {
    close_when_idle();
    return;
  }
  if (result < 0) {
    lose("send failed");
    return;
  }
  sent_ += static_cast<size_t>(result);
  flush();
}

}  // namespace holdfast::sim
