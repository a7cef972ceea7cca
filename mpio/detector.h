#pragma once
// Is a path alive? Tells a dead network from a target that is slow: docs/mpio.md, "Detection".
// Pure. One per session; the driver reports what happened and asks look() when it said so.

#include <cstdint>

#include "common/io/loop.h"
#include "mpio/profile.h"

namespace holdfast::mpio {

// What the kernel knows of a connection (TCP_INFO), taken at the time of the look.
struct TransportSnapshot {
  bool valid = false;
  uint8_t backoff = 0;                // retransmissions, or window probes, in a row
  uint32_t unacked = 0;               // segments sent and not acknowledged
  uint32_t unsent_bytes = 0;          // in the socket, not yet sent
  uint32_t last_ack_received_ms = 0;  // ago
  uint32_t last_data_received_ms = 0;
  uint32_t rtt_us = 0;
  uint64_t retransmits_total = 0;
};

enum class PathVerdict : uint8_t {
  ok,
  suspect,               // silent: a NOP is asked for, new I/O goes elsewhere
  target_stalled,        // the same, and the network is not what is wrong
  net_dead,              // give it up
  target_stall_expired,  // give it up: the target had its time
  link_lost,             // give it up: no carrier or no address
};

const char* to_string(PathVerdict verdict) noexcept;

constexpr bool gives_up(PathVerdict verdict) { return verdict >= PathVerdict::net_dead; }

struct Look {
  PathVerdict verdict = PathVerdict::ok;
  bool send_nop = false;   // immediate, ahead of queued data; on_nop_sent() once it is with TCP
  bool send_test = false;  // TEST UNIT READY: does the logical unit still answer on this path?
  io::Instant next{};      // look again then, and at once after a link event
};

class Detector {
 public:
  // From full feature phase on.
  Detector(const Profile& profile, io::Instant now);
  void set_profile(const Profile& profile) { profile_ = &profile; }

  // Cheap: called for every receive and every request.
  void on_received(io::Instant now) { last_received_ = now; }
  void on_outstanding(uint32_t count, io::Instant now);
  void on_nop_sent() { nop_wanted_ = false; }
  void on_nop_answered(io::Instant now);
  void on_link_down(io::Instant now);
  void on_link_up(io::Instant now);
  // The loop itself says that it was late; look() also notices when it is called late.
  void on_loop_late(io::Duration late, io::Instant now);

  Look look(io::Instant now, const TransportSnapshot& transport);

  uint64_t stalls_of_ours() const { return stalls_of_ours_; }

 private:
  bool net_dead(const TransportSnapshot& transport) const;
  io::Instant silent_since() const;
  void restart(io::Instant now);
  bool ask(io::Instant now);
  Look judge_silence(io::Instant now, const TransportSnapshot& transport);
  void idle_work(io::Instant now, Look& look);

  const Profile* profile_;
  io::Instant last_received_;
  io::Instant waiting_since_;  // the first of what is outstanding now
  io::Instant last_nop_;
  io::Instant last_test_;
  io::Instant nop_since_{};  // while nop_outstanding_
  io::Instant link_down_since_{};
  io::Instant promised_;  // the last `next`
  uint32_t outstanding_ = 0;
  bool nop_outstanding_ = false;
  bool nop_wanted_ = false;  // asked for, and not yet sent
  bool link_down_ = false;
  bool patient_ = false;  // the same slow requests have let a NOP through before
  uint64_t stalls_of_ours_ = 0;
};

}  // namespace holdfast::mpio
