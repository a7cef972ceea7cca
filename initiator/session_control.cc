// Numbers, pings, text, rejects, asynchronous messages, logout: what is not a command.

#include <algorithm>
#include <utility>

#include "common/iscsi/sequence.h"
#include "initiator/session.h"

namespace holdfast::initiator {

using iscsi::kReservedTag;

uint32_t Session::next_control_tag() {
  control_tag_ = (control_tag_ + 1) & 0x3fffffff;
  return 0x80000000 | control_tag_;  // never the reserved tag
}

// RFC 7143 4.2.2. False: the session has ended. A status that was skipped is lost for good at level
// 0, and a command would wait for it without end.
bool Session::take_numbers(uint32_t stat_sn, bool consumes, uint32_t exp_cmd_sn,
                           uint32_t max_cmd_sn) {
  if (consumes) {
    if (stat_sn != numbers_.exp_stat_sn) return broken("a StatSN is missing or comes twice");
    ++numbers_.exp_stat_sn;
  }
  // Values that contradict each other are ignored (RFC 7143 4.2.2.1).
  if (iscsi::serial_less(max_cmd_sn + 1, exp_cmd_sn)) return true;
  if (iscsi::serial_less(numbers_.cmd_sn, exp_cmd_sn)) {
    return broken("ExpCmdSN is beyond what was sent");
  }
  if (iscsi::serial_less(exp_cmd_sn_, exp_cmd_sn)) exp_cmd_sn_ = exp_cmd_sn;
  if (iscsi::serial_less(numbers_.max_cmd_sn, max_cmd_sn)) {
    numbers_.max_cmd_sn = max_cmd_sn;
    arm_flush();  // commands may have waited for it
  }
  return true;
}

// --- NOP (RFC 7143 11.18, 11.19) ---

bool Session::ping() {
  if (!up() || ping_outstanding()) return false;
  iscsi::NopOutPdu pdu;
  pdu.opcode |= iscsi::kImmediate;
  pdu.itt = ping_tag_ = next_control_tag();
  ControlPdu* control = new_control();
  if (control == nullptr) return true;
  control->header = base::load<iscsi::Bhs>(base::as_bytes(pdu));
  send_control(*control);
  return true;
}

void Session::on_nop_in() {
  const auto pdu = reader_.as<iscsi::NopInPdu>();
  const bool answer_to_us = pdu.itt != kReservedTag;
  if (!take_numbers(pdu.stat_sn, answer_to_us, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  if (answer_to_us) {
    if (pdu.itt != ping_tag_) {
      ++late_answers_;
      return;
    }
    ping_tag_ = kReservedTag;
    return events_.on_ping_answered();
  }
  if (pdu.ttt == kReservedTag) return;  // it only tells its numbers
  ControlPdu* control = new_control();
  if (control == nullptr) return;
  iscsi::NopOutPdu answer;
  answer.opcode |= iscsi::kImmediate;
  answer.lun = pdu.lun;
  answer.itt = kReservedTag;
  answer.ttt = pdu.ttt;
  control->header = base::load<iscsi::Bhs>(base::as_bytes(answer));
  send_control(*control);
}

// --- text (RFC 7143 11.10, 11.11) ---

void Session::text(base::Bytes request, TextDone done) {
  ASSERT(!text_done_ && request.size() <= parameters_.max_send_data_segment_length);
  text_done_ = std::move(done);
  text_answer_.clear();
  text_responses_ = 0;
  text_tag_ = next_control_tag();
  if (!up()) return;
  send_text(0, kReservedTag, {request.begin(), request.end()});
}

void Session::send_text(uint64_t lun, uint32_t ttt, std::vector<uint8_t> data) {
  ControlPdu* control = new_control();
  if (control == nullptr) return;
  iscsi::TextRequestPdu pdu;
  pdu.opcode |= iscsi::kImmediate;
  pdu.flags = iscsi::kFinal;
  pdu.lun = lun;  // goes with the tag
  pdu.itt = text_tag_;
  pdu.ttt = ttt;
  control->header = base::load<iscsi::Bhs>(base::as_bytes(pdu));
  control->data = std::move(data);
  send_control(*control);
}

void Session::on_text_response() {
  const auto pdu = reader_.as<iscsi::TextResponsePdu>();
  if (!take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  if (!text_done_ || pdu.itt != text_tag_) {
    broken("a text response nobody asked for");
    return;
  }
  if (text_answer_.size() + control_data_.size() > kMaxTextBytes ||
      ++text_responses_ > kMaxTextResponses) {
    broken("a text answer without end");
    return;
  }
  text_answer_.insert(text_answer_.end(), control_data_.begin(), control_data_.end());
  if ((pdu.flags & iscsi::kFinal) != 0) {
    text_tag_ = kReservedTag;
    std::exchange(text_done_, nullptr)(std::exchange(text_answer_, {}));
    return;
  }
  if (pdu.ttt == kReservedTag) {
    broken("a text answer goes on, and does not say how to ask for the rest");
    return;
  }
  send_text(pdu.lun, pdu.ttt, {});
}

// --- asynchronous messages and rejects ---

void Session::on_async_message() {
  const auto pdu = reader_.as<iscsi::AsyncMessagePdu>();
  if (!take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  AsyncMessage message{.event = static_cast<iscsi::AsyncEvent>(pdu.async_event),
                       .vendor_code = pdu.async_vcode,
                       .lun = pdu.lun,
                       .parameter1 = pdu.parameter1,
                       .parameter2 = pdu.parameter2,
                       .parameter3 = pdu.parameter3};
  if (message.event == iscsi::AsyncEvent::scsi && control_data_.size() > 2) {
    const size_t length = base::load<base::be16>(base::Bytes(control_data_).first(2));
    const base::Bytes rest = base::Bytes(control_data_).subspan(2);
    message.sense = scsi::decode_sense(rest.first(std::min(length, rest.size())));
  }
  events_.on_async(message);
}

// RFC 7143 11.17. The header of what was rejected says whom it concerns.
void Session::on_reject() {
  const auto pdu = reader_.as<iscsi::RejectPdu>();
  if (!take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  if (control_data_.size() < iscsi::kBhsBytes) {
    broken("a reject without the header of what it rejects");
    return;
  }
  const auto rejected = base::load<iscsi::Bhs>(base::Bytes(control_data_).first(iscsi::kBhsBytes));
  // Of a PDU whose data was damaged the command is answered by itself (7.8).
  if (static_cast<iscsi::RejectReason>(pdu.reason) == iscsi::RejectReason::data_digest_error) {
    return;
  }
  switch (rejected.code()) {
    case iscsi::Opcode::scsi_command:
      if (Command* command = find(rejected.itt)) finish(*command, Outcome::rejected);
      return;
    case iscsi::Opcode::data_out:  // of one that is over: nobody needs it
      if (find(rejected.itt) != nullptr) broken("the target rejects data it has to take");
      return;
    case iscsi::Opcode::task_management_request: {
      const auto at = find_function(rejected.itt);
      if (at == functions_.end()) return;
      TaskManagement& function = *at;
      functions_.erase(at);
      function.busy_ = false;
      return function.done_(function);
    }
    case iscsi::Opcode::nop_out:  // a sign of life too
      if (rejected.itt != ping_tag_ || !ping_outstanding()) return;
      ping_tag_ = kReservedTag;
      return events_.on_ping_answered();
    default:
      broken("the target rejects what it has to take");
  }
}

// --- logout (RFC 7143 11.14, 11.15) ---

void Session::logout() {
  if (!up() || logout_tag_ != kReservedTag) return;
  iscsi::LogoutRequestPdu pdu;
  pdu.opcode |= iscsi::kImmediate;
  pdu.flags = static_cast<uint8_t>(iscsi::kFinal |
                                   static_cast<uint8_t>(iscsi::LogoutReason::close_session));
  pdu.itt = logout_tag_ = next_control_tag();
  pdu.cid = options_.login.cid;
  ControlPdu* control = new_control();
  if (control == nullptr) return;
  control->header = base::load<iscsi::Bhs>(base::as_bytes(pdu));
  send_control(*control);
  loop_.start(timer_, kLogoutTimeout);
}

void Session::on_logout_response() {
  const auto pdu = reader_.as<iscsi::LogoutResponsePdu>();
  if (!take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  if (logout_tag_ == kReservedTag || pdu.itt != logout_tag_) {
    broken("a logout response nobody asked for");
    return;
  }
  end(EndKind::logged_out, "logged out");
}

}  // namespace holdfast::initiator
