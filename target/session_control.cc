// NOP, text, logout, reject, time-outs: everything of the full feature phase that is not a SCSI
// command.

#include <algorithm>

#include "common/base/log.h"
#include "common/iscsi/sequence.h"
#include "target/connection.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {
namespace {

using iscsi::Opcode;

constexpr const char* kLog = "iscsi";

// CmdSN lies at the same place in every request that carries one.
struct NumberedRequest {
  std::array<uint8_t, 24> before;
  base::be32 cmd_sn;
  std::array<uint8_t, 20> after;
};
static_assert(base::WireStruct<NumberedRequest, iscsi::kBhsBytes>);

}  // namespace

Session::Intake Session::on_control_header(const iscsi::PduReader& reader) {
  const uint32_t length = reader.data_length();
  switch (reader.bhs().code()) {
    case Opcode::nop_out: {
      const auto pdu = reader.as<iscsi::NopOutPdu>();
      if (length == 0 || pdu.itt == iscsi::kReservedTag || discovery_) return Intake::discard;
      ping_data_ = shard().buffers().acquire(length);
      if (!ping_data_) return open_r2ts == 0 ? Intake::pause : Intake::discard;
      target_ = ping_data_.first(length);
      return Intake::take;
    }
    case Opcode::text_request:
      if (length > iscsi::kMaxNegotiationBytes) {
        why_ = "a text request longer than a negotiation may be";
        return Intake::violation;
      }
      control_data_.resize(length);
      if (length == 0) return Intake::discard;
      target_ = control_data_;
      return Intake::take;
    case Opcode::login_request:
      why_ = "a login request after the login";
      return Intake::violation;
    case Opcode::task_management_request:
    case Opcode::logout_request:
    case Opcode::snack:
      return Intake::discard;
    default:
      why_ = "an opcode that no initiator may send";
      return Intake::violation;
  }
}

bool Session::on_control(const iscsi::PduReader& reader) {
  const Opcode code = reader.bhs().code();
  if (code == Opcode::snack) {  // error recovery level 0 has none
    reject(reader.bhs(), iscsi::RejectReason::command_not_supported);
    return true;
  }
  // An answer to our ping takes no number when it says so (RFC 7143 11.18).
  if (!reader.data_digest_ok()) {
    reject(reader.bhs(), iscsi::RejectReason::data_digest_error);
    ping_data_ = {};
    return true;
  }
  const auto numbered = reader.as<NumberedRequest>();
  if (!number_control(numbered.cmd_sn, reader.bhs().immediate())) {
    ping_data_ = {};
    return true;
  }
  switch (code) {
    case Opcode::nop_out:
      // RFC 7143 7.4.3: a discovery session gets text and logout responses only.
      if (discovery_) {
        reject(reader.bhs(), iscsi::RejectReason::command_not_supported);
      } else {
        on_nop_out(reader);
      }
      break;
    case Opcode::text_request:
      on_text(reader);
      break;
    case Opcode::logout_request:
      on_logout(reader);
      break;
    case Opcode::task_management_request:
      on_task_management(reader);
      break;
    default:
      break;
  }
  run_parked();
  return true;
}

// Non-immediate requests of these kinds are taken in order only: with one connection an earlier
// number cannot still be on its way behind them, except where the initiator left a gap on purpose.
bool Session::number_control(uint32_t cmd_sn, bool immediate) {
  bool in_order = false;
  if (!take_number(cmd_sn, immediate, &in_order)) return false;
  if (immediate) return true;
  if (!in_order) return false;
  advance_window();
  return true;
}

void Session::on_nop_out(const iscsi::PduReader& reader) {
  const auto request = reader.as<iscsi::NopOutPdu>();
  if (request.ttt != iscsi::kReservedTag) ping_outstanding_ = false;
  if (request.itt == iscsi::kReservedTag) return;  // an answer, or just a sign of life
  Buffer data = std::exchange(ping_data_, Buffer{});
  ControlPdu* answer = connection_.new_control_pdu();
  if (answer == nullptr) return connection_.close("it sends pings but takes no answers");
  iscsi::NopInPdu response;
  response.itt = request.itt;
  response.lun = request.lun;
  answer->item.header = base::load<iscsi::Bhs>(base::as_bytes(response));
  if (data) {
    const size_t length =
        std::min<size_t>(reader.data_length(), parameters().max_send_data_segment_length);
    answer->buffer = std::move(data);
    answer->item.data = answer->buffer.first(length);
  }
  connection_.queue_control(*answer);
}

void Session::ping() {
  ControlPdu* pdu = connection_.new_control_pdu();
  if (pdu == nullptr) return;
  iscsi::NopInPdu request;
  request.ttt = next_ttt_++ & 0x7fffffff;
  pdu->item.header = base::load<iscsi::Bhs>(base::as_bytes(request));
  pdu->item.takes_stat_sn = false;  // RFC 7143 11.19: a ping of ours takes no StatSN
  ping_outstanding_ = true;
  ping_sent_ = shard().loop().now();
  connection_.queue_control(*pdu);
}

