#include "qdisk/quorum_events.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"

namespace holdfast::qdisk {

namespace {

using Events = std::vector<Event>;

void add(Events& out, EventId id, Severity severity, std::string text) {
  out.push_back({id, severity, std::move(text)});
}

bool stops(const QuorumStatus& status) {
  return !std::ranges::all_of(next_failures(status), &NextFailure::goes_on);
}

void add_members(const QuorumStatus& before, const QuorumStatus& after, Events& out) {
  const NodeSet members = before.decision.members() | after.decision.members();
  for (const NodeId node : members) {
    const Incarnation was = before.decision.incarnations[node];
    const Incarnation is = after.decision.incarnations[node];
    const std::string name = after.name_of(node);
    if (was == 0 && is != 0) {
      add(out, EventId::joined, Severity::info, fmt::format("{} is a member, life {}.", name, is));
    } else if (was != 0 && is == 0) {
      const HostStatus* host = after.find(node);
      const bool stopped = host != nullptr && host->state == NodeState::stopped;
      add(out, EventId::left, stopped ? Severity::info : Severity::warning,
          stopped ? fmt::format("{} has left of its own will.", name)
                  : fmt::format("{} is no member any more: it was evicted.", name));
    } else if (was != is) {
      add(out, EventId::new_life, Severity::info,
          fmt::format("{} is a member as another life, {} after {}.", name, is, was));
    }
  }
}

void add_quorum(const QuorumStatus& before, const QuorumStatus& after, Events& out) {
  if (after.decision.forced && after.decision.epoch != before.decision.epoch) {
    add(out, EventId::forced, Severity::warning,
        fmt::format("An operator has forced the quorum: epoch {}.", epoch_text(after)));
  }
  if (!before.quorum() && after.quorum()) {
    add(out, EventId::quorum, Severity::info, "There is quorum, and this node has its lease.");
  } else if (before.quorum() && !after.quorum()) {
    add(out, EventId::no_quorum, Severity::error,
        "This node has no lease any more: what needs the cluster ends here.");
  }
  if (!before.quorum() || !after.quorum() || before.settling || after.settling) return;
  if (!stops(before) && stops(after)) {
    add(out, EventId::one_failure_stops, Severity::warning,
        "One more failure can stop the cluster: `holdfast quorum explain` says which.");
  } else if (stops(before) && !stops(after)) {
    add(out, EventId::no_failure_stops, Severity::info, "No single failure stops the cluster.");
  }
}

void add_networks(const QuorumStatus& before, const QuorumStatus& after, Events& out) {
  for (const HostStatus& host : after.hosts) {
    const HostStatus* const was = before.find(host.id);
    if (was == nullptr || host.id == after.self) continue;
    for (size_t i = 0; i < std::min(host.networks.size(), was->networks.size()); ++i) {
      if (host.networks[i] == was->networks[i]) continue;
      add(out, host.networks[i] ? EventId::network_up : EventId::network_down,
          host.networks[i] ? Severity::info : Severity::warning,
          fmt::format("{} is {} over cluster network {}.", host.name,
                      host.networks[i] ? "heard" : "not heard any more", i + 1));
    }
  }
}

void add_disks(const QuorumStatus& before, const QuorumStatus& after, Events& out) {
  for (const DiskStatus& disk : after.disks) {
    const auto was = std::ranges::find(before.disks, disk.name, &DiskStatus::name);
    if (was == before.disks.end() || was->usable == disk.usable) continue;
    const std::string what = disk.number ? "Volume " + disk.name : "The witness";
    const auto usable = disk.number ? EventId::volume_usable : EventId::witness_usable;
    const auto unusable = disk.number ? EventId::volume_unusable : EventId::witness_unusable;
    if (disk.usable) {
      add(out, usable, Severity::info, fmt::format("{} is usable on this node.", what));
    } else {
      add(out, unusable, Severity::error,
          fmt::format("{} is not usable on this node: {}.", what,
                      disk.problem.empty() ? "it does not answer" : disk.problem));
    }
  }
  if (before.decision.witness != after.decision.witness && before.decision.epoch != 0) {
    add(out, EventId::witness_replaced, Severity::info, "The cluster has another witness.");
  }
  for (const DiskStatus& disk : after.disks) {
    if (!disk.number) continue;
    const VolumeOwner& was = before.decision.volumes[*disk.number];
    const VolumeOwner& is = after.decision.volumes[*disk.number];
    if (was == is || is.coordinator == kNoNode) continue;
    add(out, EventId::coordinator, Severity::info,
        fmt::format("{} coordinates volume {}, term {}.", after.name_of(is.coordinator), disk.name,
                    is.term));
  }
}

void add_fences(const QuorumStatus& before, const QuorumStatus& after, Events& out) {
  const bool was = before.fenced < before.decision.epoch;
  const bool is = after.fenced < after.decision.epoch;
  if (is && (!was || before.decision.epoch != after.decision.epoch)) {
    add(out, EventId::fence_begun, Severity::info,
        "A fence is under way: what former members had under way is being ended.");
  } else if (was && !is && before.decision.epoch != 0) {
    add(out, after.fenced_timed ? EventId::fenced_timed : EventId::fenced,
        after.fenced_timed ? Severity::warning : Severity::info,
        after.fenced_timed
            ? "Nothing of former members can land any more, as so much time has gone by."
            : "Nothing of former members can land any more: the devices have said so.");
  }
}

void add_watchdog(const QuorumStatus& before, const QuorumStatus& after, Events& out) {
  const HostStatus* const was = before.find(before.self);
  const HostStatus* const is = after.find(after.self);
  if (was == nullptr || is == nullptr || was->watchdog == is->watchdog) return;
  const bool runs = is->watchdog != WatchdogKind::none;
  add(out, runs ? EventId::watchdog_runs : EventId::watchdog_ended,
      runs ? Severity::info : Severity::warning,
      runs ? "The watchdog of this host runs."
           : "The watchdog of this host does not run any more.");
}

}  // namespace

const char* to_string(Severity severity) {
  switch (severity) {
    case Severity::info:
      return "info";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "unknown";
}

Events events_between(const QuorumStatus& before, const QuorumStatus& after) {
  Events out;
  add_networks(before, after, out);
  add_disks(before, after, out);
  add_members(before, after, out);
  add_quorum(before, after, out);
  add_fences(before, after, out);
  add_watchdog(before, after, out);
  for (const std::string& problem : after.problems) {
    if (std::ranges::find(before.problems, problem) != before.problems.end()) continue;
    add(out, EventId::problem, Severity::error, problem);
  }
  return out;
}

void EventLog::look(const QuorumStatus& status, io::Instant now) {
  if (before_) {
    for (Event& event : events_between(*before_, status)) {
      const auto number = static_cast<uint16_t>(event.id);
      switch (event.severity) {
        case Severity::info:
          LOG_INFO("event", "{}: {}", number, event.text);
          break;
        case Severity::warning:
          LOG_WARNING("event", "{}: {}", number, event.text);
          break;
        case Severity::error:
          LOG_ERROR("event", "{}: {}", number, event.text);
          break;
      }
      if (entries_.size() == kMax) entries_.pop_front();
      entries_.push_back({++sequence_, now, std::move(event)});
    }
  }
  before_ = status;
}

}  // namespace holdfast::qdisk
