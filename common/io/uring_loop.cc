#include "common/io/uring_loop.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/base/log.h"

namespace holdfast::io {
namespace {

constexpr const char* kLog = "loop";

// liburing 2.3 and the 6.1 kernel headers of Debian 12 know all flags used here.
constexpr unsigned kSetupFlags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE |
                                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED;

// Calls that block inside a file system run on kernel workers. There must be more of them than one
// stalled backing can hold (target/limits.h: commands in flight per logical unit), so that it never
// takes another backing's workers.
constexpr unsigned kMaxKernelWorkers = 2048;

constexpr Duration kLongestWait = std::chrono::seconds(1);

// Counts while the host is suspended, too: what had a deadline, a lease above all, has not waited
// for it.
Instant monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return Instant(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

}  // namespace

base::Result<std::unique_ptr<UringLoop>> UringLoop::open(const UringLoopOptions& options) {
  std::unique_ptr<UringLoop> loop(new UringLoop(options));
  io_uring_params params{};
  params.flags = kSetupFlags;
  params.cq_entries = options.cq_entries;
  const int error = io_uring_queue_init_params(options.sq_entries, &loop->ring_, &params);
  if (error < 0) {
    return base::fail(base::Errc::unsupported,
                      "io_uring cannot be set up: it needs kernel 6.1 or newer and must not be "
                      "disabled (sysctl kernel.io_uring_disabled)",
                      -error);
  }
  loop->ring_open_ = true;
  loop->wakeup_fd_ = eventfd(0, EFD_CLOEXEC);
  if (loop->wakeup_fd_ < 0) return base::fail(base::Errc::limit, "eventfd failed", errno);
  loop->now_ = monotonic_now();
  return loop;
}

UringLoop::~UringLoop() {
  ASSERT(timers_.empty() && soon_.empty() && turn_end_.empty());
  if (ring_open_) io_uring_queue_exit(&ring_);
  if (wakeup_fd_ >= 0) ::close(wakeup_fd_);
  if (wakeup_op_.busy()) wakeup_op_.abandon();  // the ring it waited in is gone
}

void UringLoop::run() {
  // By hand: Debian's liburing 2.3 declares io_uring_enable_rings() but does not export it.
  const long enabled =
      syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  ASSERT(enabled == 0);
  unsigned workers[2] = {kMaxKernelWorkers, kMaxKernelWorkers};
  if (const int error = io_uring_register_iowq_max_workers(&ring_, workers); error < 0) {
    LOG_WARNING(kLog, "kernel workers cannot be set: errno={}", -error);
  }
  now_ = window_start_ = monotonic_now();
  arm_wakeup();
  while (!stopping_.load(std::memory_order_acquire)) turn();
}

void UringLoop::stop() {
  stopping_.store(true, std::memory_order_release);
  post([]() noexcept {});
}

void UringLoop::turn() {
  run_posted();
  fire_timers();
  complete_list(soon_);
  complete_list(turn_end_);
  submit_and_wait();
  reap();
}

void UringLoop::run_posted() {
  {
    const MutexLock lock(posted_mutex_);
    running_.swap(posted_);
  }
  for (Task& task : running_) task();
  running_.clear();
}

void UringLoop::fire_timers() {
  // A timer that is armed again by its callback waits for the next turn even with no delay.
  const Instant due = now_;
  while (!timers_.empty() && timers_.begin()->deadline <= due) {
    Timer& timer = *timers_.begin();
    timers_.erase(timers_.begin());
    timer.fire();
  }
}

void UringLoop::complete_list(OpList& list) {
  OpList due;
  due.swap(list);
  while (!due.empty()) {
    Op& op = due.front();
    due.pop_front();
    op.complete(op.pending_result);
  }
}

// It holds completions back until the next call.
bool UringLoop::kernel_has_work() const {
  constexpr unsigned kWork = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
  return (IO_URING_READ_ONCE(*ring_.sq.kflags) & kWork) != 0;
}

bool UringLoop::spin() {
  const Duration limit = std::chrono::microseconds(options_.spin_us);
  if (limit.count() == 0 || recent_gap_ > limit) return false;
  const Instant end = monotonic_now() + limit;
  io_uring_submit(&ring_);
  do {
    for (int i = 0; i < 64; ++i) {
      if (io_uring_cq_ready(&ring_) > 0 || kernel_has_work()) return true;
      __builtin_ia32_pause();
    }
  } while (monotonic_now() < end);
  return false;
}

void UringLoop::submit_and_wait() {
  Duration wait = kLongestWait;
  if (!timers_.empty()) wait = std::min(wait, timers_.begin()->deadline - monotonic_now());
  if (!soon_.empty() || !turn_end_.empty()) wait = Duration::zero();
  if (wait <= Duration::zero()) {
    io_uring_submit_and_get_events(&ring_);
    now_ = monotonic_now();
    return;
  }
  const Instant before = monotonic_now();
  if (spin()) {
    // All is submitted; what has completed already needs no call.
    if (kernel_has_work()) io_uring_get_events(&ring_);
  } else {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
    __kernel_timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (wait - seconds).count()};
    io_uring_cqe* cqe = nullptr;
    io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
  }
  now_ = monotonic_now();
  account(before, now_);
}

void UringLoop::account(Instant before_wait, Instant after_wait) {
  const Duration waited = after_wait - before_wait;
  // One long gap does not end spinning, a few do; one short gap does not start it, a few do.
  recent_gap_ = (recent_gap_ * 3 + std::min<Duration>(waited, std::chrono::milliseconds(10))) / 4;
  window_idle_ += waited;
  const Duration window = after_wait - window_start_;
  if (window >= std::chrono::seconds(1)) {
    const auto idle = static_cast<uint64_t>(window_idle_.count());
    const auto total = static_cast<uint64_t>(window.count());
    busy_permille_.store(static_cast<uint32_t>(1000 - std::min(idle, total) * 1000 / total),
                         std::memory_order_relaxed);
    window_start_ = after_wait;
    window_idle_ = Duration::zero();
  }
}

void UringLoop::reap() {
  io_uring_cqe* cqes[64];
  // One pass over what is there now: completions made by these callbacks belong to the next turn.
  unsigned left = std::max(1u, io_uring_cq_ready(&ring_));
  while (left > 0) {
    const unsigned count = io_uring_peek_batch_cqe(&ring_, cqes, std::min(left, 64u));
    if (count == 0) return;
    struct Done {
      Op* op;
      int32_t result;
    } done[64];
    for (unsigned i = 0; i < count; ++i) {
      done[i] = {static_cast<Op*>(io_uring_cqe_get_data(cqes[i])), cqes[i]->res};
    }
    io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) {
      if (done[i].op == nullptr) continue;  // a cancel's own completion
      Op& op = *done[i].op;
      const auto expected = static_cast<uint32_t>(op.scratch);
      const bool short_transfer =
          expected != 0 && done[i].result >= 0 && static_cast<uint32_t>(done[i].result) != expected;
      const int32_t why = (op.scratch & kShortIsFull) != 0 ? -ENOSPC : -EIO;
      op.complete(short_transfer ? why : done[i].result);
    }
    left -= count;
  }
}

