#pragma once
// Timers of a path, as the configuration's `profile` chooses them. docs/mpio.md, "Detection".

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "common/io/loop.h"

namespace holdfast::mpio {

struct Profile {
  std::string_view name;
  io::Duration connect;        // no SYN-ACK
  io::Duration login;          // from the first Login Request to full feature phase
  io::Duration probe;          // INQUIRY ... registration
  io::Duration suspect_after;  // something outstanding, and no byte received
  io::Duration nop_timeout;    // then the verdict is asked for
  io::Duration ack_silence;    // unacknowledged data, and no ACK: the network is dead
  uint8_t dead_backoff;        // retransmissions of one segment in a row
  io::Duration target_stall;   // ACKs flow, the target says nothing: from the NOP
  io::Duration idle_nop;       // between NOPs on an idle path
  io::Duration test_unit;      // between TEST UNIT READYs on an idle path
  io::Duration link_grace;     // link down: a bond or a switch may take over
};

// Silent loss is found in suspect_after + nop_timeout: 750 ms. The first retransmissions come
// after 200 and 600 ms, so two in a row fall into that time.
inline constexpr Profile kLan{.name = "lan",
                              .connect = std::chrono::seconds(1),
                              .login = std::chrono::seconds(2),
                              .probe = std::chrono::seconds(5),
                              .suspect_after = std::chrono::milliseconds(250),
                              .nop_timeout = std::chrono::milliseconds(500),
                              .ack_silence = std::chrono::milliseconds(600),
                              .dead_backoff = 2,
                              .target_stall = std::chrono::seconds(5),
                              .idle_nop = std::chrono::seconds(1),
                              .test_unit = std::chrono::seconds(5),
                              .link_grace = std::chrono::milliseconds(100)};

// For networks that pause for seconds: the times of open-iscsi's defaults, without its two minutes
// of waiting afterwards.
inline constexpr Profile kSafe{.name = "safe",
                               .connect = std::chrono::seconds(5),
                               .login = std::chrono::seconds(10),
                               .probe = std::chrono::seconds(15),
                               .suspect_after = std::chrono::seconds(5),
                               .nop_timeout = std::chrono::seconds(5),
                               .ack_silence = std::chrono::seconds(6),
                               .dead_backoff = 5,
                               .target_stall = std::chrono::seconds(10),
                               .idle_nop = std::chrono::seconds(5),
                               .test_unit = std::chrono::seconds(10),
                               .link_grace = std::chrono::seconds(1)};

constexpr const Profile* find_profile(std::string_view name) {
  if (name == kLan.name) return &kLan;
  if (name == kSafe.name) return &kSafe;
  return nullptr;
}

// What the verdicts rely on: the stall is judged after the NOP, and an ACK older than the NOP does
// not count for it.
constexpr bool coherent(const Profile& profile) {
  return profile.target_stall > profile.nop_timeout && profile.ack_silence >= profile.nop_timeout &&
         profile.ack_silence < profile.suspect_after + profile.nop_timeout &&
         profile.link_grace < profile.nop_timeout;
}
static_assert(coherent(kLan) && coherent(kSafe));

}  // namespace holdfast::mpio
