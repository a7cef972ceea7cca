#include "common/daemon/signal_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/base/log.h"
#include "common/daemon/edge_thread.h"

namespace holdfast::daemon {

using Clock = std::chrono::steady_clock;

base::Result<std::unique_ptr<SignalWatch>> SignalWatch::open(std::chrono::milliseconds limit) {
  sigset_t watched;
  sigemptyset(&watched);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&watched, signal);
  if (pthread_sigmask(SIG_BLOCK, &watched, nullptr) != 0) {
    return base::fail(base::Errc::io, "signals cannot be blocked", errno);
  }
  const int signal_fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd < 0) return base::fail(base::Errc::limit, "signalfd failed", errno);
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    const int error = errno;
    ::close(signal_fd);
    return base::fail(base::Errc::limit, "eventfd failed", error);
  }
  return std::unique_ptr<SignalWatch>(new SignalWatch(signal_fd, wake_fd, limit));
}

SignalWatch::SignalWatch(int signal_fd, int wake_fd, std::chrono::milliseconds limit)
    : signal_fd_(signal_fd), wake_fd_(wake_fd), limit_(limit) {
  thread_ = start_edge_thread("hf-signals", [this] { run(); });
}

SignalWatch::~SignalWatch() {
  {
    const io::MutexLock lock(mutex_);
    closing_ = true;
  }
  wake();
  thread_.join();
  ::close(signal_fd_);
  ::close(wake_fd_);
}

void SignalWatch::start(io::Loop& loop, Callback callback) {
  callback_ = std::move(callback);
  std::vector<int> early;
  {
    const io::MutexLock lock(mutex_);
    loop_ = &loop;
    step_ = "commands and sessions to end";
    early.swap(early_);
  }
  for (const int signal : early) on_signal(signal);
}

void SignalWatch::begin_end(int status) {
  callback_ = {};
  {
    const io::MutexLock lock(mutex_);
    loop_ = nullptr;
    status_ = status;
    if (!end_at_) end_at_ = Clock::now() + limit_;
  }
  wake();
}

void SignalWatch::set_step(std::string step) {
  const io::MutexLock lock(mutex_);
  step_ = std::move(step);
}

void SignalWatch::wake() const {
  const uint64_t one = 1;
  // It fails only when the counter is full, and then the thread is awake.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof(one));
}

void SignalWatch::run() {
  for (;;) {
    int timeout_ms = -1;
    {
      const io::MutexLock lock(mutex_);
      if (closing_) return;
      if (end_at_) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*end_at_ - Clock::now());
        if (left.count() <= 0) end_now();
        timeout_ms = static_cast<int>(left.count());
      }
    }
    std::array<pollfd, 2> polled{{{.fd = signal_fd_, .events = POLLIN, .revents = 0},
                                  {.fd = wake_fd_, .events = POLLIN, .revents = 0}}};
    ::poll(polled.data(), polled.size(), timeout_ms);
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t drained = ::read(wake_fd_, &count, sizeof(count));
    signalfd_siginfo info{};
    while (::read(signal_fd_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      on_signal(static_cast<int>(info.ssi_signo));
    }
  }
}

void SignalWatch::on_signal(int signal) {
  const io::MutexLock lock(mutex_);
  // Now, and not when the loop has heard of it: the loop may be what hangs.
  if (signal != SIGHUP && !end_at_) end_at_ = Clock::now() + limit_;
  if (loop_ != nullptr) {
    loop_->post([this, signal]() noexcept {
      if (callback_) callback_(signal);
    });
  } else if (std::ranges::find(early_, signal) == early_.end()) {
    early_.push_back(signal);
  }
}

void SignalWatch::end_now() {
  LOG_ERROR("daemon", "not ended {} ms after it was told to, exiting all the same: waits for {}",
            limit_.count(), step_);
  _exit(status_);
}

}  // namespace holdfast::daemon
