#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "qdisk/fence_request.h"
#include "qdisk/layout.h"
#include "qdisk/quorum_status.h"

namespace holdfast::qdisk {
namespace {

using nlohmann::json;

json host_of(const QuorumStatus& status, const HostStatus& host) {
  const Decision& decision = status.decision;
  const Incarnation member = decision.incarnations[host.id];
  const auto obstacle = obstacle_to_strict(host.watchdog, host.fence_agent, host.name);
  return {{"node", host.name},
          {"id", host.id},
          {"this_node", host.id == status.self},
          {"member", member != 0},
          {"member_incarnation", member},
          {"votes", decision.voters.has(host.id)},
          {"vouches", votes_there(status).nodes.has(host.id)},
          {"heard", host.heard},
          {"state", to_string(host.state)},
          {"incarnation", host.incarnation},
          {"remembers", host.remembers},
          {"watchdog", to_string(host.watchdog)},
          {"fence_agent", host.fence_agent},
          {"obstacle_to_strict", obstacle ? json(*obstacle) : json()},
          {"networks", host.networks},
          {"heard_on_disk", host.heard_on_disk},
          {"problem", host.problem}};
}

json disk_of(const QuorumStatus& status, const DiskStatus& disk) {
  json out = {{"name", disk.name},
              {"usable", disk.usable},
              {"without_reservations", disk.without_reservations},
              {"problem", disk.problem}};
  if (!disk.number) return out;
  const VolumeOwner& owner = status.decision.volumes[*disk.number];
  out["number"] = *disk.number;
  out["coordinator"] =
      owner.coordinator == kNoNode ? json() : json(status.name_of(owner.coordinator));
  out["term"] = owner.term;
  return out;
}

json witness_of(const QuorumStatus& status) {
  const DiskStatus* witness = status.witness();
  if (witness == nullptr) return json();
  json out = disk_of(status, *witness);
  out["votes"] = status.decision.witness_votes;
  out["vouches"] = votes_there(status).witness;
  out["uuid"] = status.decision.witness == Uuid{} ? json() : json(to_text(status.decision.witness));
  return out;
}

}  // namespace

json to_json(const QuorumStatus& status) {
  const Decision& decision = status.decision;
  json hosts = json::array(), volumes = json::array(), failures = json::array();
  json users = json::array();
  for (const LeaseUser& user : status.users) {
    users.push_back(
        {{"name", user.name}, {"quiesced", user.quiesced >= decision.epoch}, {"runs", user.runs}});
  }
  for (const HostStatus& host : status.hosts) hosts.push_back(host_of(status, host));
  for (const DiskStatus& disk : status.disks) {
    if (disk.number) volumes.push_back(disk_of(status, disk));
  }
  for (const NextFailure& each : next_failures(status)) {
    failures.push_back({{"what", each.what}, {"goes_on", each.goes_on}, {"text", each.text}});
  }
  return {{"cluster", status.cluster},
          {"uuid", to_text(status.uuid)},
          {"node", status.name_of(status.self)},
          {"mode", status.policy.mode == QuorumMode::node_majority ? "node-majority"
                                                                   : "node-and-disk-majority"},
          {"quorum", status.quorum()},
          {"member", status.member},
          {"lease_left_ms", status.lease_left ? json(status.lease_left->count()) : json()},
          {"epoch", epoch_text(status)},
          {"epoch_number", decision.epoch},
          {"forced", decision.forced},
          {"votes", votes(decision)},
          {"needed", decision.epoch == 0 ? 0 : majority(decision)},
          {"fenced", status.fenced >= decision.epoch},
          {"fenced_timed", status.fenced_timed},
          {"watchdog", status.watchdog},
          {"users", users},
          {"nodes", hosts},
          {"witness", witness_of(status)},
          {"volumes", volumes},
          {"why", why(status)},
          {"next_failures", failures}};
}

}  // namespace holdfast::qdisk
