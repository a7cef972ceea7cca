#include "qdisk/metrics_text.h"

#include <algorithm>

#include "common/daemon/metrics_text.h"

namespace holdfast::qdisk {
namespace {

using daemon::MetricsText;
using Type = MetricsText::Type;

void cluster_metrics(const QuorumStatus& s, MetricsText& page) {
  const Decision& decision = s.decision;
  page.gauge("quorum", "1 while this node is a member with a lease.", s.quorum() ? 1 : 0);
  page.family("lease_seconds", "What is left of the lease; 0: none.", Type::Gauge);
  page.real(s.lease_left ? static_cast<double>(s.lease_left->count()) / 1000 : 0);
  page.gauge("generation", "One more for each forced quorum.", generation_of(decision.epoch));
  page.gauge("epoch", "Decisions of this generation.", count_of(decision.epoch));
  page.gauge("fenced", "1 while nothing of former members can land any more.",
             s.fenced >= decision.epoch ? 1 : 0);
  page.gauge("votes", "Votes of the cluster.", static_cast<uint64_t>(votes(decision)));
  page.gauge("votes_there", "Votes that this node has had within a lease.",
             static_cast<uint64_t>(votes_of(decision, votes_there(s))));
  const auto failures = next_failures(s);
  page.gauge("next_failure_stops",
             "Nodes and witness of which one more failure would stop the "
             "cluster.",
             static_cast<uint64_t>(std::ranges::count(failures, false, &NextFailure::goes_on)));
}

void node_metrics(const QuorumStatus& s, MetricsText& page) {
  page.family("node_member", "1 for a member.", Type::Gauge);
  for (const HostStatus& host : s.hosts) {
    page.value(s.decision.members().has(host.id) ? 1 : 0, {{"node", host.name}});
  }
  page.family("node_heard", "1 while the node is heard over the network.", Type::Gauge);
  for (const HostStatus& host : s.hosts) {
    for (size_t i = 0; i < host.networks.size(); ++i) {
      page.value(host.networks[i] ? 1 : 0, {{"node", host.name}, {"network", std::to_string(i)}});
    }
  }
  page.family("node_heard_on_disk", "1 while the node's heartbeat on the witness changes.",
              Type::Gauge);
  for (const HostStatus& host : s.hosts) {
    page.value(host.heard_on_disk ? 1 : 0, {{"node", host.name}});
  }
}

void disk_metrics(const QuorumStatus& s, MetricsText& page) {
  if (const DiskStatus* witness = s.witness()) {
    page.gauge("witness_usable", "1 while this node can use the witness.", witness->usable ? 1 : 0);
  }
  page.family("volume_usable", "1 while this node can use the volume.", Type::Gauge);
  for (const DiskStatus& disk : s.disks) {
    if (disk.number) page.value(disk.usable ? 1 : 0, {{"volume", disk.name}});
  }
  page.family("volume_term", "One more with each coordinator of the volume.", Type::Gauge);
  for (const DiskStatus& disk : s.disks) {
    if (!disk.number) continue;
    const VolumeOwner& owner = s.decision.volumes[*disk.number];
    page.value(owner.term,
               {{"volume", disk.name},
                {"coordinator", owner.coordinator == kNoNode ? "" : s.name_of(owner.coordinator)}});
  }
}

}  // namespace

std::string metrics_text(const QuorumStatus& status) {
  MetricsText page("holdfast_qdisk_");
  cluster_metrics(status, page);
  node_metrics(status, page);
  disk_metrics(status, page);
  return page.text();
}

}  // namespace holdfast::qdisk
