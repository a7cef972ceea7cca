#include "target/unit_operations.h"

#include <algorithm>

#include "common/base/log.h"

namespace holdfast::target {
namespace {

using iscsi::TaskFunction;

bool is_target_reset(TaskFunction function) {
  return function == TaskFunction::target_warm_reset || function == TaskFunction::target_cold_reset;
}

// On each shard: nothing new starts under the old mode parameters, the commands end, and whoever
// comes afterwards is told.
Shards::Ask reset_step(const Unit& unit, const ResetCall& call) {
  AbortRequest abort{.unit = unit.id, .requester = call.session, .awaits_data = true};
  AttentionRequest attention{.unit = unit.id, .sense = scsi::kBusDeviceReset};
  // With TAS=1 the other nexuses learn of CLEAR TASK SET by TASK ABORTED, not by 2F/00 (SAM-5).
  const bool resets = call.function != TaskFunction::clear_task_set;
  return [state = unit.snapshot(), abort = std::move(abort), attention = std::move(attention),
          resets](ShardControl& shard, ShardControl::Done done) {
    shard.publish_unit(state);
    if (resets) shard.raise_attention(attention);
    shard.abort_tasks(abort, std::move(done));
  };
}

}  // namespace

void UnitOperations::pr_out(PrOutCall call, NodeLink::Reply<PrOutReply> reply) {
  std::vector<uint16_t> tags;
  for (const TargetConfig& target : node_.config.targets) {
    if (target.name == call.nexus.target_name) tags = target.portal_groups;
  }
  node_.reservations.submit(std::move(call), std::move(tags), std::move(reply));
}

std::vector<Unit*> UnitOperations::affected_by(const ResetCall& call) {
  std::vector<Unit*> units;
  const auto add = [&](Unit* unit) {
    if (unit != nullptr) units.push_back(unit);
  };
  if (!is_target_reset(call.function)) {
    add(node_.units.find(call.unit));
    return units;
  }
  for (const TargetConfig& target : node_.config.targets) {
    if (target.name != call.target) continue;
    for (const LunConfig& lun : target.luns) add(node_.units.find(lun.disk));
  }
  return units;
}

void UnitOperations::reset(ResetCall call, NodeLink::Reply<bool> reply) {
  const std::vector<Unit*> units = affected_by(call);
  std::vector<Shards::Ask> steps;
  for (Unit* const unit : units) {
    if (call.function != TaskFunction::clear_task_set) unit->mode = {};  // SPC-4 6.11: defaults
    steps.push_back(reset_step(*unit, call));
  }
  auto finish = [this, shard = call.shard, function = call.function, target = call.target,
                 requester = call.session, reply = std::move(reply)](bool all) mutable noexcept {
    if (!all) {
      LOG_ERROR("reset", "commands do not end within the drain deadline: function={}",
                static_cast<int>(function));
    }
    node_.shards.reply(shard, std::move(reply), bool(all));
    if (function != TaskFunction::target_cold_reset) return;
    // RFC 7143 11.5.1: all sessions of the target end; the requester's ends itself once it has sent
    // the answer.
    std::vector<SessionId> ended;
    for (const auto& [id, session] : node_.sessions.all()) {
      const bool others = id != requester && !session.discovery;
      if (others && session.nexus.target_name == target) ended.push_back(id);
    }
    for (const SessionId id : ended) node_.sessions.drop(id, "target cold reset");
  };
  if (steps.empty()) {
    finish(true);
    return;
  }
  node_.shards.ask_all(std::move(steps), node_.drain_deadline(), std::move(finish));
  node_.reservations.abort_waiting([&](const PrOutCall& waiting) {
    return std::ranges::find(units, waiting.unit, &Unit::id) != units.end();
  });
}

void UnitOperations::acquire_exclusive(uint32_t shard, UnitId id, BlockRange range,
                                       NodeLink::Reply<ExclusiveId> reply) {
  const ExclusiveId exclusive = ++last_exclusive_;
  Unit* const unit = node_.units.find(id);
  if (unit == nullptr) {  // removed meanwhile: nothing is left to collide with
    node_.shards.reply(shard, std::move(reply), ExclusiveId(exclusive));
    return;
  }
  grants_.emplace(exclusive, Grant{shard, id, std::move(reply)});
  if (unit->exclusive.acquire(exclusive, range)) close_gates(id, exclusive);
}

void UnitOperations::close_gates(UnitId unit, ExclusiveId id) {
  const BlockRange range = node_.units.find(unit)->exclusive.range_of(id);
  // No deadline: it waits for writes that are under way, and each of them ends or is aborted.
  node_.shards.ask_all({[unit, id, range](ShardControl& shard, ShardControl::Done done) {
                         shard.close_gate(unit, id, range, std::move(done));
                       }},
                       kNoDeadline, [this, id](bool) noexcept { grant(id); });
}

void UnitOperations::grant(ExclusiveId id) {
  const auto found = grants_.find(id);
  if (found == grants_.end()) return;  // the unit was removed
  Grant granted = std::move(found->second);
  grants_.erase(found);
  node_.shards.reply(granted.shard, std::move(granted.reply), ExclusiveId(id));
}

void UnitOperations::release_exclusive(UnitId id, ExclusiveId exclusive) {
  Unit* const unit = node_.units.find(id);
  if (unit == nullptr || !unit->exclusive.contains(exclusive)) return;
  node_.shards.tell_all([id, exclusive](ShardControl& shard) { shard.open_gate(id, exclusive); });
  for (const ExclusiveId next : unit->exclusive.release(exclusive)) close_gates(id, next);
}

void UnitOperations::on_unit_removed(UnitId unit) {
  std::vector<ExclusiveId> waiting;
  for (const auto& [id, entry] : grants_) {
    if (entry.unit == unit) waiting.push_back(id);
  }
  for (const ExclusiveId id : waiting) grant(id);
}

void UnitOperations::mode_select(uint32_t shard, UnitId id, const scsi::ModeChanges& changes,
                                 const NexusId& nexus, NodeLink::Reply<scsi::Status> reply) {
  Unit* const unit = node_.units.find(id);
  if (unit == nullptr) {
    node_.shards.reply(shard, std::move(reply), scsi::Status::busy);
    return;
  }
  const scsi::ModeState before = unit->mode;
  unit->mode.descriptor_sense = changes.descriptor_sense.value_or(before.descriptor_sense);
  unit->mode.software_write_protect =
      changes.software_write_protect.value_or(before.software_write_protect);
  if (unit->mode == before) {
    node_.shards.reply(shard, std::move(reply), scsi::Status::good);
    return;
  }
  AttentionRequest attention{.unit = id, .except = nexus, .sense = scsi::kModeParametersChanged};
  node_.shards.ask_all(
      {[state = unit->snapshot(), attention = std::move(attention)](ShardControl& to,
                                                                    ShardControl::Done done) {
        to.publish_unit(state);
        to.raise_attention(attention);
        done();
      }},
      node_.drain_deadline(), [this, shard, reply = std::move(reply)](bool all) mutable noexcept {
        node_.shards.reply(shard, std::move(reply), all ? scsi::Status::good : scsi::Status::busy);
      });
}

}  // namespace holdfast::target
