// Commands and task management functions of a session.

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/iscsi/sequence.h"
#include "initiator/session.h"

namespace holdfast::initiator {
namespace {

constexpr uint32_t kSlotMask = kMaxCommands - 1;
// Tags of commands have the highest bit clear, those of everything else have it set.
constexpr uint32_t kGenerationMask = 0x7fffffff >> kSlotBits;

size_t memory_of(const Command& command) {
  size_t bytes = 0;
  for (const iovec& part : command.data) bytes += part.iov_len;
  return bytes;
}

}  // namespace

const char* to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::answered:
      return "answered";
    case Outcome::unsent:
      return "not sent";
    case Outcome::unanswered:
      return "not answered";
    case Outcome::ended:
      return "ended by task management";
    case Outcome::rejected:
      return "rejected";
  }
  return "";
}

void Session::submit(Command& command) {
  ASSERT((up() || phase_ == Phase::closing) && !command.busy() && has_slot());
  ASSERT(command.data.size() <= kMaxDataIovecs && memory_of(command) >= command.data_bytes);
  const uint16_t slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[slot] = &command;
  ++outstanding_;
  command.tag_ = (generations_[slot]++ & kGenerationMask) << kSlotBits | slot;
  command.state_ = Command::State::queued;
  command.sent_ = command.announced_ = false;
  command.received_ = command.next_data_in_sn_ = command.next_r2t_sn_ = 0;
  command.frames_ = command.given_ = 0;
  command.outcome = Outcome::unsent;
  command.status = scsi::Status::good;
  command.sense = {};
  command.moved = 0;
  if (!up()) return;  // it is given back with the others
  send_queue_.push(command);
  arm_flush();
}

bool Session::withdraw(Command& command) {
  if (command.state_ != Command::State::queued || !send_queue_.withdraw(command)) return false;
  free_slot(command);
  command.state_ = Command::State::idle;
  return true;
}

// Null: no command has this tag, any more.
Command* Session::find(uint32_t tag) const {
  Command* command = tag > 0x7fffffff ? nullptr : slots_[tag & kSlotMask];
  const bool same = command != nullptr && command->tag_ == tag && command->sent_ &&
                    command->state_ == Command::State::sent;
  return same ? command : nullptr;
}

// --- Data-In ---

bool Session::place_data_in() {
  const auto pdu = reader_.as<iscsi::DataInPdu>();
  const uint32_t length = reader_.data_length();
  Command* command = find(pdu.itt);
  if (command == nullptr) {
    if (length > 0) reader_.discard_data();
    return true;
  }
  const uint32_t offset = pdu.buffer_offset;
  if (command->writes || pdu.data_sn != command->next_data_in_sn_ || offset != command->received_ ||
      length > command->data_bytes - command->received_) {
    return broken("Data-In out of order, or more than was asked for");
  }
  incoming_ = command;
  bounced_ = false;
  if (length == 0) return true;
  size_t skip = offset;
  for (const iovec& part : command->data) {
    if (skip >= part.iov_len) {
      skip -= part.iov_len;
      continue;
    }
    if (part.iov_len - skip < length) break;
    reader_.set_data_target({static_cast<uint8_t*>(part.iov_base) + skip, length});
    return true;
  }
  bounced_ = true;
  bounce_.resize(length);
  reader_.set_data_target(bounce_);
  return true;
}

