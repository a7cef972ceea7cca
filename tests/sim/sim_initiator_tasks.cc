// The full feature phase of the simulated initiator: numbering, commands, data, task management.

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/iscsi/sequence.h"
#include "tests/sim/sim_initiator.h"

namespace holdfast::sim {

namespace {

// Single-level LUN structure, peripheral device addressing (SAM-5, LUN).
uint64_t lun_field(uint16_t lun) { return uint64_t{lun} << 48; }

// Key and codes of fixed or descriptor sense data as it lies in a SCSI Response.
scsi::Sense parse_sense(base::Bytes data) {
  scsi::Sense sense;
  if (data.size() < 2 + 8) return sense;
  const base::Bytes bytes = data.subspan(2);
  const uint8_t format = bytes[0] & 0x7f;
  if (format == 0x72 || format == 0x73) {
    sense.key = static_cast<scsi::SenseKey>(bytes[1] & 0x0f);
    sense.asc = bytes[2];
    sense.ascq = bytes[3];
  } else if (bytes.size() >= 14) {
    sense.key = static_cast<scsi::SenseKey>(bytes[2] & 0x0f);
    sense.asc = bytes[12];
    sense.ascq = bytes[13];
  }
  return sense;
}

}  // namespace

uint32_t SimInitiator::submit(ScsiRequest request) {
  ASSERT(phase_ == Phase::full_feature);
  const uint32_t tag = next_tag_++;
  Task& task = tasks_[tag];
  task.request = std::move(request);
  waiting_.push_back(tag);
  pump();
  return tag;
}

uint32_t SimInitiator::manage(iscsi::TaskFunction function, uint16_t lun, uint32_t referenced) {
  ASSERT(phase_ == Phase::full_feature);
  const uint32_t tag = next_tag_++;
  management_[tag] = function;
  iscsi::TaskManagementRequestPdu pdu;
  pdu.opcode |= iscsi::kImmediate;
  pdu.flags = static_cast<uint8_t>(iscsi::kFinal | static_cast<uint8_t>(function));
  pdu.lun = lun_field(lun);
  pdu.itt = tag;
  pdu.referenced_task_tag = iscsi::kReservedTag;
  pdu.cmd_sn = cmd_sn_;
  pdu.ref_cmd_sn = cmd_sn_;
  if (function == iscsi::TaskFunction::abort_task) {
    pdu.referenced_task_tag = referenced;
    const auto task = tasks_.find(referenced);
    if (task != tasks_.end() && task->second.sent) pdu.ref_cmd_sn = task->second.cmd_sn;
  }
  pdu.exp_stat_sn = exp_stat_sn_;
  send_pdu(pdu, {});
  return tag;
}

void SimInitiator::logout() {
  ASSERT(phase_ == Phase::full_feature);
  iscsi::LogoutRequestPdu pdu;
  pdu.opcode |= iscsi::kImmediate;
  logout_tag_ = next_tag_++;
  pdu.itt = logout_tag_;
  pdu.cmd_sn = cmd_sn_;
  pdu.exp_stat_sn = exp_stat_sn_;
  send_pdu(pdu, {});
}

bool SimInitiator::was_sent(uint32_t tag) const {
  const auto task = tasks_.find(tag);
  return task != tasks_.end() && task->second.sent;
}

void SimInitiator::forget(uint32_t tag) { tasks_.erase(tag); }

bool SimInitiator::was_received(uint32_t tag) const {
  const auto task = tasks_.find(tag);
  return task != tasks_.end() && task->second.sent &&
         iscsi::serial_less(task->second.cmd_sn, exp_cmd_sn_);
}

void SimInitiator::pump() {
  while (!waiting_.empty() && iscsi::serial_less_equal(cmd_sn_, max_cmd_sn_)) {
    const uint32_t tag = waiting_.front();
    waiting_.pop_front();
    send_command(tag, tasks_.at(tag));
  }
}

void SimInitiator::send_command(uint32_t tag, Task& task) {
  const iscsi::SessionParameters& agreed = negotiation_.parameters();
  const ScsiRequest& request = task.request;
  const auto length = static_cast<uint32_t>(request.data_out.size());
  const uint32_t burst = std::min(length, agreed.first_burst_length);
  uint32_t immediate = 0;
  if (agreed.immediate_data) immediate = std::min(burst, agreed.max_send_data_segment_length);
  // All that may come unsolicited, or only the immediate data (RFC 7143 13.14).
  const bool more = !agreed.initial_r2t && immediate < burst && random_.below(4) != 0;

  iscsi::ScsiCommandPdu pdu;
  pdu.flags = static_cast<uint8_t>(iscsi::TaskAttribute::simple);
  if (!more) pdu.flags |= iscsi::kFinal;
  if (length > 0) pdu.flags |= iscsi::scsi_command_flags::kWrite;
  if (request.read_length > 0) pdu.flags |= iscsi::scsi_command_flags::kRead;
  pdu.lun = lun_field(request.lun);
  pdu.itt = tag;
  pdu.expected_data_transfer_length = std::max(length, request.read_length);
  task.sent = true;
  task.cmd_sn = cmd_sn_++;
  pdu.cmd_sn = task.cmd_sn;
  pdu.exp_stat_sn = exp_stat_sn_;
  pdu.cdb = request.cdb;
  send_pdu(pdu, base::Bytes(request.data_out).first(immediate));
  if (more) send_data_out(tag, task, iscsi::kReservedTag, immediate, burst - immediate);
}

void SimInitiator::send_data_out(uint32_t tag, const Task& task, uint32_t ttt, uint32_t offset,
                                 uint32_t length) {
  const uint32_t segment = negotiation_.parameters().max_send_data_segment_length;
  uint32_t data_sn = 0;
  for (uint32_t done = 0; done < length;) {
    const uint32_t part = std::min(segment, length - done);
    iscsi::DataOutPdu pdu;
    pdu.lun = lun_field(task.request.lun);
    pdu.itt = tag;
    pdu.ttt = ttt;
    pdu.exp_stat_sn = exp_stat_sn_;
    pdu.data_sn = data_sn++;
    pdu.buffer_offset = offset + done;
    if (done + part == length) pdu.flags = iscsi::kFinal;
    send_pdu(pdu, base::Bytes(task.request.data_out).subspan(offset + done, part));
    done += part;
  }
}

void SimInitiator::take_numbers(uint32_t stat_sn, bool consumes, uint32_t exp_cmd_sn,
                                uint32_t max_cmd_sn) {
  if (stat_sn != exp_stat_sn_) {
    breach(fmt::format("StatSN {} instead of {}, opcode {:x}", stat_sn, exp_stat_sn_,
                       reader_.bhs().opcode));
    return;
  }
  if (consumes) ++exp_stat_sn_;
  if (iscsi::serial_less(cmd_sn_, exp_cmd_sn)) {
    breach("ExpCmdSN beyond what was sent");
    return;
  }
  if (iscsi::serial_less(exp_cmd_sn, exp_cmd_sn_)) {
    breach("ExpCmdSN goes back");
    return;
  }
  exp_cmd_sn_ = exp_cmd_sn;
  if (iscsi::serial_less(max_cmd_sn_, max_cmd_sn)) max_cmd_sn_ = max_cmd_sn;
}

void SimInitiator::on_full_feature_pdu() {
  switch (reader_.bhs().code()) {
    case iscsi::Opcode::r2t:
      on_r2t();
      break;
    case iscsi::Opcode::data_in:
      on_data_in();
      break;
    case iscsi::Opcode::scsi_response:
      on_scsi_response();
      break;
    case iscsi::Opcode::nop_in:
      on_nop_in();
      break;
    case iscsi::Opcode::task_management_response: {
      const auto pdu = reader_.as<iscsi::TaskManagementResponsePdu>();
      take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn);
      if (management_.erase(pdu.itt) == 0) {
        breach("answer to a task management function nobody asked for");
        break;
      }
      events_.on_task_management_done(pdu.itt, true,
                                      static_cast<iscsi::TaskResponse>(pdu.response));
      break;
    }
    case iscsi::Opcode::logout_response: {
      const auto pdu = reader_.as<iscsi::LogoutResponsePdu>();
      if (pdu.itt != logout_tag_ || logout_tag_ == 0) breach("unasked logout response");
      if (!breached_) events_.on_logged_out();
      drop(false);
      break;
    }
    case iscsi::Opcode::async_message: {
      const auto pdu = reader_.as<iscsi::AsyncMessagePdu>();
      take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn);
      drop(false);
      break;
    }
    case iscsi::Opcode::reject:
      breach(fmt::format("rejected, reason {:x}", reader_.as<iscsi::RejectPdu>().reason));
      break;
    default:
      breach(fmt::format("unexpected opcode {:x}", reader_.bhs().opcode));
  }
  if (phase_ == Phase::full_feature) pump();
}

