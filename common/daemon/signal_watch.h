#pragma once
// Signals as callbacks on a loop, and the promise that a daemon which is told to end ends in time:
// whatever hangs (a file system below the state store, below a file that is read, below a join of
// threads), a thread that waits for nothing but signals ends the process then. That is no worse
// than a crash: what was acknowledged is durable already.

#include <signal.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/result.h"
#include "common/io/loop.h"
#include "common/io/mutex.h"

namespace holdfast::daemon {

// The end of the process is promised within 5 s of SIGTERM; the kernel needs some of them.
inline constexpr auto kEndLimit = std::chrono::milliseconds(4500);

// Owner: main. Calls from main's thread; the callback comes on the loop's.
class SignalWatch {
 public:
  using Callback = std::move_only_function<void(int signal) noexcept>;

  // Blocks SIGTERM, SIGINT and SIGHUP for the calling thread and those it starts, so that only the
  // watch sees them. Call it before any thread is started. From SIGTERM or SIGINT on the process
  // has `limit` to end.
  static base::Result<std::unique_ptr<SignalWatch>> open(
      std::chrono::milliseconds limit = kEndLimit);
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  ~SignalWatch();

  // Also for the signals that have come since open().
  void start(io::Loop& loop, Callback callback);
  // The end has begun: no more callbacks. Without a signal the limit counts from now; the process
  // ends with this status if it is reached. On the loop's thread, or after the loop.
  void begin_end(int status);
  // What the process waits for from now on, to be named when the limit is reached.
  void set_step(std::string step);

 private:
  using Instant = std::chrono::steady_clock::time_point;

  SignalWatch(int signal_fd, int wake_fd, std::chrono::milliseconds limit);
  void run();
  void on_signal(int signal);
  void wake() const;
  [[noreturn]] void end_now() HOLDFAST_REQUIRES(mutex_);

  const int signal_fd_;
  const int wake_fd_;
  const std::chrono::milliseconds limit_;
  Callback callback_;  // the loop's thread
  io::Mutex mutex_;
  io::Loop* loop_ HOLDFAST_GUARDED_BY(mutex_) = nullptr;
  std::vector<int> early_ HOLDFAST_GUARDED_BY(mutex_);
  std::optional<Instant> end_at_ HOLDFAST_GUARDED_BY(mutex_);
  int status_ HOLDFAST_GUARDED_BY(mutex_) = 0;
  std::string step_ HOLDFAST_GUARDED_BY(mutex_) = "its start";
  bool closing_ HOLDFAST_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last
};

}  // namespace holdfast::daemon
