#pragma once
// What a node says of itself on the witness, and over the cluster networks.

#include <array>
#include <cstdint>

#include "qdisk/decision.h"

namespace holdfast::qdisk {

inline constexpr size_t kMaxNetworks = 2;

enum class NodeState : uint8_t {
  none = 0,
  joining,  // wants to become a member
  member,
  stopped,  // has ended all its I/O and its roles of its own will: nothing is to be waited for
};

const char* to_string(NodeState state);

// What ends the host when its daemon no longer says that it may live, if that runs now.
enum class WatchdogKind : uint8_t {
  none = 0,
  lab,   // the test double: it ends what runs on a host of the lab
  real,  // it resets the host
};

const char* to_string(WatchdogKind kind);

struct Heartbeat {
  NodeId node = kNoNode;
  NodeState state = NodeState::none;
  Incarnation incarnation = 0;
  uint64_t sequence = 0;     // a reader looks for a change of (incarnation, sequence)
  uint64_t boottime_ns = 0;  // of the writer's CLOCK_BOOTTIME; never compared between hosts
  Epoch epoch = 0;           // the newest it knows
  std::array<NodeSet, kMaxNetworks> heard_net{};  // whom it hears over each network
  NodeSet heard_disk;                             // whose disk heartbeats it sees change
  // The newest epoch of which this node has dropped everything that those who are no members any
  // more had asked of it: their connections, what they had queued here, what was being executed.
  Epoch quiesced = 0;
  // The newest epoch of which it knows that nothing of those who are no members any more can land.
  Epoch fenced = 0;
  bool fenced_timed = false;  // ... since a time has gone by, not since the targets have said so
  uint16_t volumes_ok = 0;    // bit i: it reaches volume i
  uint64_t reservation_key = 0;
  uint32_t io_p99_us = 0;  // its own writes of heartbeats
  bool remembers = true;   // false: it has lost its state, and neither votes nor proposes yet
  WatchdogKind watchdog = WatchdogKind::none;
  // It has begun to listen, or was stopped, less than net_dead ago: it may not have heard everybody
  // whom it could hear.
  bool settling = false;
  uint32_t agreement = 0;  // over a network: RpcTransport's
  bool operator==(const Heartbeat&) const = default;
};

}  // namespace holdfast::qdisk