void Session::on_data_in() {
  const auto pdu = reader_.as<iscsi::DataInPdu>();
  const bool with_status = (pdu.flags & iscsi::data_in_flags::kStatus) != 0;
  if (!take_numbers(pdu.stat_sn, with_status, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  Command* command = std::exchange(incoming_, nullptr);
  if (command == nullptr) {
    ++late_answers_;
    return;
  }
  const uint32_t length = reader_.data_length();
  if (bounced_) {
    size_t skip = command->received_;
    base::Bytes left = bounce_;
    for (const iovec& part : command->data) {
      if (skip >= part.iov_len) {
        skip -= part.iov_len;
        continue;
      }
      const size_t bytes = std::min(left.size(), part.iov_len - skip);
      std::memcpy(static_cast<uint8_t*>(part.iov_base) + skip, left.data(), bytes);
      left = left.subspan(bytes);
      skip = 0;
      if (left.empty()) break;
    }
  }
  ++command->next_data_in_sn_;
  command->received_ += length;
  if (!with_status) return;
  if ((pdu.flags & iscsi::kFinal) == 0) {
    broken("a status in a Data-In without the F bit");
    return;
  }
  command->status = static_cast<scsi::Status>(pdu.status);
  if (!take_residual(*command, pdu.flags, pdu.residual_count)) return;
  finish(*command, Outcome::answered);
}

// RFC 7143 11.4.5: the bytes that moved and the residual make up what was expected. GOOD is
// believed only of data that has been received, or sent.
bool Session::take_residual(Command& command, uint8_t flags, uint32_t residual) {
  const bool underflow = (flags & iscsi::residual_flags::kUnderflow) != 0;
  const bool overflow = (flags & iscsi::residual_flags::kOverflow) != 0;
  if (underflow && (overflow || residual > command.data_bytes)) {
    return broken("a residual that cannot be");
  }
  command.moved = command.data_bytes - (underflow ? residual : 0);
  if (command.status != scsi::Status::good) {
    command.moved = std::min(command.moved, command.writes ? command.given_ : command.received_);
    return true;
  }
  if (command.writes ? command.given_ < command.moved : command.received_ != command.moved) {
    return broken("GOOD status, but the data and the residual do not add up");
  }
  return true;
}

void Session::on_scsi_response() {
  const auto pdu = reader_.as<iscsi::ScsiResponsePdu>();
  if (!take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  Command* command = find(pdu.itt);
  if (command == nullptr) {
    ++late_answers_;
    return;
  }
  if (pdu.response != static_cast<uint8_t>(iscsi::ScsiResponseCode::completed)) {
    // "Target failure" and vendor codes (RFC 7143 11.4.3): the target does not say what was done.
    return finish(*command, Outcome::unanswered);
  }
  command->status = static_cast<scsi::Status>(pdu.status);
  if (control_data_.size() > 2) {
    const size_t length = base::load<base::be16>(base::Bytes(control_data_).first(2));
    const base::Bytes rest = base::Bytes(control_data_).subspan(2);
    command->sense = scsi::decode_sense(rest.first(std::min(length, rest.size())));
  }
  if (!take_residual(*command, pdu.flags, pdu.residual_count)) return;
  finish(*command, Outcome::answered);
}

void Session::on_r2t() {
  const auto pdu = reader_.as<iscsi::R2tPdu>();
  if (!take_numbers(pdu.stat_sn, false, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  Command* command = find(pdu.itt);
  if (command == nullptr) {  // aborted: the target knows, or will
    ++late_answers_;
    return;
  }
  const uint32_t length = pdu.desired_data_transfer_length;
  const uint64_t end = uint64_t{pdu.buffer_offset} + length;
  if (!command->writes || length == 0 || end > command->data_bytes ||
      length > parameters_.max_burst_length || pdu.ttt == iscsi::kReservedTag ||
      pdu.r2t_sn != command->next_r2t_sn_) {
    broken("an R2T for what the command does not have");
    return;
  }
  ++command->next_r2t_sn_;
  const auto solicited = std::span(command->transfers_).first(parameters_.max_outstanding_r2t);
  const auto free = std::ranges::find(solicited, false, &Transfer::active);
  if (free == solicited.end()) {
    broken("more R2Ts outstanding than agreed");
    return;
  }
  free->active = true;
  free->ttt = pdu.ttt;
  free->offset = pdu.buffer_offset;
  free->end = static_cast<uint32_t>(end);
  free->data_sn = 0;
  send_queue_.push(*free);
  arm_flush();
}

// --- completion ---

// The answer is known. The callback comes when no send names the command's memory any more.
void Session::finish(Command& command, Outcome outcome) {
  command.outcome = outcome;
  ASSERT(command.state_ == Command::State::sent);
  if (incoming_ == &command) incoming_ = nullptr;
  send_queue_.drop_solicited(command);
  command.state_ = Command::State::ending;
  release_if_unused(command);
  complete_ending();
}

// Data that was announced is owed even if the answer came before it: without it the target would
// take what follows for it.
void Session::release_if_unused(Command& command) {
  if (command.state_ != Command::State::ending || command.frames_ > 0 || command.announced_) return;
  free_slot(command);
  ending_.push_back(command);
}

void Session::free_slot(const Command& command) {
  const uint32_t slot = command.tag_ & kSlotMask;
  ASSERT(slots_[slot] == &command);
  slots_[slot] = nullptr;
  free_slots_.push_back(static_cast<uint16_t>(slot));
  --outstanding_;
}

void Session::complete_ending() {
  while (!ending_.empty()) {
    Command& command = ending_.front();
    ending_.pop_front();
    command.state_ = Command::State::idle;
    command.done_(command);  // may submit it again
  }
}

// Callbacks may submit again: that is given back too.
void Session::fail_everything() {
  for (Command* command : send_queue_.sent_commands()) {
    if (command != nullptr) command->frames_ = 0;
  }
  send_queue_.clear();
  while (outstanding_ > 0 || !functions_.empty() || text_done_) {
    for (Command* command : slots_) {
      if (command == nullptr) continue;
      if (command->state_ != Command::State::ending) {
        command->outcome = command->sent_ ? Outcome::unanswered : Outcome::unsent;
        command->state_ = Command::State::ending;
      }
      for (Transfer& transfer : command->transfers_) transfer.active = false;
      command->announced_ = false;
      release_if_unused(*command);
    }
    complete_ending();
    while (!functions_.empty()) {
      TaskManagement& function = functions_.front();
      functions_.pop_front();
      function.busy_ = false;
      function.done_(function);
    }
    if (text_done_) {
      std::exchange(text_done_, nullptr)(base::fail(base::Errc::closed, "the session ended"));
    }
  }
}

// --- task management (RFC 7143 11.5, 11.6) ---

void Session::manage(TaskManagement& function) {
  ASSERT((up() || phase_ == Phase::closing) && !function.busy());
  if (function.function == iscsi::TaskFunction::abort_task) {
    ASSERT(function.task != nullptr && function.task->busy() && function.task->sent());
    function.lun = function.task->lun;
    function.task_tag_ = function.task->tag_;
    function.task_cmd_sn_ = function.task->cmd_sn_;
  }
  function.busy_ = true;
  function.sent_ = function.answered = false;
  function.response = iscsi::TaskResponse::function_rejected;
  functions_.push_back(function);
  if (up()) send_functions();
}

void Session::forget(TaskManagement& function) {
  ASSERT(function.busy());
  functions_.erase(FunctionList::s_iterator_to(function));
  function.busy_ = false;
}

void Session::send_functions() {
  if (functions_.empty() || !up()) return;
  auto room = static_cast<size_t>(std::ranges::count(control_, true, &ControlPdu::in_use));
  for (TaskManagement& function : functions_) {
    if (function.sent_) continue;
    if (room++ >= kMaxManagementPdus) return;
    iscsi::TaskManagementRequestPdu pdu;
    pdu.opcode |= iscsi::kImmediate;
    pdu.flags = static_cast<uint8_t>(iscsi::kFinal | static_cast<uint8_t>(function.function));
    pdu.lun = function.lun;
    pdu.itt = function.tag_ = next_control_tag();
    const bool one_task = function.function == iscsi::TaskFunction::abort_task;
    pdu.referenced_task_tag = one_task ? function.task_tag_ : iscsi::kReservedTag;
    pdu.ref_cmd_sn = one_task ? function.task_cmd_sn_ : 0;
    function.sent_ = true;
    function.cmd_sn_ = numbers_.cmd_sn;  // it is cut before any command that waits now
    ControlPdu* control = new_control();
    if (control == nullptr) return;
    control->header = base::load<iscsi::Bhs>(base::as_bytes(pdu));
    send_control(*control);
  }
}

Session::FunctionList::iterator Session::find_function(uint32_t tag) {
  return std::ranges::find_if(functions_, [tag](const TaskManagement& function) {
    return function.sent_ && !function.answered && function.tag_ == tag;
  });
}

void Session::on_task_management_response() {
  const auto pdu = reader_.as<iscsi::TaskManagementResponsePdu>();
  if (!take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn)) return;
  const auto at = find_function(pdu.itt);
  if (at == functions_.end()) {
    ++late_answers_;
    return;
  }
  at->answered = true;
  at->response = static_cast<iscsi::TaskResponse>(pdu.response);
  if (ends_commands(*at)) end_commands(*at);
  complete_functions();
}

// A task that does not exist is over as well: its response, had there been one, would have come
// before this one, and on one connection the target cannot have met the function before the
// command.
bool Session::ends_commands(const TaskManagement& function) {
  return function.response == iscsi::TaskResponse::function_complete ||
         (function.response == iscsi::TaskResponse::task_does_not_exist &&
          function.function == iscsi::TaskFunction::abort_task);
}

// Which commands a complete function has ended without a response of their own: those that were
// sent before it. Responses that the target gave come before (RFC 7143 4.2.3.3).
bool Session::concerns(const TaskManagement& function, const Command& command) const {
  using iscsi::TaskFunction;
  const bool before = command.sent_ && iscsi::serial_less(command.cmd_sn_, function.cmd_sn_);
  switch (function.function) {
    case TaskFunction::abort_task:
      return command.sent_ && command.tag_ == function.task_tag_;
    case TaskFunction::abort_task_set:
    case TaskFunction::clear_task_set:
    case TaskFunction::logical_unit_reset:
      return before && command.lun == function.lun;
    case TaskFunction::target_warm_reset:
    case TaskFunction::target_cold_reset:
      return before;
    default:
      return false;
  }
}

void Session::end_commands(const TaskManagement& function) {
  for (Command* command : slots_) {
    if (command == nullptr || command->state_ != Command::State::sent) continue;
    if (concerns(function, *command)) finish(*command, Outcome::ended);
  }
}

// Is some command that it has ended still named by a send?
bool Session::holds_commands(const TaskManagement& function) const {
  if (!ends_commands(function)) return false;
  return std::ranges::any_of(slots_, [&](const Command* command) {
    return command != nullptr && concerns(function, *command);
  });
}

void Session::complete_functions() {
  const auto is_over = [this](const TaskManagement& function) {
    return function.answered && !holds_commands(function);
  };
  for (;;) {  // from the beginning: a callback may forget others
    const auto at = std::ranges::find_if(functions_, is_over);
    if (at == functions_.end()) return;
    TaskManagement& function = *at;
    functions_.erase(at);
    function.busy_ = false;
    function.done_(function);
  }
}

}  // namespace holdfast::initiator
