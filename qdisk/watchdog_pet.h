#pragma once
// When the watchdog is to be armed and petted, and by when everything must have ended. Pure.

#include <optional>

#include "common/io/loop.h"
#include "qdisk/timers.h"

namespace holdfast::qdisk {

// As Membership has it at the moment of the look.
struct LeaseNow {
  std::optional<io::Instant> until;  // lease_until()
  bool valid = false;                // lease_valid()
  bool ample = false;                // lease_ample()
};

enum class WatchdogAct : uint8_t { none, arm, pet };

struct WatchdogAdvice {
  WatchdogAct act = WatchdogAct::none;  // at once: the lease was looked at for it
  io::Instant look_again{};             // at the latest
  // The lease is gone: whatever lives by it must have ended by then (K), and may have to be killed.
  // Later the watchdog ends it. It may be past already, after a pause of this process.
  std::optional<io::Instant> must_end_by;
};

// Owner: the daemon, which looks again when the time has come and whenever the lease changes.
class WatchdogPetter {
 public:
  explicit WatchdogPetter(const Timers& timers);

  // Arms at the first ample lease, and later at another one if that failed. Without an ample lease
  // there is neither an arm nor a pet, whatever was due.
  WatchdogAdvice look(io::Instant now, const LeaseNow& lease);
  // Only when Watchdog::arm() has succeeded.
  void on_armed() { armed_ = true; }
  void on_disarmed() { armed_ = false; }
  io::Duration interval() const { return interval_; }

 private:
  const io::Duration kill_;
  const io::Duration interval_;
  bool armed_ = false;
  std::optional<io::Instant> next_;           // the act that is due then; none yet: at once
  std::optional<io::Instant> until_;          // the end of the lease that was last seen to be valid
  std::optional<io::Instant> must_end_by_{};  // once it is gone
};

}  // namespace holdfast::qdisk
