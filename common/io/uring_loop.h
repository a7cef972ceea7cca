#pragma once
// The production loop: one thread, one io_uring. docs/event_loop.md.

#include <liburing.h>

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <memory>
#include <vector>

#include "common/base/result.h"
#include "common/io/loop.h"
#include "common/io/mutex.h"
#include "common/io/network.h"

namespace holdfast::io {

struct UringLoopOptions {
  uint32_t sq_entries = 1024;
  uint32_t cq_entries = 8192;
  // Before it sleeps the loop watches for completions this long, but only while the recent gaps
  // between completions were that short: an idle loop never spins.
  uint32_t spin_us = 0;
};

class UringLoop final : public Loop, public Network {
 public:
  // Fails where the kernel lacks what we need (6.1: DEFER_TASKRUN), saying so.
  static base::Result<std::unique_ptr<UringLoop>> open(const UringLoopOptions& options);
  ~UringLoop() override;

  // Runs on the calling thread until stop(). Everything but post() and stop() happens there.
  void run();
  void stop();  // any thread

  // Loop
  Instant now() const override { return now_; }
  void start(Timer& timer, Duration after) override;
  void stop(Timer& timer) override;
  void post(Task task) override;
  void complete_soon(Op& op, int32_t result) override;
  void at_turn_end(Op& op) override;

  // Network
  base::Result<Socket> listen(const Endpoint& endpoint) override;
  base::Result<Socket> listen_unix(const std::string& path, uint32_t mode) override;
  void unlink_unix(const std::string& path) override;
  void accept(Op& op, Socket listener) override;
  base::Result<Socket> open_stream(const Endpoint& peer, const ConnectOptions& options) override;
  void connect(Op& op, Socket socket, const Endpoint& peer) override;
  base::Result<Socket> connect_unix(const std::string& path) override;
  void receive(Op& op, Socket socket, std::span<const iovec> buffers) override;
  void send(Op& op, Socket socket, std::span<const iovec> buffers) override;
  void watch_hangup(Op& op, Socket socket) override;
  void cancel(Op& op) override;
  void shutdown(Socket socket) override;
  void shutdown_send(Socket socket) override;
  void close(Socket socket, bool reset) override;
  Endpoint local_endpoint(Socket socket) override;
  Endpoint peer_endpoint(Socket socket) override;
  TransportInfo transport_info(Socket socket) override;

  // For file devices: an entry whose completion goes to op. A result that is neither an error nor
  // `expected` (when that is not zero) becomes -EIO.
  io_uring_sqe* prepare(Op& op, uint32_t expected = 0);
  // Set in op.scratch after prepare(): it becomes -ENOSPC. A file takes the beginning of a write
  // when there is no room for the rest.
  static constexpr uint64_t kShortIsFull = uint64_t{1} << 32;

  // Share of the last second that the loop was not asleep, in permille. Any thread.
  uint32_t busy_permille() const { return busy_permille_.load(std::memory_order_relaxed); }

 private:
  struct TimerBefore {
    bool operator()(const Timer& a, const Timer& b) const { return a.deadline < b.deadline; }
  };
  using TimerSet = boost::intrusive::multiset<
      Timer,
      boost::intrusive::member_hook<Timer, boost::intrusive::set_member_hook<>, &Timer::hook>,
      boost::intrusive::compare<TimerBefore>>;
  using OpList = boost::intrusive::list<
      Op, boost::intrusive::member_hook<Op, boost::intrusive::list_member_hook<>, &Op::hook>>;

  explicit UringLoop(const UringLoopOptions& options) : options_(options) {}
  void turn();
  void run_posted();
  void fire_timers();
  void complete_list(OpList& list);
  void submit_and_wait();
  bool spin();
  bool kernel_has_work() const;
  void reap();
  void arm_wakeup();
  void account(Instant before_wait, Instant after_wait);

  UringLoopOptions options_;
  io_uring ring_{};
  bool ring_open_ = false;
  int wakeup_fd_ = -1;
  uint64_t wakeup_value_ = 0;
  void on_wakeup(int32_t result) noexcept;
  OpOf<UringLoop, &UringLoop::on_wakeup> wakeup_op_{*this};

  Instant now_{};
  Duration recent_gap_ = std::chrono::seconds(1);
  Instant window_start_{};
  Duration window_idle_{};
  std::atomic<uint32_t> busy_permille_{0};

  TimerSet timers_;
  OpList soon_;
  OpList turn_end_;

  std::atomic<bool> stopping_{false};
  Mutex posted_mutex_;  // control messages only; the I/O path takes no lock
  std::vector<Task> posted_ HOLDFAST_GUARDED_BY(posted_mutex_);
  std::vector<Task> running_;
};

}  // namespace holdfast::io
