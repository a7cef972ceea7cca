#pragma once
// Somebody wants to be sure that nothing of a node can land any more, or, strict, also that what
// the node ran has stopped: what can be said of that now, and what has to be done for it. Pure.

#include <string>

#include "qdisk/membership.h"

namespace holdfast::qdisk {

struct FenceRequest {
  Life life;
  std::string name;     // of the node, for texts
  bool strict = false;  // also what it ran: a virtual machine must not run twice
};

// The administrator's command that switches the node off.
struct FenceAgentNow {
  bool exists = false;
  bool running = false;
  std::string failure;  // of its last run; empty: it has not failed, or may be tried again
};

struct FenceAnswer {
  enum class State : uint8_t {
    pending,
    drained,  // it is done, and the devices have said so themselves
    timed,    // it is done, but only since enough time has gone by
    refused,  // it will not come to that: `why`
  };
  // What this node has to do for it now.
  enum class Act : uint8_t { none, evict, switch_off };

  State state = State::pending;
  std::string why;  // what is waited for, or why not; a whole sentence
  Act act = Act::none;
  bool lab = false;  // strict, and what bounds it is the lab's test double
  bool operator==(const FenceAnswer&) const = default;
};
const char* to_string(FenceAnswer::State state);

FenceAnswer judge_fence(const Membership& membership, NodeId self, io::Instant now,
                        const FenceRequest& request, const FenceAgentNow& agent);

// Why a role that must never run twice cannot rely on the node; nothing: it can. docs/operations.md
std::optional<std::string> obstacle_to_strict(WatchdogKind watchdog, bool fence_agent,
                                              const std::string& name);

}  // namespace holdfast::qdisk