SimInitiator::Task* SimInitiator::find_task(uint32_t tag, const char* what) {
  const auto task = tasks_.find(tag);
  if (task != tasks_.end() && task->second.sent) return &task->second;
  breach(fmt::format("{} for no command (tag {})", what, tag));
  return nullptr;
}

void SimInitiator::on_r2t() {
  const auto pdu = reader_.as<iscsi::R2tPdu>();
  take_numbers(pdu.stat_sn, false, pdu.exp_cmd_sn, pdu.max_cmd_sn);
  if (breached_) return;
  Task* task = find_task(pdu.itt, "R2T");
  if (task == nullptr) return;
  const uint64_t end = uint64_t{pdu.buffer_offset} + pdu.desired_data_transfer_length;
  if (pdu.desired_data_transfer_length == 0 || end > task->request.data_out.size() ||
      pdu.desired_data_transfer_length > negotiation_.parameters().max_burst_length) {
    breach("R2T out of range");
    return;
  }
  if (pdu.r2t_sn != task->next_r2t_sn++) {
    breach("R2TSN out of order");
    return;
  }
  if (++task->open_r2ts > negotiation_.parameters().max_outstanding_r2t) {
    breach("more R2Ts outstanding than MaxOutstandingR2T");
    return;
  }
  waiting_r2ts_.push_back(pdu);
  if (random_.below(2) == 0) answer_r2ts();
}

