#pragma once
// The event loop's seam: production runs UringLoop, the simulator SimLoop. docs/event_loop.md.

#include <boost/intrusive/set_hook.hpp>
#include <chrono>
#include <cstdint>
#include <functional>

#include "common/io/op.h"

namespace holdfast::io {

struct LoopClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<LoopClock>;
  static constexpr bool is_steady = true;
};
using Duration = std::chrono::nanoseconds;
using Instant = std::chrono::time_point<LoopClock>;  // CLOCK_BOOTTIME; of one host

// A one-shot alarm embedded in its owner. Fires on the owner's loop; stop() and restart are cheap.
class Timer {
 public:
  using Callback = void (*)(Timer&) noexcept;
  explicit Timer(Callback callback) : callback_(callback) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { ASSERT(!armed()); }
  bool armed() const { return hook.is_linked(); }
  void fire() { callback_(*this); }

  // For loops only.
  boost::intrusive::set_member_hook<> hook;
  Instant deadline{};

 private:
  Callback callback_;
};

template <class Owner, auto kMethod>
class TimerOf : public Timer {
 public:
  explicit TimerOf(Owner& owner)
      : Timer([](Timer& timer) noexcept { (static_cast<TimerOf&>(timer).owner_.*kMethod)(); }),
        owner_(owner) {}

 private:
  Owner& owner_;
};

// Work handed to another loop. Allocates: control paths only, never per I/O.
using Task = std::move_only_function<void() noexcept>;

class Loop {
 public:
  virtual ~Loop() = default;

  // Time at the start of the current turn: cheap, the same for all of one batch of completions.
  virtual Instant now() const = 0;

  // Arms (or re-arms) the timer to fire once, `after` from now.
  virtual void start(Timer& timer, Duration after) = 0;
  virtual void stop(Timer& timer) = 0;  // no-op when not armed

  // Runs the task on this loop's thread. The only call that other threads may make.
  virtual void post(Task task) = 0;

  // Own thread: completes the op in a later step of this turn. For devices without a kernel op.
  virtual void complete_soon(Op& op, int32_t result) = 0;

  // Own thread: completes the op (result 0) after the current batch of completions has been handled
  // and before the loop submits and sleeps. Used to coalesce what a batch produced into one send.
  virtual void at_turn_end(Op& op) = 0;
};

}  // namespace holdfast::io
