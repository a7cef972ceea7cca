#pragma once
// Signals as completions on a loop.

#include <signal.h>
#include <sys/signalfd.h>

#include <functional>
#include <memory>

#include "common/base/result.h"
#include "common/io/uring_loop.h"

namespace holdfast::daemon {

// Owner: main. Thread: the loop's, from start() on.
class SignalWatch {
 public:
  using Callback = std::move_only_function<void(int signal) noexcept>;

  // Blocks SIGTERM, SIGINT and SIGHUP for the calling thread and those it starts, so that only the
  // watch sees them. Call it before any thread is started.
  static base::Result<std::unique_ptr<SignalWatch>> open();
  ~SignalWatch();

  void start(io::UringLoop& loop, Callback callback);
  // No more callbacks. The read that waits ends with the loop's ring.
  void stop();

 private:
  explicit SignalWatch(int fd) : fd_(fd) {}
  void read();
  void on_read(int32_t result) noexcept;

  int fd_;
  io::UringLoop* loop_ = nullptr;
  Callback callback_;
  signalfd_siginfo info_{};
  io::OpOf<SignalWatch, &SignalWatch::on_read> read_op_{*this};
};

}  // namespace holdfast::daemon
