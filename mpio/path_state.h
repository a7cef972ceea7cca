#pragma once
// The state machine of one path: docs/mpio.md, "A path". Pure: events and the time in, effects out;
// the driver carries the effects out and answers with events.

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/base/random.h"
#include "common/io/loop.h"
#include "mpio/limits.h"
#include "mpio/profile.h"

namespace holdfast::mpio {

enum class PathState : uint8_t {
  down,  // not started
  connect,
  login,
  probe,  // identity, capacity, access state, registration
  active,
  marginal,  // works, worse than its siblings: carries I/O only when nothing else does
  suspect,   // silent; new I/O goes elsewhere
  failed,    // its socket is being reset
  fencing,   // its ghosts are being fenced through another path
  backoff,
  drain,  // what is outstanding ends
  logout,
  disabled,      // by the administrator
  unregistered,  // logged in, but this node's reservation key is gone: no I/O until readmitted
  rejected,      // another logical unit is behind it
  fenced,        // the owner of the device says that this node is out
};
inline constexpr size_t kPathStates = 16;

enum class PathEvent : uint8_t {
  // Answers: legal only in the state that asked, anything else is our bug (ASSERT).
  connected,
  logged_in,
  probe_passed,
  closed,              // the socket is gone, nothing of it can be sent any more; nothing to fence
  closed_with_ghosts,  // the same, and writes that it had been given are without an answer
  fence_done,          // cleared, or the plan waits for time or for this path's own login
  drained,
  logged_out,
  timer,
  // From outside: legal in every state, ignored where they mean nothing.
  enable,   // the administrator, or the start of the device
  disable,  // the administrator, or the end of the device
  attempt_failed,
  refused,  // by the target, with a reason that time will not heal: long back-off
  identity_mismatch,
  suspected,
  progressed,
  lost,  // reset, end of stream, protocol error, or the detector's verdict
  went_marginal,
  went_healthy,
  logout_requested,  // by the target: asynchronous message or redirect
  link_up,
  link_down,
  key_missing,
  evicted,  // by the owner of the device: no path may carry anything
  readmitted,
};
inline constexpr size_t kPathEvents = 25;

const char* to_string(PathState state) noexcept;
const char* to_string(PathEvent event) noexcept;

// What the driver does, in this order.
enum class PathEffect : uint16_t {
  stop_io = 1 << 0,        // give it no new request
  reset_socket = 1 << 1,   // SO_LINGER 0 and close, so that the kernel sends nothing more; `closed`
  start_fence = 1 << 2,    // FencePlan of the session that ended; `fence_done`
  cancel_fence = 1 << 3,   // its logins too: the path is going to use the ISID itself
  start_connect = 1 << 4,  // `connected` or `attempt_failed`
  start_login = 1 << 5,    // in the security stage, or tgt does not reinstate; `logged_in`, ...
  start_probe = 1 << 6,    // `probe_passed`, `attempt_failed`, `identity_mismatch`, `key_missing`
  start_drain = 1 << 7,    // `drained` once nothing is outstanding
  send_logout = 1 << 8,    // `logged_out`
  close_socket = 1 << 9,   // after the logout: `closed`
  start_io = 1 << 10,      // it may carry requests again
  arm_timer = 1 << 11,     // one timer per path, replacing what was armed
  stop_timer = 1 << 12,
  notify_up = 1 << 13,    // it came into service
  notify_down = 1 << 14,  // it went out of service
};

class PathEffects {
 public:
  constexpr PathEffects() = default;
  constexpr void add(PathEffect effect) {
    bits_ = static_cast<uint16_t>(bits_ | static_cast<uint16_t>(effect));
  }
  constexpr bool has(PathEffect effect) const {
    return (bits_ & static_cast<uint16_t>(effect)) != 0;
  }
  constexpr bool none() const { return bits_ == 0; }
  constexpr uint16_t bits() const { return bits_; }

  io::Duration timer{};  // with arm_timer

 private:
  uint16_t bits_ = 0;
};

constexpr bool in_service(PathState state) {
  return state == PathState::active || state == PathState::marginal || state == PathState::suspect;
}

struct PathTransition {
  io::Instant at{};
  PathState from = PathState::down;
  PathState to = PathState::down;
  const char* why = "";  // static text
};

// Owner: the device's path. `random` and the profile outlive it.
class PathMachine {
 public:
  PathMachine(const Profile& profile, base::Random& random, io::Instant now);

  // `why` is static text; null: the event's own words.
  PathEffects step(PathEvent event, io::Instant now, const char* why = nullptr);
  void set_profile(const Profile& profile) { profile_ = &profile; }  // from the next state on
  void set_urgent(bool urgent) { urgent_ = urgent; }                 // from the next back-off on

  PathState state() const { return state_; }
  io::Instant since() const { return since_; }
  const char* reason() const { return reason_; }  // of the failure, in FENCING and BACKOFF
  bool disabled_by_administrator() const { return disabled_; }
  uint32_t attempts() const { return attempts_; }  // since it was last stable
  uint64_t failures() const { return failures_; }  // times it fell out of service

  size_t history_count() const { return history_count_; }
  // 0 is the latest.
  const PathTransition& history(size_t index) const;

 private:
  void note_wishes(PathEvent event, const char* why);
  PathState resolve(uint8_t target) const;
  PathState resting_state() const;
  PathEffects enter(PathState next, io::Instant now, const char* why);
  io::Duration timer_of(PathState state);
  io::Duration next_backoff();
  io::Duration longest_backoff() const { return urgent_ ? kUrgentBackoff : kLongestBackoff; }

  const Profile* profile_;
  base::Random* random_;
  PathState state_ = PathState::down;
  io::Instant since_;
  io::Instant in_service_since_{};
  const char* reason_ = "not started";
  // Why it may not be used, independent of what it does at the moment.
  bool disabled_ = false;
  bool rejected_ = false;
  bool evicted_ = false;
  const char* disabled_why_ = "";  // of each wish, as long as it holds
  const char* rejected_why_ = "";
  const char* evicted_why_ = "";
  bool quarantined_ = false;  // marginal, also across sessions
  bool urgent_ = false;
  uint32_t attempts_ = 0;
  uint64_t failures_ = 0;
  std::array<PathTransition, kPathHistory> history_{};
  size_t history_next_ = 0;
  size_t history_count_ = 0;
};

}  // namespace holdfast::mpio