void SimInitiator::answer_r2ts() {
  const auto due = std::exchange(waiting_r2ts_, {});
  for (const iscsi::R2tPdu& pdu : due) {
    const auto task = tasks_.find(pdu.itt);
    if (phase_ != Phase::full_feature || task == tasks_.end()) continue;  // aborted meanwhile
    --task->second.open_r2ts;
    send_data_out(pdu.itt, task->second, pdu.ttt, pdu.buffer_offset,
                  pdu.desired_data_transfer_length);
  }
}

void SimInitiator::on_data_in() {
  const auto pdu = reader_.as<iscsi::DataInPdu>();
  const bool with_status = (pdu.flags & iscsi::data_in_flags::kStatus) != 0;
  if (with_status) {
    take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn);
  } else {
    take_numbers(exp_stat_sn_, false, pdu.exp_cmd_sn, pdu.max_cmd_sn);
  }
  if (breached_) return;
  Task* task = find_task(pdu.itt, "Data-In");
  if (task == nullptr) return;
  if (pdu.data_sn != task->next_data_sn++ || pdu.buffer_offset != task->result.data_in.size() ||
      task->result.data_in.size() + data_.size() > task->request.read_length) {
    breach("Data-In out of order or out of range");
    return;
  }
  task->result.data_in.insert(task->result.data_in.end(), data_.begin(), data_.end());
  task->burst_bytes += static_cast<uint32_t>(data_.size());
  if (task->burst_bytes > negotiation_.parameters().max_burst_length) {
    breach("a Data-In sequence is longer than MaxBurstLength");
    return;
  }
  if ((pdu.flags & iscsi::kFinal) != 0) task->burst_bytes = 0;
  if (!with_status) return;
  if ((pdu.flags & iscsi::kFinal) == 0) breach("status in a Data-In without F");
  task->result.status = static_cast<scsi::Status>(pdu.status);
  const bool underflow = (pdu.flags & iscsi::residual_flags::kUnderflow) != 0;
  const uint64_t residual = underflow ? pdu.residual_count.get() : 0;
  if (task->result.data_in.size() + residual != task->request.read_length) {
    breach("Data-In with status: bytes and residual do not add up");
    return;
  }
  finish(pdu.itt);
}

void SimInitiator::on_scsi_response() {
  const auto pdu = reader_.as<iscsi::ScsiResponsePdu>();
  take_numbers(pdu.stat_sn, true, pdu.exp_cmd_sn, pdu.max_cmd_sn);
  if (breached_) return;
  Task* task = find_task(pdu.itt, "SCSI response");
  if (task == nullptr) return;
  if (pdu.response != 0) {
    breach("iSCSI response code is not 0");
    return;
  }
  task->result.status = static_cast<scsi::Status>(pdu.status);
  task->result.sense = parse_sense(data_);
  if (task->result.status == scsi::Status::good) {
    const bool underflow = (pdu.flags & iscsi::residual_flags::kUnderflow) != 0;
    const uint64_t residual = underflow ? pdu.residual_count.get() : 0;
    if (task->result.data_in.size() + residual != task->request.read_length &&
        task->request.read_length > 0) {
      breach("GOOD: bytes and residual do not add up");
      return;
    }
  }
  if (task->result.status == scsi::Status::check_condition &&
      task->result.sense.key == scsi::SenseKey::no_sense) {
    breach("CHECK CONDITION without sense");
    return;
  }
  finish(pdu.itt);
}

void SimInitiator::finish(uint32_t tag) {
  auto node = tasks_.extract(tag);
  node.mapped().result.answered = true;
  events_.on_command_done(tag, node.mapped().result);
}

void SimInitiator::on_nop_in() {
  const auto pdu = reader_.as<iscsi::NopInPdu>();
  take_numbers(pdu.stat_sn, pdu.itt != iscsi::kReservedTag, pdu.exp_cmd_sn, pdu.max_cmd_sn);
  if (breached_ || pdu.ttt == iscsi::kReservedTag) return;
  iscsi::NopOutPdu answer;
  answer.opcode |= iscsi::kImmediate;
  answer.lun = pdu.lun;
  answer.itt = iscsi::kReservedTag;
  answer.ttt = pdu.ttt;
  answer.cmd_sn = cmd_sn_;
  answer.exp_stat_sn = exp_stat_sn_;
  send_pdu(answer, {});
}

}  // namespace holdfast::sim
