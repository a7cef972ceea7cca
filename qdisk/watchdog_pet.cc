#include "qdisk/watchdog_pet.h"

#include <algorithm>

namespace holdfast::qdisk {

namespace {

// Several pets may fail or come late before the watchdog fires.
constexpr int kPetsPerTimeout = 5;
constexpr io::Duration kShortest = std::chrono::milliseconds(100);
constexpr io::Duration kLongest = std::chrono::seconds(1);

}  // namespace

WatchdogPetter::WatchdogPetter(const Timers& timers)
    : kill_(timers.kill),
      interval_(std::clamp<io::Duration>(timers.watchdog / kPetsPerTimeout, kShortest, kLongest)) {}

WatchdogAdvice WatchdogPetter::look(io::Instant now, const LeaseNow& lease) {
  WatchdogAdvice advice{.look_again = now + interval_};
  if (lease.valid) {
    until_ = lease.until;
    must_end_by_.reset();
  } else if (until_ && !must_end_by_) {
    // The end of the lease, if it was not seen in time; an eviction ends it before.
    must_end_by_ = std::min(*until_, now) + kill_;
  }
  advice.must_end_by = must_end_by_;
  if (lease.valid && lease.ample) {
    if (!next_ || now >= *next_) {
      advice.act = armed_ ? WatchdogAct::pet : WatchdogAct::arm;
      next_ = now + interval_;
    }
    advice.look_again = *next_;
  }
  // Whoever must stop everything has K from the end of the lease on, not from a later look.
  if (lease.valid && lease.until) advice.look_again = std::min(advice.look_again, *lease.until);
  return advice;
}

}  // namespace holdfast::qdisk