// `reading`: we take what it sends; else the silence is ours. `sending`: it has yet to take what we
// send, before any ping; whether it does is the connection's to watch.
void Session::on_housekeeping(io::Instant now, bool reading, bool sending) {
  if (sending) last_heard_ = ping_sent_ = now;
  if (logout_deadline_ != io::Instant{} && now >= logout_deadline_) {
    return connection_.close("it did not log out in the time it was given");
  }
  purge_retired_units();
  expire_waiting_functions(now);
  end_overdue(now);
  if (!reading) return;
  if (ping_outstanding_ && now - ping_sent_ >= kPingTimeout) {
    return connection_.close("no answer to our NOP-In");
  }
  for (const Task& task : tasks_) {
    const bool waits_for_data =
        task.unsolicited_open || task.outstanding_r2ts > 0 || task.state == Task::State::parked;
    if (task.aborted) continue;  // it waits for the backing only; its data need not come any more
    if (waits_for_data && now - task.last_progress >= kDataOutTimeout) {
      return connection_.close("data that was promised did not come");
    }
  }
  if (discovery_ && now - last_heard_ >= kIdleDiscovery) {
    return connection_.close("an idle discovery session");
  }
  if (!ping_outstanding_ && !discovery_ && now - last_heard_ >= kIdleBeforePing) ping();
}

void Session::on_text(const iscsi::PduReader& reader) {
  const auto request = reader.as<iscsi::TextRequestPdu>();
  const iscsi::TextServer::Answer answer = text_.on_request(request, control_data_);
  control_data_.clear();
  if (!answer.accepted) return reject(reader.bhs(), answer.reason);
  const base::Bytes data = text_.response_data();
  ControlPdu* pdu = connection_.new_control_pdu();
  if (pdu == nullptr) return connection_.close("it asks but takes no answers");
  if (!data.empty()) {
    pdu->buffer = shard().buffers().acquire(data.size());
    if (!pdu->buffer) {
      connection_.give_back(*pdu);
      return reject(reader.bhs(), iscsi::RejectReason::long_operation);
    }
    std::ranges::copy(data, pdu->buffer.data());
    pdu->item.data = pdu->buffer.first(data.size());
  }
  pdu->item.header = base::load<iscsi::Bhs>(base::as_bytes(text_.response()));
  connection_.queue_control(*pdu);
  connection_.send_queue().configure(
      {.header = parameters().header_digest, .data = parameters().data_digest},
      parameters().max_send_data_segment_length, parameters().max_burst_length);
}

// Close of the session or of its one connection: the same. The answer comes when every command of
// the session has ended, so that the initiator may take it for a barrier.
void Session::on_logout(const iscsi::PduReader& reader) {
  const auto request = reader.as<iscsi::LogoutRequestPdu>();
  const auto reason = static_cast<iscsi::LogoutReason>(request.flags & iscsi::kLogoutReasonMask);
  if (logging_out_) return;  // the first one is being answered
  using Answer = iscsi::LogoutResponse;
  Answer answer = Answer::closed;
  switch (reason) {
    case iscsi::LogoutReason::close_session:
      break;
    case iscsi::LogoutReason::close_connection:
      if (request.cid != cid_) answer = Answer::cid_not_found;
      break;
    case iscsi::LogoutReason::recovery:
      answer = Answer::recovery_not_supported;
      break;
    default:
      return reject(reader.bhs(), iscsi::RejectReason::invalid_pdu_field);
  }
  ControlPdu* pdu = connection_.new_control_pdu();
  if (pdu == nullptr) return connection_.close("it logs out but takes no answers");
  iscsi::LogoutResponsePdu response;
  response.itt = request.itt;
  response.response = static_cast<uint8_t>(answer);
  pdu->item.header = base::load<iscsi::Bhs>(base::as_bytes(response));
  if (answer != Answer::closed) return connection_.queue_control(*pdu);
  pdu->closes = true;
  logging_out_ = true;
  logout_answer_ = pdu;
  logout_deadline_ = shard().loop().now() + shard().options().drain_deadline;
  abort_all();
  finish_logout();
}

void Session::finish_logout() {
  // On a connection that closes nothing may be queued any more: its queue was cleared.
  if (logout_answer_ == nullptr || !tasks_.empty() || connection_.closing()) return;
  connection_.queue_control(*std::exchange(logout_answer_, nullptr));
}

void Session::request_logout() {
  ControlPdu* pdu = connection_.new_control_pdu();
  if (pdu == nullptr) return connection_.close("asked to log out but it takes no PDUs");
  iscsi::AsyncMessagePdu message;
  message.async_event = static_cast<uint8_t>(iscsi::AsyncEvent::logout_request);
  message.parameter3 = static_cast<uint16_t>(
      std::chrono::duration_cast<std::chrono::seconds>(kLogoutRequestTime).count());
  pdu->item.header = base::load<iscsi::Bhs>(base::as_bytes(message));
  connection_.queue_control(*pdu);
  logout_deadline_ = shard().loop().now() + kLogoutRequestTime;
}

void Session::reject(const iscsi::Bhs& bhs, iscsi::RejectReason reason) {
  shard().count_rejected_pdu();
  LOG_LIMITED(warning, kLog, "PDU rejected: session={} opcode={:#04x} reason={:#04x}", id_,
              bhs.opcode, static_cast<unsigned>(reason));
  ControlPdu* pdu = connection_.new_control_pdu();
  if (pdu == nullptr) return connection_.close("its PDUs are rejected and it takes no answers");
  iscsi::RejectPdu response;
  response.reason = static_cast<uint8_t>(reason);
  pdu->item.header = base::load<iscsi::Bhs>(base::as_bytes(response));
  std::ranges::copy(base::as_bytes(bhs), pdu->small.begin());
  pdu->item.data = base::Bytes(pdu->small).first(iscsi::kBhsBytes);
  connection_.queue_control(*pdu);
}

}  // namespace holdfast::target
