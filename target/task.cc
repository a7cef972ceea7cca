#include "target/task.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "common/base/log.h"
#include "common/scsi/alua.h"
#include "target/connection.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {
namespace {

using scsi::Operation;

// These need all of their data before anything is done.
bool gathers(const scsi::Command& command) {
  switch (command.row->operation) {
    case Operation::compare_and_write:
    case Operation::write_same:
    case Operation::unmap:
    case Operation::persistent_reserve_out:
    case Operation::mode_select:
      return true;
    case Operation::verify:
      return command.bytchk == 3;
    default:
      return false;
  }
}

void record(LatencyHistogram& histogram, io::Duration took) {
  const auto us =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
  const auto bucket =
      std::min<size_t>(static_cast<size_t>(std::bit_width(us)), LatencyHistogram::kBuckets - 1);
  ++histogram.buckets[bucket];
  histogram.sum_us += us;
  ++histogram.count;
}

}  // namespace

void Chunk::on_disk_done(int32_t result) noexcept { task->on_disk_done(*this, result); }
void Chunk::on_sent() noexcept { task->on_chunk_sent(*this); }

Task::Task() : response(this, on_response_sent) {
  for (R2t& r2t : r2ts) r2t.task = this;
}

void Task::reset() {
  ASSERT(chunks.empty() && !response_queued && !waits_for_buffer);
  session = nullptr;
  nexus_unit = nullptr;
  length = transfer = next_offset = solicited = unsolicited_received = 0;
  next_unsolicited_data_sn = r2t_sn = media_length = done_bytes = data_sent = 0;
  gather_bytes = range_count = extent_queries = 0;
  unsolicited_open = gathering = gathered = started_media = pattern_writes = flushing = false;
  status_in_data = false;
  resume_with_buffer = nullptr;
  live_chunks = on_disk = outstanding_r2ts = 0;
  with_node = false;
  data_in = {};
  cursor = 0;
  aborted = report_aborted = awaits_data = decided = exclusive_wanted = false;
  bidirectional_read_length = 0;
  early.reset();
  exclusive = 0;
  status = scsi::Status::good;
  sense = {};
  residual_flags = 0;
  residual = 0;
}

LogicalUnit& Task::unit() const { return *nexus_unit->unit; }
Shard& Task::shard() const { return session->shard(); }
uint64_t Task::start_offset() const { return command().lba * unit().block_size(); }

void Task::prepare() {
  if (!decoded.has_value() || nexus_unit == nullptr) return;
  const uint64_t wanted = scsi::data_length(command(), unit().block_size());
  const scsi::DataDirection direction = scsi::data_direction(command());
  if (direction != scsi::DataDirection::out || wanted > scsi::kMaxTransferBytes) return;
  length = static_cast<uint32_t>(wanted);
  const bool writes = (flags & iscsi::scsi_command_flags::kWrite) != 0;
  transfer = std::min(length, writes ? expected_length : 0);
  gathering = gathers(command());
  if (gathering && transfer > kMaxSlabBytes) transfer = 0;
  if (!gathering) transfer = transfer / unit().block_size() * unit().block_size();
}

// --- start ---

void Task::start() {
  state = State::active;
  session->task_activated(*this);
  if (nexus_unit != nullptr) unit().enter(*this);
  if (early.has_value()) return complete(*early);
  if (nexus_unit == nullptr) return run_without_unit();
  if (unit().removing()) return fail(scsi::kLunNotSupported);
  if (nexus_unit->commands > kMaxCommandsPerNexusUnit) {
    return complete(scsi::Status::task_set_full);
  }
  if (const std::optional<scsi::Sense> refusal = check_unit()) return fail(*refusal);
  if (conflicts_with_reservation()) return complete(scsi::Status::reservation_conflict);
  if (const std::optional<scsi::Sense> refusal = check_medium()) return fail(*refusal);
  dispatch();
}

// Attention first (SAM-5), then what is wrong with the CDB, then whether the unit can serve it
// through this port and now.
std::optional<scsi::Sense> Task::check_unit() const {
  const scsi::CommandRow* row = decoded.has_value() ? decoded->row : nullptr;
  const bool keeps_attention = row != nullptr && row->has(scsi::kKeepsUnitAttention);
  if (unit().state().medium != nullptr) nexus_unit->note_loads(*unit().state().medium);
  if (!keeps_attention) {
    if (const std::optional<scsi::Sense> attention = nexus_unit->attentions.take()) {
      return attention;
    }
  }
  if (row == nullptr) return decoded.error();
  const PortalGroupView* group =
      shard().map()->find_portal_group(session->nexus().portal_group_tag);
  if (group != nullptr && group->alua != scsi::AluaState::active_optimized) {
    if (const auto refusal = scsi::check_alua(group->alua, *row)) return refusal;
  }
  if (row->has(scsi::kAllowedWithoutMedium)) return std::nullopt;
  return not_ready();
}

