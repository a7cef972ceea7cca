#pragma once
// One loop with the connections placed on it: pools, units, sessions. Implements what the control
// loop asks of it. Thread: its loop's.

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/base/random.h"
#include "common/base/slot_pool.h"
#include "common/io/loop.h"
#include "common/io/network.h"
#include "target/connection.h"
#include "target/logical_unit.h"
#include "target/login_backoff.h"
#include "target/node_link.h"
#include "target/shard_control.h"

namespace holdfast::target {

struct ShardOptions {
  uint32_t index = 0;
  uint64_t buffer_memory_bytes = kDefaultBufferMemoryBytes;
  std::chrono::milliseconds drain_deadline{10'000};
  std::function<uint32_t()> busy_permille;
};

class Shard final : public ShardControl {
 public:
  // Memory is taken here; there must be enough of it.
  Shard(ShardOptions options, io::Loop& loop, io::Network& network, base::Random& random,
        NodeLink& node);
  ~Shard() override;

  // ShardControl
  ShardLoad load() const override;
  void set_map(std::shared_ptr<const NodeMap> map) override;
  void add_unit(std::shared_ptr<const UnitState> unit) override;
  void publish_unit(std::shared_ptr<const UnitState> unit) override;
  void remove_unit(UnitId unit, Done done) override;
  void adopt(io::Socket socket, uint16_t portal_group_tag) override;
  void drop_oldest_login() override;
  void abort_tasks(AbortRequest request, Done done) override;
  void raise_attention(const AttentionRequest& request) override;
  void drop_session(SessionId session, const char* reason) override;
  void request_logout(SessionId session) override;
  void close_gate(UnitId unit, ExclusiveId id, BlockRange range, Done done) override;
  void open_gate(UnitId unit, ExclusiveId id) override;
  ShardStatus status() override;
  void begin_shutdown(Done done) override;

  // For its connections, sessions and tasks.
  io::Loop& loop() { return loop_; }
  io::Network& network() { return network_; }
  base::Random& random() { return random_; }
  NodeLink& node() { return node_; }
  const ShardOptions& options() const { return options_; }
  uint32_t index() const { return options_.index; }
  bool shutting_down() const { return shutting_down_; }
  std::shared_ptr<const NodeMap> map() const { return map_; }
  BufferPool& buffers() { return *buffers_; }
  LoginBackoff& login_backoff() { return login_backoff_; }

  Connection* find(SessionId id);
  Session* find_session(SessionId id);  // null also once it is closing
  LogicalUnit* find_unit(UnitId id);
  Task* find_task(uint32_t slot, uint64_t serial);
  R2t* find_r2t(uint32_t ttt);
  uint32_t ttt_of(const Task& task, const R2t& r2t) const;

  Task* acquire_task();
  void release(Task& task);
  Chunk* acquire_chunk() { return chunks_.acquire(); }
  void release(Chunk& chunk) { chunks_.release(&chunk); }
  ControlPdu* acquire_control_pdu() { return control_pdus_.acquire(); }
  void release(ControlPdu& pdu) { control_pdus_.release(&pdu); }

  // Aborts the tasks and calls done when none of them is active any more: true; or false after the
  // deadline (zero: none), while they still end on their own. done may be called from within.
  using Drained = std::move_only_function<void(bool) noexcept>;
  struct DrainOptions {
    SessionId requester = 0;   // its own commands report nothing
    bool awaits_data = false;  // ... and end when the data of their open R2Ts has come
    io::Duration deadline = io::Duration::zero();
  };
  void drain(std::vector<Task*> tasks, const DrainOptions& options, Drained done);
  void task_ended(Task& task, uint64_t serial);  // the slot may be another task's already

  // Buffers are short: the task gets on_buffer_available() in turn, the connection resume().
  void wait_for_buffer(Task& task);
  void stop_waiting(Task& task);
  void resume_later(Connection& connection);
  void cancel_resume(Connection& connection);
  // A buffer or slot came free.
  void wake_waiters();

  void bury(Connection& connection);
  void login_began() { logging_in_.fetch_add(1, std::memory_order_relaxed); }
  void login_ended() { logging_in_.fetch_sub(1, std::memory_order_relaxed); }
  void count_failed_login() { ++logins_failed_; }
  void count_rejected_pdu() { ++pdus_rejected_; }

 private:
  struct Drain {
    std::vector<std::pair<Task*, uint64_t>> left;  // with serial numbers
    io::Instant deadline{};                        // zero: none
    Drained done;
  };
  struct Removal {
    UnitId unit;
    Done done;
  };

  bool affected(const Task& task, const AbortRequest& request) const;
  void update_sessions();
  void finish_removal(UnitId unit);
  void on_housekeeping() noexcept;
  void on_wake(int32_t) noexcept;
  void on_bury(int32_t) noexcept;
  void expire_drains(io::Instant now);
  void maybe_shut_down();

  ShardOptions options_;
  io::Loop& loop_;
  io::Network& network_;
  base::Random& random_;
  NodeLink& node_;
  std::shared_ptr<const NodeMap> map_ = std::make_shared<NodeMap>();

  std::unique_ptr<BufferPool> buffers_;
  base::SlotPool<Chunk> chunks_{kMaxChunks};
  base::SlotPool<ControlPdu> control_pdus_{kMaxControlPdus};
  std::unique_ptr<Task[]> tasks_;
  std::vector<uint32_t> free_tasks_;
  uint64_t next_serial_ = 1;

  std::map<UnitId, std::unique_ptr<LogicalUnit>> units_;
  std::map<SessionId, std::unique_ptr<Connection>> connections_;
  std::atomic<uint32_t> connection_count_{0};
  std::atomic<uint32_t> logging_in_{0};
  uint64_t next_connection_ = 1;
  std::vector<Connection*> dead_;
  std::vector<Drain> drains_;

  boost::intrusive::list<Task, boost::intrusive::member_hook<Task, TaskHook, &Task::wait_hook>>
      waiting_tasks_;
  boost::intrusive::list<
      Connection, boost::intrusive::member_hook<Connection, boost::intrusive::list_member_hook<>,
                                                &Connection::paused_hook>>
      paused_;

  LoginBackoff login_backoff_;
  uint64_t logins_failed_ = 0;
  uint64_t pdus_rejected_ = 0;
  Done shutdown_done_;
  bool shutting_down_ = false;

  io::TimerOf<Shard, &Shard::on_housekeeping> housekeeping_{*this};
  io::OpOf<Shard, &Shard::on_wake> wake_op_{*this};
  io::OpOf<Shard, &Shard::on_bury> bury_op_{*this};
};

}  // namespace holdfast::target
