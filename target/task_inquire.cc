// Commands that answer with parameter data, and the few that answer with a status alone.

#include <algorithm>

#include "common/scsi/alua.h"
#include "common/scsi/capacity.h"
#include "common/scsi/inquiry.h"
#include "common/scsi/lba_status.h"
#include "common/scsi/mode_pages.h"
#include "common/scsi/report_luns.h"
#include "common/scsi/report_opcodes.h"
#include "target/connection.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {

using scsi::Operation;

namespace {

// Implicit transitions are done at once; the initiator is told the least that the field can say.
constexpr uint8_t kTransitionSeconds = 1;

}  // namespace

size_t Task::parameter_room() const {
  return std::clamp(command().allocation_length, 1u, kMaxParameterBytes);
}

void Task::run_parameter_data() {
  const uint32_t room = std::min(command().allocation_length, kMaxParameterBytes);
  if (!parameters) parameters = shard().buffers().acquire(parameter_room());
  if (!parameters) {
    resume_with_buffer = &Task::run_parameter_data;
    return wait_for_buffer();
  }
  const scsi::Outcome<size_t> bytes = build_parameter_data(parameters.first(room));
  if (!bytes.has_value()) return fail(bytes.error());
  send_parameters(std::min<size_t>(*bytes, room));
}

scsi::Outcome<size_t> Task::build_parameter_data(base::MutableBytes out) {
  const UnitState& known = unit().state();
  const scsi::LunDescription& description = known.description;
  switch (operation()) {
    case Operation::inquiry:
      return scsi::inquiry(command(), description, session->port(), out);
    case Operation::request_sense:
      return build_request_sense(out);
    case Operation::mode_sense:
      return scsi::mode_sense(command(), description, known.mode, out);
    case Operation::read_capacity_10:
    case Operation::read_capacity_16:
      return scsi::read_capacity(command(), description, out);
    case Operation::report_luns:
      return build_report_luns(out);
    case Operation::report_supported_operation_codes:
      return scsi::report_supported_operation_codes(command(), description, out);
    case Operation::report_supported_task_management_functions:
      return scsi::report_supported_task_management_functions(command(), out);
    case Operation::report_target_port_groups:
      return build_port_groups(out);
    case Operation::persistent_reserve_in:
      return known.reservations.in(command().reserve_in(), out);
    case Operation::get_lba_status: {
      const auto* extents = reinterpret_cast<const scsi::LbaExtent*>(chunks.front().compare.data());
      return scsi::lba_status(std::span(extents, range_count), out);
    }
    default:
      return std::unexpected(scsi::kInvalidOpcode);
  }
}

// What an attention or the unit's state would say, as data (SPC-4 6.39).
size_t Task::build_request_sense(base::MutableBytes out) {
  scsi::Sense tell = scsi::kNoSense;
  if (const auto attention = nexus_unit->attentions.take()) {
    tell = *attention;
  } else if (const auto refusal = not_ready()) {
    tell = *refusal;
  }
  return scsi::encode(tell, command().descriptor_sense, out);
}

size_t Task::build_report_luns(base::MutableBytes out) {
  std::vector<uint16_t> luns;
  for (const auto& nexus_unit_of : session->units()) luns.push_back(nexus_unit_of->lun);
  for (const auto& nexus_unit_of : session->units()) {
    nexus_unit_of->attentions.clear(scsi::kReportedLunsChanged);
  }
  return scsi::report_luns(command().select_report, luns, out);
}

size_t Task::build_port_groups(base::MutableBytes out) {
  const std::shared_ptr<const NodeMap> map = shard().map();
  std::vector<scsi::TargetPortGroup> groups;
  if (const TargetView* target = map->find_target(session->nexus().target_name)) {
    for (const uint16_t tag : target->portal_groups) {
      const PortalGroupView* group = map->find_portal_group(tag);
      if (group == nullptr) continue;
      groups.push_back({.tag = tag,
                        .state = group->alua,
                        .preferred = false,
                        .changed_implicitly = group->alua_changed,
                        .relative_port_ids = {tag}});
    }
  }
  return scsi::report_target_port_groups(command(), groups, kTransitionSeconds, out);
}

void Task::send_parameters(size_t bytes) {
  const bool reads = (flags & iscsi::scsi_command_flags::kRead) != 0;
  length = static_cast<uint32_t>(bytes);
  transfer = std::min(length, reads ? expected_length : 0);
  if (transfer == 0) return complete(scsi::Status::good);
  release_idle_chunks();
  next_offset = 0;
  Chunk* chunk = new_chunk(transfer, 0);
  if (chunk == nullptr) return complete(scsi::Status::busy);
  chunk->data = std::move(parameters);
  chunk->bytes = chunk->data.first(transfer);
  data_in.burst_left = session->connection().send_queue().max_burst();
  queue_data_in(*chunk, true);
  complete(scsi::Status::good);
}

// A LUN that is none (SAM-5, incorrect logical unit; SPC-4 6.6, 6.33, 6.39).
void Task::run_without_unit() {
  if (!decoded.has_value()) return fail(scsi::kLunNotSupported);
  const bool answers = operation() == Operation::inquiry || operation() == Operation::report_luns ||
                       operation() == Operation::request_sense;
  if (!answers) return fail(scsi::kLunNotSupported);
  const uint32_t room = std::min(command().allocation_length, kMaxParameterBytes);
  parameters = shard().buffers().acquire(parameter_room());
  if (!parameters) {
    resume_with_buffer = &Task::run_without_unit;
    return wait_for_buffer();
  }
  const base::MutableBytes out = parameters.first(room);
  scsi::Outcome<size_t> bytes = 0;
  if (operation() == Operation::inquiry) {
    bytes = scsi::inquiry_without_lun(command(), out);
  } else if (operation() == Operation::report_luns) {
    bytes = build_report_luns(out);
  } else {
    bytes = scsi::encode(scsi::kLunNotSupported, command().descriptor_sense, out);
  }
  if (!bytes.has_value()) return fail(bytes.error());
  send_parameters(std::min<size_t>(*bytes, room));
}

void Task::run_start_stop() {
  const UnitState& known = unit().state();
  // With a power condition, START and LOEJ are ignored (SBC-3 5.25).
  if (known.medium == nullptr || !command().loej || command().power_condition != 0) {
    return complete(scsi::Status::good);
  }
  if (!command().start && known.medium->preventions.load(std::memory_order_acquire) > 0) {
    return fail(scsi::kMediumRemovalPrevented);
  }
  const bool was_out = known.medium->ejected.exchange(!command().start, std::memory_order_acq_rel);
  if (was_out && command().start) {
    known.medium->loads.fetch_add(1, std::memory_order_acq_rel);
    ++nexus_unit->loads_seen;  // this nexus knows
  }
  complete(scsi::Status::good);
}

void Task::run_prevent_allow() {
  const UnitState& known = unit().state();
  if (known.medium != nullptr) nexus_unit->set_prevention(*known.medium, command().prevent != 0);
  complete(scsi::Status::good);
}

}  // namespace holdfast::target