void UringLoop::arm_wakeup() {
  io_uring_prep_read(prepare(wakeup_op_), wakeup_fd_, &wakeup_value_, sizeof(wakeup_value_), 0);
}

void UringLoop::on_wakeup(int32_t) noexcept {
  if (!stopping_.load(std::memory_order_acquire)) arm_wakeup();
}

void UringLoop::start(Timer& timer, Duration after) {
  stop(timer);
  // Later than this turn's time in any case: fire_timers() would not end otherwise.
  timer.deadline = now_ + std::max(after, Duration(1));
  timers_.insert(timer);
}

void UringLoop::stop(Timer& timer) {
  if (timer.armed()) timers_.erase(TimerSet::s_iterator_to(timer));
}

void UringLoop::post(Task task) {
  const MutexLock lock(posted_mutex_);
  const bool first = posted_.empty();
  posted_.push_back(std::move(task));
  if (!first) return;
  // Under the lock: a loop that is awake anyway may run the task at once, and the task be the last
  // thing that its owner waits for. The descriptor must not be closed, or another's, by then.
  const uint64_t one = 1;
  const ssize_t written = ::write(wakeup_fd_, &one, sizeof(one));
  ASSERT(written == sizeof(one) || errno == EAGAIN);
}

void UringLoop::complete_soon(Op& op, int32_t result) {
  op.begin();
  op.pending_result = result;
  soon_.push_back(op);
}

void UringLoop::at_turn_end(Op& op) {
  op.begin();
  op.pending_result = 0;
  turn_end_.push_back(op);
}

io_uring_sqe* UringLoop::prepare(Op& op, uint32_t expected) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {  // the queue is full: hand it over, then there is room
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  op.begin();
  op.scratch = expected;
  io_uring_sqe_set_data(sqe, &op);
  return sqe;
}

void UringLoop::cancel(Op& op) {
  if (!op.busy()) return;
  if (op.hook.is_linked()) return;  // completes in this turn anyway
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  io_uring_prep_cancel(sqe, &op, 0);
  io_uring_sqe_set_data(sqe, nullptr);
}

}  // namespace holdfast::io