std::optional<scsi::Sense> Task::not_ready() const {
  if (!unit().ready()) return scsi::kNotReadyBecoming;
  const MediumState* medium = unit().state().medium.get();
  if (medium != nullptr && medium->ejected.load(std::memory_order_acquire)) {
    return scsi::kMediumNotPresent;
  }
  return std::nullopt;
}

// After the reservation check. Write protection is told before a range or a limit that is exceeded.
std::optional<scsi::Sense> Task::check_medium() const {
  const UnitState& known = unit().state();
  if (command().row->has(scsi::kWritesMedium) &&
      (known.description.read_only || known.mode.software_write_protect)) {
    return scsi::kWriteProtected;
  }
  return scsi::check_limits(command(), known.description);
}

bool Task::conflicts_with_reservation() const {
  return conflicts(nexus_unit->rights, scsi::reservation_access(command()));
}

void Task::dispatch() {
  switch (operation()) {
    case Operation::read:
    case Operation::write:
    case Operation::write_and_verify:
    case Operation::orwrite:
      break;
    case Operation::verify:
      if (command().bytchk == 3) return begin_gather(unit().block_size());
      break;  // BYTCHK=0 moves no data
    case Operation::compare_and_write:
      return begin_gather(2 * command().blocks * unit().block_size());
    case Operation::write_same:
      if (command().ndob) break;
      return begin_gather(unit().block_size());
    case Operation::unmap:
    case Operation::persistent_reserve_out:
    case Operation::mode_select:
      return begin_gather(command().parameter_list_length);
    case Operation::synchronize_cache:
      break;
    case Operation::get_lba_status:
      break;
    case Operation::pre_fetch:
    case Operation::test_unit_ready:
      return complete(scsi::Status::good);
    case Operation::start_stop_unit:
      return run_start_stop();
    case Operation::prevent_allow_medium_removal:
      return run_prevent_allow();
    default:
      return run_parameter_data();
  }
  run_on_device();
}

void Task::run_on_device() {
  started_media = true;
  switch (operation()) {
    case Operation::synchronize_cache:
      return run_flush();
    case Operation::get_lba_status:
      return run_lba_status();
    case Operation::write_same:
      return run_write_same();
    case Operation::compare_and_write:
      return run_compare_and_write();
    case Operation::unmap:
      return run_unmap();
    case Operation::verify:
      if (command().bytchk != 1) return run_verify();
      return start_transfer();
    default:
      return start_transfer();
  }
}

// --- end ---

void Task::fail(const scsi::Sense& with) {
  if (decided) return;
  sense = with;
  complete(scsi::Status::check_condition);
}

void Task::fail_from_errno(int32_t error, bool reading, uint64_t offset) {
  LunCounters& counters = unit().counters;
  const uint64_t lba = offset / unit().block_size();
  LOG_LIMITED(error, "disk", "{}: {} at LBA {} failed: errno={}", unit().state().description.name,
              reading ? "read" : "write", lba, -error);
  if (error == -ENOSPC || error == -EDQUOT) return fail(scsi::kSpaceAllocationFailed);
  ++counters.medium_errors;
  fail((reading ? scsi::kReadError : scsi::kWriteError).with_information(lba));
}

void Task::complete(scsi::Status with) {
  if (decided) return;
  decided = true;
  status = with;
  maybe_end();
}

void Task::abort(bool report, bool awaits) {
  if (state == State::ended || state == State::free) return;
  awaits_data = awaits;
  if (aborted) return maybe_end();
  aborted = true;
  last_progress = shard().loop().now();
  report_aborted = report && !session->connection().closing();
  if (state == State::parked) {  // its turn never came: its number counts as used (RFC 7143 11.6.1)
    if (parked_hook.is_linked()) session->forget_parked(*this);
    state = State::active;
    session->task_activated(*this);
    if (nexus_unit != nullptr) unit().enter(*this);
  }
  unsolicited_open = false;
  for (Chunk& chunk : chunks) {
    if (chunk.on_disk) unit().device()->cancel(chunk.op);
  }
  maybe_end();
}

void Task::close_r2t(R2t& r2t) {
  ASSERT(r2t.active);
  r2t.active = false;
  --outstanding_r2ts;
  --session->open_r2ts;
}

// Ends the task as soon as its outcome is decided (or it is aborted) and nothing of it is with the
// backing.
void Task::maybe_end() {
  if (state != State::active || !(decided || aborted)) return;
  if (waits_for_buffer) shard().stop_waiting(*this);
  if (on_disk > 0) return;
  // What the node has begun takes effect whether or not anybody waits: an aborted command has not
  // ended before. A node that shuts down answers nothing any more.
  if (with_node && !shard().shutting_down()) return;
  // Data the initiator was asked for or announced is still to come; it has nowhere to go but must
  // not be taken for the start of another command's (RFC 7143 4.2.5.2). An aborted task waits only
  // where a function on the whole task set says so, and for what was asked for.
  const bool may_wait = !aborted || awaits_data;
  if (may_wait && (outstanding_r2ts > 0 || unsolicited_open)) return;
  end();
}

