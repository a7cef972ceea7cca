#include "qdisk/fence_request.h"

#include <fmt/format.h>

namespace holdfast::qdisk {

namespace {

using State = FenceAnswer::State;
using Act = FenceAnswer::Act;

FenceAnswer refused(std::string why) { return {.state = State::refused, .why = std::move(why)}; }

FenceAnswer pending(std::string why, Act act = Act::none) {
  return {.state = State::pending, .why = std::move(why), .act = act};
}

// When it has stopped. Nothing: it has.
std::optional<std::string> runs_on(const Departure& left, io::Instant now,
                                   const FenceRequest& request, const FenceAgentNow& agent) {
  if (left.stopped) return std::nullopt;
  const bool bounded = left.watchdog != WatchdogKind::none;
  if (bounded && now >= left.stops_at) return std::nullopt;
  std::string why;
  if (agent.running) why = fmt::format("The fence agent of {} is running. ", request.name);
  if (!agent.failure.empty()) {
    why = fmt::format("The fence agent of {} has failed: {}. ", request.name, agent.failure);
  }
  if (bounded) {
    const auto left_ms = std::chrono::ceil<Milliseconds>(left.stops_at - now).count();
    why += fmt::format("The lease and the watchdog of {} have stopped what it runs in {:.1f} s.",
                       request.name, static_cast<double>(left_ms) / 1000);
  } else {
    why += fmt::format("Only its fence agent can prove that {} has stopped.", request.name);
  }
  return why;
}

}  // namespace

const char* to_string(State state) {
  switch (state) {
    case State::pending:
      return "pending";
    case State::drained:
      return "drained";
    case State::timed:
      return "timed";
    case State::refused:
      return "refused";
  }
  return "unknown";
}

std::optional<std::string> obstacle_to_strict(WatchdogKind watchdog, bool fence_agent,
                                              const std::string& name) {
  if (fence_agent || watchdog != WatchdogKind::none) return std::nullopt;
  return fmt::format(
      "{} has neither a watchdog that runs nor a fence agent: nothing bounds how long it goes on",
      name);
}

FenceAnswer judge_fence(const Membership& membership, NodeId self, io::Instant now,
                        const FenceRequest& request, const FenceAgentNow& agent) {
  const Life& life = request.life;
  const std::string& name = request.name;
  if (life.node == self) return refused("A node does not fence itself.");
  if (!membership.lease_valid(now)) {
    return pending("This node has no lease itself: `holdfast quorum explain` says why.");
  }
  if (membership.decision().has_member(life.node, life.incarnation)) {
    const Heartbeat* heard = membership.view().of(life.node, now);
    const bool known = heard != nullptr && heard->incarnation == life.incarnation;
    if (request.strict && known) {
      if (const auto obstacle = obstacle_to_strict(heard->watchdog, agent.exists, name)) {
        return refused("Strict: " + *obstacle + ".");
      }
    }
    return pending(fmt::format("That {} is no member any more is being decided.", name),
                   Act::evict);
  }
  const Departure left = membership.departure_of(life);
  if (request.strict && !left.stopped) {
    if (const auto obstacle = obstacle_to_strict(left.watchdog, agent.exists, name)) {
      return refused("Strict: " + *obstacle + ".");
    }
    if (agent.exists && !agent.running && agent.failure.empty()) {
      return pending(fmt::format("{} is being switched off.", name), Act::switch_off);
    }
  }
  if (!left.fenced) {
    return pending(fmt::format(
        "What {} had under way is being ended, on the witness and the volumes and at the other "
        "members.",
        name));
  }
  if (!request.strict) return {.state = left.timed ? State::timed : State::drained};
  if (left.timed) {
    return refused(fmt::format(
        "Strict: that nothing of {} can land any more is only known by the time that has gone by, "
        "as a device could not say it.",
        name));
  }
  if (auto why = runs_on(left, now, request, agent)) return pending(std::move(*why));
  return {.state = State::drained, .lab = !left.stopped && left.watchdog == WatchdogKind::lab};
}

}  // namespace holdfast::qdisk
