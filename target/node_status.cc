#include "target/node_status.h"

#include <algorithm>

namespace holdfast::target {
namespace {

void add(LatencyHistogram& sum, const LatencyHistogram& part) {
  for (size_t i = 0; i < LatencyHistogram::kBuckets; ++i) sum.buckets[i] += part.buckets[i];
  sum.sum_us += part.sum_us;
  sum.count += part.count;
}

void add(LunCounters& sum, const LunCounters& part) {
  sum.reads += part.reads;
  sum.writes += part.writes;
  sum.other_commands += part.other_commands;
  sum.read_bytes += part.read_bytes;
  sum.written_bytes += part.written_bytes;
  sum.check_conditions += part.check_conditions;
  sum.reservation_conflicts += part.reservation_conflicts;
  sum.aborted += part.aborted;
  sum.medium_errors += part.medium_errors;
  add(sum.read_latency, part.read_latency);
  add(sum.write_latency, part.write_latency);
}

ReservationStatus reservation_status(const Reservations& reservations) {
  ReservationStatus status{.generation = reservations.generation(), .aptpl = reservations.aptpl()};
  if (const auto type = reservations.type()) status.type = static_cast<uint8_t>(*type);
  for (const Registrant& registrant : reservations.registrants()) {
    status.registrants.push_back({.initiator_name = registrant.nexus.initiator_name,
                                  .isid = registrant.nexus.isid,
                                  .portal_group_tag = registrant.nexus.portal_group_tag,
                                  .key = registrant.key,
                                  .holder = reservations.is_holder(registrant)});
  }
  return status;
}

DiskStatus disk_status(const NodeState& node, const Unit& unit) {
  DiskStatus status{.config = unit.config,
                    .state = unit.state_text(),
                    .origin = std::string(to_string(unit.origin)),
                    .uuid = format_uuid(unit.identity),
                    .size_bytes = unit.size_bytes(),
                    .reservation = reservation_status(unit.reservations)};
  if (const auto opening = node.opening.find(unit.id);
      opening != node.opening.end() && node.opener.waits_for_lock(opening->second)) {
    status.state += ": locked by another process, or by a killed one with requests in flight";
  }
  for (const TargetConfig& target : node.config.targets) {
    for (const LunConfig& lun : target.luns) {
      if (lun.disk == unit.config.name) status.mapped.push_back({target.name, lun.lun});
    }
  }
  return status;
}

void blank(std::optional<daemon::ChapConfig>& chap) {
  if (chap) chap->secret.clear();
}

}  // namespace

NodeStatus make_status(const NodeState& node, const std::vector<ShardStatus>& shards) {
  NodeStatus status;
  status.version = node.services.version;
  const io::Duration uptime = node.services.loop.now() - node.started_at;
  status.uptime_ms =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(uptime).count());
  status.threads = static_cast<uint32_t>(node.shards.count());
  status.portals = node.portals.status();
  for (const PortalGroupConfig& group : node.config.portal_groups) {
    const auto found = node.alua.find(group.tag);
    const auto state =
        found == node.alua.end() ? scsi::AluaState::active_optimized : found->second.state;
    status.alua.push_back({group.tag, std::string(scsi::to_string(state))});
  }
  status.targets = node.config.targets;
  for (TargetConfig& target : status.targets) {
    for (InitiatorConfig& initiator : target.initiators) {
      blank(initiator.chap);
      blank(initiator.mutual_chap);
    }
  }
  status.connections_total = node.portals.connections_total();
  status.connections_refused = node.portals.connections_refused();

  std::map<UnitId, LunCounters> counters;
  for (const ShardStatus& shard : shards) {
    for (const auto& [unit, part] : shard.counters) add(counters[unit], part);
    for (SessionStatus session : shard.sessions) {
      const auto known = node.sessions.all().find(session.id);
      if (known != node.sessions.all().end() &&
          known->second.state == SessionRegistry::State::draining) {
        session.state = "draining";
      }
      status.sessions.push_back(std::move(session));
    }
    status.logins_failed += shard.logins_failed;
    status.pdus_rejected += shard.pdus_rejected;
    status.buffer_bytes_used += shard.buffer_bytes_used;
    status.buffer_bytes_total += shard.buffer_bytes_total;
  }
  for (const auto& [id, unit] : node.units.all()) {
    if (unit->leaving) continue;
    status.disks.push_back(disk_status(node, *unit));
    status.disks.back().counters = counters[id];
  }
  std::ranges::sort(status.sessions, {}, &SessionStatus::id);
  return status;
}

}  // namespace holdfast::target
