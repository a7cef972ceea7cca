#include "common/daemon/signal_watch.h"

#include <unistd.h>

#include <cerrno>

namespace holdfast::daemon {

base::Result<std::unique_ptr<SignalWatch>> SignalWatch::open() {
  sigset_t watched;
  sigemptyset(&watched);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&watched, signal);
  if (pthread_sigmask(SIG_BLOCK, &watched, nullptr) != 0) {
    return base::fail(base::Errc::io, "signals cannot be blocked", errno);
  }
  const int fd = signalfd(-1, &watched, SFD_CLOEXEC);
  if (fd < 0) return base::fail(base::Errc::limit, "signalfd failed", errno);
  return std::unique_ptr<SignalWatch>(new SignalWatch(fd));
}

SignalWatch::~SignalWatch() {
  if (read_op_.busy()) read_op_.abandon();  // its ring is gone or no longer run
  ::close(fd_);
}

void SignalWatch::start(io::UringLoop& loop, Callback callback) {
  loop_ = &loop;
  callback_ = std::move(callback);
  read();
}

void SignalWatch::stop() {
  callback_ = {};
  loop_->cancel(read_op_);
}

void SignalWatch::read() {
  io_uring_prep_read(loop_->prepare(read_op_), fd_, &info_, sizeof(info_), 0);
}

void SignalWatch::on_read(int32_t result) noexcept {
  if (!callback_) return;
  if (result == static_cast<int32_t>(sizeof(info_))) callback_(static_cast<int>(info_.ssi_signo));
  if (callback_) read();
}

}  // namespace holdfast::daemon