void Task::end() {
  for (R2t& r2t : r2ts) {
    if (r2t.active) close_r2t(r2t);
  }
  if (exclusive_wanted && exclusive != 0) {
    shard().node().release_exclusive(unit().id(), exclusive);
    exclusive = 0;
  }
  if (status != scsi::Status::good || aborted) release_idle_chunks();
  state = State::ended;
  if (nexus_unit != nullptr) {
    uncharge_nexus();
    unit().leave(*this);
    count();
  }
  session->task_ended(*this);
  // Whoever waits for its end answers after it: the answer to a task management function must not
  // overtake a TASK ABORTED of the same session (RFC 7143 4.2.2.3, 4.2.3.3).
  Shard& owner = shard();
  const uint64_t number = serial;
  if (aborted && !report_aborted) {
    decided = true;
    maybe_free();
  } else {
    if (aborted) {
      status = scsi::Status::task_aborted;
      decided = true;
    }
    send_response();
  }
  owner.task_ended(*this, number);
}

void Task::count() {
  LunCounters& counters = unit().counters;
  if (aborted) ++counters.aborted;
  if (status == scsi::Status::check_condition) ++counters.check_conditions;
  if (status == scsi::Status::reservation_conflict) ++counters.reservation_conflicts;
  const bool media = decoded.has_value() && decoded->row->has(scsi::kMediumAccess);
  if (!media || status != scsi::Status::good || aborted) {
    ++counters.other_commands;
    return;
  }
  const io::Duration took = shard().loop().now() - started;
  if (operation() == Operation::read) {
    ++counters.reads;
    counters.read_bytes += transfer;
    record(counters.read_latency, took);
  } else if (decoded->row->has(scsi::kWritesMedium)) {
    ++counters.writes;
    counters.written_bytes += transfer;
    record(counters.write_latency, took);
  } else {
    ++counters.other_commands;
  }
}

// RFC 7143 11.4.5: what the initiator expected against what the command moves. In a direction that
// the request did not announce it expected nothing.
void Task::set_residual(uint32_t moves) {
  uint32_t expected = expected_length;
  if (moves > 0) {
    const bool in = scsi::data_direction(command()) == scsi::DataDirection::in;
    const uint8_t announced =
        in ? iscsi::scsi_command_flags::kRead : iscsi::scsi_command_flags::kWrite;
    if ((flags & announced) == 0) expected = 0;
  }
  residual_flags = 0;
  residual = 0;
  if (moves > expected) {
    residual_flags = iscsi::residual_flags::kOverflow;
    residual = moves - expected;
  } else if (moves < expected) {
    residual_flags = iscsi::residual_flags::kUnderflow;
    residual = expected - moves;
  }
}

void Task::send_response() {
  if (session->connection().closing() || status_in_data) return maybe_free();
  const bool good = status == scsi::Status::good;
  set_residual(good ? length : data_sent);
  iscsi::ScsiResponsePdu pdu;
  pdu.itt = itt;
  pdu.status = static_cast<uint8_t>(status);
  pdu.flags = static_cast<uint8_t>(pdu.flags | residual_flags);
  pdu.residual_count = residual;
  if (bidirectional_read_length > 0) {
    pdu.flags = static_cast<uint8_t>(pdu.flags | iscsi::residual_flags::kBidirectionalUnderflow);
    pdu.bidirectional_read_residual_count = bidirectional_read_length;
  }
  // With the Data-In, which is numbered when it is cut: before this one is (RFC 7143 11.4.8).
  response.progress = &data_in;
  pdu.exp_data_sn = r2t_sn;
  response.data = {};
  if (status == scsi::Status::check_condition) {
    const bool descriptor = nexus_unit != nullptr && unit().state().mode.descriptor_sense;
    const size_t bytes = scsi::encode(sense, descriptor, base::MutableBytes(sense_data).subspan(2));
    base::store(base::MutableBytes(sense_data), base::be16(static_cast<uint16_t>(bytes)));
    response.data = base::Bytes(sense_data).first(bytes + 2);
  }
  response.kind = SendItem::Kind::pdu;
  response.header = base::load<iscsi::Bhs>(base::as_bytes(pdu));
  response_queued = true;
  session->queue(response);
}

void Task::on_response_sent(SendItem& item) noexcept {
  Task& task = *static_cast<Task*>(item.owner);
  task.response_queued = false;
  task.maybe_free();
}

// Nothing of it is left to be sent.
void Task::maybe_free() {
  if (state != State::ended || response_queued) return;
  for (const Chunk& chunk : chunks) {
    if (chunk.sending) return;
  }
  for (const R2t& r2t : r2ts) {
    if (r2t.queued) return;
  }
  release_idle_chunks();
  parameters = {};
  session->task_released(*this);
}

void R2t::on_sent() noexcept {
  queued = false;
  task->on_r2t_sent();
}

// Its slot is free again: perhaps the last thing that the next R2T waited for, when the data came
// before we heard that the send is over.
void Task::on_r2t_sent() {
  if (state == State::ended) return maybe_free();
  if (state == State::active && !decided && !aborted) solicit();
}

}  // namespace holdfast::target
