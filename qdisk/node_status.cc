#include "qdisk/node_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace holdfast::qdisk {

namespace {

void add_hosts(const Config& config, const Node* running, io::Instant now, QuorumStatus& out) {
  for (const NodeConfig& node : config.nodes) {
    HostStatus host{.id = node.id, .name = node.name};
    host.fence_agent = !node.fence_agent.empty();
    host.networks.assign(node.addresses.size(), false);
    if (running != nullptr) {
      const Membership& membership = running->membership();
      const Heartbeat own = membership.heartbeat(now);
      const bool self = node.id == out.self;
      const Heartbeat* heard = self ? &own : membership.view().of(node.id, now);
      if (heard != nullptr) {
        host.heard = true;
        host.state = heard->state;
        host.incarnation = heard->incarnation;
        host.remembers = heard->remembers;
        host.watchdog = heard->watchdog;
      }
      for (size_t i = 0; i < host.networks.size(); ++i) {
        host.networks[i] = self || own.heard_net[i].has(node.id);
      }
      host.heard_on_disk = own.heard_disk.has(node.id);
    }
    out.hosts.push_back(std::move(host));
  }
  std::ranges::sort(out.hosts, {}, &HostStatus::id);
}

}  // namespace

QuorumStatus status_of(const Config& config, const Node* running, io::Instant now,
                       const std::string& problem) {
  QuorumStatus out{.cluster = config.cluster_name,
                   .uuid = config.cluster,
                   .self = config.self().id,
                   .policy = config.policy(),
                   .timers = config.timers};
  if (!problem.empty()) out.problems.push_back(problem);
  add_hosts(config, running, now, out);
  if (running == nullptr) {
    if (out.problems.empty()) out.problems.emplace_back("This node is about to begin.");
    return out;
  }
  const Membership& membership = running->membership();
  if (!running->save_problem().empty()) {
    out.problems.push_back(
        fmt::format("The local state cannot be saved in {}: {}. Until it can this node answers "
                    "nobody, and its lease ends.",
                    config.state_dir, running->save_problem()));
  }
  if (membership.contradicted()) {
    out.problems.push_back(
        fmt::format("Another node, or the witness, holds another decision of epoch {} than this "
                    "node: two clusters were created under one uuid, or the local state of a node "
                    "is a copy of another's. Nothing is taken of it; see docs/operations.md.",
                    count_of(membership.decision().epoch)));
  }
  out.decision = membership.decision();
  out.vouching = membership.vouching(now);
  out.settling = now - membership.learnt_at() < 2 * (config.timers.hb_net + config.timers.hb_disk);
  out.member = membership.is_member() && !membership.evicted();
  if (running->lease_valid()) {
    out.lease_left = std::chrono::duration_cast<Milliseconds>(*membership.lease_until() - now);
  }
  out.fenced = membership.fenced();
  out.fenced_timed = membership.fenced_timed();
  for (const GuardStatus& each : running->devices()) {
    DiskStatus disk{.name = each.device.name,
                    .usable = each.usable,
                    .without_reservations = each.without_reservations,
                    .problem = each.problem};
    if (each.device.volume) disk.number = static_cast<uint8_t>(*each.device.volume);
    out.disks.push_back(std::move(disk));
  }
  return out;
}

}  // namespace holdfast::qdisk
