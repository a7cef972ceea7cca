#include "target/session.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/iscsi/additional_headers.h"
#include "common/iscsi/sequence.h"
#include "common/scsi/report_luns.h"
#include "target/connection.h"
#include "target/shard.h"

namespace holdfast::target {
namespace {

using iscsi::ScsiCommandPdu;
namespace command_flags = iscsi::scsi_command_flags;

size_t bucket_of(uint32_t itt, size_t buckets) {
  return (itt ^ (itt >> 8) ^ (itt >> 16)) % buckets;
}

}  // namespace

Session::Session(Connection& connection, const iscsi::LoginServer& login,
                 const AdmitReply& admitted)
    : connection_(connection),
      id_(connection.id()),
      nexus_{.initiator_name = login.initiator_name(),
             .isid = login.isid(),
             .target_name = login.target_name(),
             .portal_group_tag = connection.portal_group_tag()},
      discovery_(login.session_type() == iscsi::SessionType::discovery),
      tsih_(admitted.tsih),
      cid_(login.cid()),
      user_(login.authenticated_user()),
      directory_([&shard = connection.shard()] { return shard.map(); }, login.initiator_name(),
                 connection.peer()),
      text_(login.negotiation(), login.target_name(), directory_),
      port_{.target_name = login.target_name(),
            .portal_group_tag = connection.portal_group_tag(),
            .target_port_group = connection.portal_group_tag(),
            .relative_target_port_id = connection.portal_group_tag()},
      admitted_(admitted),
      last_heard_(connection.shard().loop().now()) {
  if (!discovery_) update_units();
}

Session::~Session() {
  ASSERT(tasks_.empty());
  for (auto& nexus_unit : units_) nexus_unit->unit->remove(*nexus_unit);
  for (auto& nexus_unit : retired_units_) nexus_unit->unit->remove(*nexus_unit);
  if (logout_answer_ != nullptr) connection_.give_back(*logout_answer_);  // nobody left to take it
}

Shard& Session::shard() { return connection_.shard(); }

bool Session::unexpected(const char* why) {
  why_ = why;
  return false;
}

// --- logical units ---

void Session::update_units() {
  const std::shared_ptr<const NodeMap> map = shard().map();
  const TargetView* view = discovery_ ? nullptr : map->find_target(nexus_.target_name);
  std::vector<std::unique_ptr<NexusUnit>> kept;
  for (auto& nexus_unit : units_) {
    bool still = false;
    if (view != nullptr) {
      const auto found = view->luns.find(nexus_unit->lun);
      still = found != view->luns.end() && found->second == nexus_unit->unit->id();
    }
    if (still) {
      kept.push_back(std::move(nexus_unit));
    } else {
      // New commands must not reach it, even while older ones run: the LUN may name another disk
      // from now on.
      forget_in_parked(*nexus_unit);
      retired_units_.push_back(std::move(nexus_unit));
    }
  }
  units_ = std::move(kept);
  purge_retired_units();
  if (view == nullptr) return;
  for (const auto& [lun, unit_id] : view->luns) {
    const auto at = std::ranges::lower_bound(units_, lun, {}, [](const auto& u) { return u->lun; });
    if (at != units_.end() && (*at)->lun == lun) continue;
    LogicalUnit* unit = shard().find_unit(unit_id);
    if (unit == nullptr) continue;  // it follows with add_unit()
    auto nexus_unit = std::make_unique<NexusUnit>();
    nexus_unit->session = this;
    nexus_unit->lun = lun;
    unit->add(*nexus_unit);
    nexus_unit->attentions.raise(admitted_.reinstated ? scsi::kNexusLoss : scsi::kPowerOn);
    units_.insert(at, std::move(nexus_unit));
  }
}

// Its commands have ended; the map no longer names it.
void Session::unit_removed(UnitId unit) {
  std::erase_if(units_, [this, unit](auto& nexus_unit) {
    if (nexus_unit->unit->id() != unit) return false;
    forget_in_parked(*nexus_unit);
    retired_units_.push_back(std::move(nexus_unit));
    return true;
  });
  purge_retired_units();
  ASSERT(std::ranges::none_of(retired_units_,
                              [unit](const auto& left) { return left->unit->id() == unit; }));
}

// Commands whose turn has not come are not counted as the unit's: they find that it is gone.
void Session::forget_in_parked(const NexusUnit& nexus_unit) {
  for (Task& task : tasks_) {
    if (task.state != Task::State::parked || task.nexus_unit != &nexus_unit) continue;
    task.forget_unit();
  }
}

// Those whose last command has ended. Not from within a command's end, which still looks at it.
void Session::purge_retired_units() {
  std::erase_if(retired_units_, [](const auto& nexus_unit) {
    if (nexus_unit->commands > 0) return false;
    nexus_unit->unit->remove(*nexus_unit);
    return true;
  });
}

NexusUnit* Session::find_unit(uint64_t lun_field) {
  const base::be64 field = lun_field;
  const std::optional<uint16_t> lun = scsi::decode_lun(base::as_bytes(field));
  if (!lun.has_value()) return nullptr;
  const auto at = std::ranges::lower_bound(units_, *lun, {}, [](const auto& u) { return u->lun; });
  return at != units_.end() && (*at)->lun == *lun ? at->get() : nullptr;
}

// --- tasks by initiator task tag ---

Task* Session::find_task(uint32_t itt) {
  for (Task* task = by_itt_[bucket_of(itt, kBuckets)]; task != nullptr;
       task = task->next_same_bucket) {
    if (task->itt == itt) return task;
  }
  return nullptr;
}

void Session::insert(Task& task) {
  tasks_.push_back(task);
  Task*& head = by_itt_[bucket_of(task.itt, kBuckets)];
  task.next_same_bucket = head;
  head = &task;
}

void Session::erase(Task& task) {
  tasks_.erase(TaskList::s_iterator_to(task));
  Task** at = &by_itt_[bucket_of(task.itt, kBuckets)];
  while (*at != &task) at = &(*at)->next_same_bucket;
  *at = task.next_same_bucket;
}

void Session::task_activated(Task& task) {
  ++active_commands_;
  if (task.immediate) ++immediate_commands_;
  if (task.nexus_unit != nullptr) ++task.nexus_unit->commands;
}

void Session::task_ended(Task& task) {
  --active_commands_;
  ++unsent_tasks_;
  if (task.immediate) --immediate_commands_;
  if (task.nexus_unit != nullptr) --task.nexus_unit->commands;
  update_max_cmd_sn();
}

void Session::task_released(Task& task) {
  if (incoming_task_ == &task) {
    incoming_task_ = nullptr;
    incoming_chunk_ = nullptr;
    incoming_r2t_ = nullptr;
  }
  erase(task);
  --unsent_tasks_;
  shard().release(task);
  if (logging_out_) finish_logout();
  if (connection_.closing()) {
    connection_.check_gone();
  } else {
    connection_.answer_taken();
  }
}

bool Session::has_active_tasks() const {
  return std::ranges::any_of(tasks_, [](const Task& task) { return task.is_active(); });
}

void Session::abort_all() {
  // Ending one can end and free others (its place goes to the next), so no iterator lives through
  // it: each is looked up again.
  std::vector<std::pair<uint32_t, uint64_t>> all;
  for (const Task& task : tasks_) all.emplace_back(task.slot, task.serial);
  for (const auto& [slot, serial] : all) {
    if (Task* task = shard().find_task(slot, serial)) task->abort(false);
  }
}

void Session::queue(SendItem& item) { connection_.queue(item); }

// --- command numbering (RFC 7143 4.2.2.1) ---

// False: the PDU is outside of the window or was seen before, and must be ignored.
bool Session::take_number(uint32_t cmd_sn, bool immediate, bool* in_order) {
  SequenceNumbers& numbers = connection_.numbers();
  *in_order = true;
  if (immediate) return true;
  if (std::ranges::find(skipped_numbers_, cmd_sn) != skipped_numbers_.end()) return false;
  if (!iscsi::in_window(cmd_sn, numbers.exp_cmd_sn, numbers.max_cmd_sn)) return false;
  *in_order = cmd_sn == numbers.exp_cmd_sn;
  return *in_order || std::ranges::none_of(parked_, [cmd_sn](const Task& parked) {
    return parked.cmd_sn == cmd_sn;
  });
}

void Session::advance_window() {
  ++connection_.numbers().exp_cmd_sn;
  update_max_cmd_sn();
}

// It never goes back: the initiator may have used what it was given.
void Session::update_max_cmd_sn() {
  SequenceNumbers& numbers = connection_.numbers();
  const uint32_t numbered = active_commands_ - immediate_commands_;
  const uint32_t open = kCommandWindow - std::min(numbered, kCommandWindow);
  const uint32_t limit = numbers.exp_cmd_sn + open - 1;
  if (iscsi::serial_less(numbers.max_cmd_sn, limit)) numbers.max_cmd_sn = limit;
}

void Session::park(Task& task) {
  task.state = Task::State::parked;
  auto at = parked_.begin();
  while (at != parked_.end() && iscsi::serial_less(at->cmd_sn, task.cmd_sn)) ++at;
  parked_.insert(at, task);
}

void Session::chunk_released(Chunk& chunk) {
  if (incoming_chunk_ != &chunk) return;
  orphaned_buffer_ = std::move(chunk.data);
  incoming_chunk_ = nullptr;
}

void Session::forget_parked(Task& task) {
  parked_.erase(ParkedList::s_iterator_to(task));
  if (!task.immediate) skipped_numbers_.push_back(task.cmd_sn);
}

void Session::run_parked() {
  while (true) {
    const uint32_t next = connection_.numbers().exp_cmd_sn;
    if (std::erase(skipped_numbers_, next) > 0) {
      advance_window();
    } else if (!parked_.empty() && parked_.front().cmd_sn == next) {
      Task& task = parked_.front();
      parked_.pop_front();
      advance_window();
      task.start();
    } else {
      break;
    }
  }
  run_waiting_functions();
}

// --- intake ---

Session::Intake Session::on_header(const iscsi::PduReader& reader) {
  last_heard_ = shard().loop().now();
  // Every PDU can cost an answer (a reject), and the slots for answers are all connections'.
  if (connection_.answers_pile_up()) return Intake::pause_for_answers;
  switch (reader.bhs().code()) {
    case iscsi::Opcode::scsi_command:
      // Commands that have ended leave the window but keep their slot until they are sent: an
      // initiator that takes no answers must not use up the shard's.
      if (unsent_tasks_ >= kCommandWindow) return Intake::pause_for_answers;
      return on_command_header(reader);
    case iscsi::Opcode::data_out:
      return on_data_out_header(reader);
    default:
      if (!reader.ahs().empty()) {  // RFC 7143 11.2.2: SCSI commands only
        why_ = "additional header segments of another PDU than a command";
        return Intake::violation;
      }
      return on_control_header(reader);
  }
}

bool Session::on_pdu(const iscsi::PduReader& reader) {
  switch (reader.bhs().code()) {
    case iscsi::Opcode::scsi_command:
      return on_command(reader);
    case iscsi::Opcode::data_out:
      return on_data_out(reader);
    default:
      return on_control(reader);
  }
}

Session::Intake Session::on_command_header(const iscsi::PduReader& reader) {
  const auto pdu = reader.as<ScsiCommandPdu>();
  const uint32_t length = reader.data_length();
  incoming_task_ = nullptr;
  incoming_chunk_ = nullptr;
  verdict_ = Verdict::none;
  if (discovery_) {
    why_ = "a SCSI command in a discovery session";
    return Intake::violation;
  }
  const bool immediate = reader.bhs().immediate();
  bool in_order = false;
  if (!take_number(pdu.cmd_sn, immediate, &in_order) || connection_.closing() || logging_out_) {
    verdict_ = Verdict::ignore;
    return Intake::discard;
  }
  // The initiator may use a tag again as soon as it has the response, which can be before we hear
  // that the send which carried it is over.
  if (const Task* known = find_task(pdu.itt);
      known != nullptr && known->state != Task::State::ended) {
    why_ = "an initiator task tag is used twice";
    return Intake::violation;
  }
  if (immediate && immediate_commands_ >= kMaxImmediateCommands) {
    verdict_ = Verdict::too_many_immediate;
    return Intake::discard;
  }
  Task* task = shard().acquire_task();
  if (task == nullptr) {
    verdict_ = in_order ? Verdict::task_set_full : Verdict::ignore;
    return Intake::discard;
  }
  verdict_ = Verdict::run;
  if (!describe(*task, reader)) {
    shard().release(*task);
    return Intake::violation;
  }
  task->prepare();
  const Intake intake = length == 0 ? Intake::discard : command_data(*task, length);
  if (intake == Intake::pause) {
    shard().release(*task);
    return intake;
  }
  insert(*task);
  incoming_task_ = task;
  return intake;
}

// What the PDU says. There is no command here whose CDB is longer than 16 bytes, and none that
// moves data both ways: the first has a field too many, the second is none of ours.
bool Session::describe(Task& task, const iscsi::PduReader& reader) {
  const auto pdu = reader.as<ScsiCommandPdu>();
  const std::optional<iscsi::AdditionalHeaders> more =
      iscsi::parse_additional_headers(reader.ahs());
  if (!more.has_value()) return unexpected("additional header segments without a meaning");
  task.session = this;
  task.lun_field = pdu.lun;
  task.itt = pdu.itt;
  task.cmd_sn = pdu.cmd_sn;
  task.expected_length = pdu.expected_data_transfer_length;
  task.flags = pdu.flags;
  task.immediate = reader.bhs().immediate();
  task.cdb = pdu.cdb;
  task.started = task.last_progress = shard().loop().now();
  task.nexus_unit = find_unit(task.lun_field);
  task.decoded = scsi::decode(base::Bytes(task.cdb));
  constexpr uint8_t kBothWays = command_flags::kRead | command_flags::kWrite;
  // In a command that goes one way the length of the other has no meaning (RFC 7143 11.2.2.4).
  if ((pdu.flags & kBothWays) == kBothWays) {
    task.bidirectional_read_length = more->bidirectional_read_length;
  }
  if (task.decoded.has_value() && (more->extended_cdb || task.bidirectional_read_length > 0)) {
    task.decoded = std::unexpected(scsi::kInvalidFieldInCdb);
  }
  return true;
}

// Immediate data (RFC 7143 11.3.6): into the first chunk, from where it will be written.
Session::Intake Session::command_data(Task& task, uint32_t length) {
  const bool allowed = parameters().immediate_data && (task.flags & command_flags::kWrite) != 0 &&
                       length <= task.expected_length && length <= parameters().first_burst_length;
  if (!allowed) {
    task.early = scsi::Status::check_condition;
    task.sense = scsi::kUnexpectedUnsolicitedData;
    return Intake::discard;
  }
  Chunk* chunk = nullptr;
  switch (task.first_chunk(length, &chunk)) {
    case Task::FirstChunk::none:
      return Intake::discard;  // the command moves no data out
    case Task::FirstChunk::no_buffer:
      if (may_pause_for(task)) return Intake::pause;
      task.early = scsi::Status::busy;
      return Intake::discard;
    case Task::FirstChunk::made:
      break;
  }
  incoming_chunk_ = chunk;
  target_ = chunk->data.first(length);
  return Intake::take;
}

// Stopping to read is right when other connections' buffers will come free. Not when commands of
// this session wait for data that lies behind this very PDU, nor when it is the unit's or the
// session's own share that is used up: a stalled unit must not stop the session's other units.
bool Session::may_pause_for(const Task& task) const {
  return open_r2ts == 0 && task.within_shares(kMinSlabBytes);
}

bool Session::on_command(const iscsi::PduReader& reader) {
  const auto pdu = reader.as<ScsiCommandPdu>();
  switch (verdict_) {
    case Verdict::none:
    case Verdict::ignore:
      return true;
    case Verdict::too_many_immediate:
      reject(reader.bhs(), iscsi::RejectReason::too_many_immediate_commands);
      return true;
    case Verdict::task_set_full:
      if (!reader.bhs().immediate()) advance_window();
      refuse(pdu, scsi::Status::task_set_full);
      return true;
    case Verdict::run:
      break;
  }
  Task& task = *incoming_task_;
  const bool final = reader.bhs().final();
  if (!final && (parameters().initial_r2t || (task.flags & command_flags::kWrite) == 0)) {
    return unexpected("unsolicited data announced although InitialR2T=Yes");
  }
  task.unsolicited_open = !final;
  if (!reader.data_digest_ok()) {
    reject(reader.bhs(), iscsi::RejectReason::data_digest_error);
    if (connection_.closing()) return true;  // no slot for the answer: the task is gone
    task.early = scsi::Status::check_condition;
    task.sense = scsi::kDataDigest;
  } else {
    task.unsolicited_received = reader.data_length();
    if (incoming_chunk_ != nullptr) {
      incoming_chunk_->received = std::min(reader.data_length(), incoming_chunk_->length);
    }
  }
  task.solicited = std::min(task.unsolicited_received, task.transfer);
  incoming_chunk_ = nullptr;
  if (!task.immediate) {
    if (task.cmd_sn != connection_.numbers().exp_cmd_sn) {
      park(task);
      return true;
    }
    advance_window();
  }
  task.start();
  run_parked();
  return true;
}

// A status without a task: there was no slot for one.
void Session::refuse(const ScsiCommandPdu& pdu, scsi::Status status) {
  ControlPdu* answer = connection_.new_control_pdu();
  if (answer == nullptr) return connection_.close("no slot to refuse a command with");
  iscsi::ScsiResponsePdu response;
  response.itt = pdu.itt;
  response.status = static_cast<uint8_t>(status);
  answer->item.header = base::load<iscsi::Bhs>(base::as_bytes(response));
  connection_.queue_control(*answer);
}

}  // namespace holdfast::target
