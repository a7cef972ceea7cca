#include "target/shard.h"

#include <algorithm>

#include "common/base/log.h"

namespace holdfast::target {
namespace {

// TTT: 4 bits of R2T number, 14 bits of task slot, 13 bits of the task's serial number, so that
// late data for a reused slot finds no open R2T. The top bit stays 0: never the reserved tag.
constexpr unsigned kR2tBits = 4;
constexpr unsigned kSlotBits = 14;
static_assert(kMaxOutstandingR2t <= 1 << kR2tBits && kMaxTasks <= 1 << kSlotBits);

}  // namespace

Shard::Shard(ShardOptions options, io::Loop& loop, io::Network& network, base::Random& random,
             NodeLink& node)
    : options_(std::move(options)),
      loop_(loop),
      network_(network),
      random_(random),
      node_(node),
      tasks_(std::make_unique<Task[]>(kMaxTasks)) {
  const uint64_t bytes = std::max(options_.buffer_memory_bytes, kMinBufferMemoryBytes);
  base::Result<std::unique_ptr<BufferPool>> pool = BufferPool::create(bytes);
  ASSERT(pool.has_value());
  buffers_ = std::move(*pool);
  free_tasks_.reserve(kMaxTasks);
  for (uint32_t slot = kMaxTasks; slot > 0; --slot) {
    tasks_[slot - 1].slot = slot - 1;
    free_tasks_.push_back(slot - 1);
  }
}

Shard::~Shard() {
  ASSERT(connections_.empty());
  if (housekeeping_.armed()) loop_.stop(housekeeping_);
}

// --- what the control loop asks ---

ShardLoad Shard::load() const {
  return {.connections = connection_count_.load(std::memory_order_relaxed),
          .logging_in = logging_in_.load(std::memory_order_relaxed),
          .busy_permille = options_.busy_permille ? options_.busy_permille() : 0};
}

void Shard::set_map(std::shared_ptr<const NodeMap> map) {
  map_ = std::move(map);
  update_sessions();
}

void Shard::update_sessions() {
  for (auto& [id, connection] : connections_) {
    if (connection->session() != nullptr && !connection->closing()) {
      connection->session()->update_units();
    }
  }
}

void Shard::add_unit(std::shared_ptr<const UnitState> unit) {
  const UnitId id = unit->id;
  const bool added =
      units_.emplace(id, std::make_unique<LogicalUnit>(*this, std::move(unit))).second;
  ASSERT(added);
  update_sessions();
}

void Shard::publish_unit(std::shared_ptr<const UnitState> unit) {
  if (LogicalUnit* known = find_unit(unit->id)) known->publish(std::move(unit));
}

void Shard::remove_unit(UnitId id, Done done) {
  LogicalUnit* unit = find_unit(id);
  if (unit == nullptr) return done();
  unit->begin_removal();
  std::vector<Task*> tasks;
  unit->for_each_active([&](Task& task) { tasks.push_back(&task); });
  drain(std::move(tasks), {}, [this, id, done = std::move(done)](bool) mutable noexcept {
    LogicalUnit* drained = find_unit(id);
    // Refused commands whose announced data is still coming entered meanwhile.
    if (drained != nullptr && drained->has_active()) return remove_unit(id, std::move(done));
    for (auto& [session_id, connection] : connections_) {
      if (connection->session() != nullptr) connection->session()->unit_removed(id);
    }
    units_.erase(id);
    done();
  });
}

void Shard::adopt(io::Socket socket, uint16_t portal_group_tag) {
  if (shutting_down_) {
    network_.close(socket, true);
    return;
  }
  const SessionId id = (SessionId{options_.index} << 48) | next_connection_++;
  auto connection = std::make_unique<Connection>(*this, socket, portal_group_tag, id);
  Connection& adopted = *connection;
  connections_.emplace(id, std::move(connection));
  connection_count_.store(static_cast<uint32_t>(connections_.size()), std::memory_order_relaxed);
  if (!housekeeping_.armed()) loop_.start(housekeeping_, kHousekeeping);
  adopted.start();
}

void Shard::drop_oldest_login() {
  for (auto& [id, connection] : connections_) {  // ascending: oldest first
    if (connection->logging_in()) {
      return connection->close("too many connections: the oldest unfinished login makes room");
    }
  }
}

bool Shard::affected(const Task& task, const AbortRequest& request) const {
  const NexusId& nexus = task.session->nexus();
  if (request.spared_task != 0 && task.serial == request.spared_task &&
      task.session->id() == request.requester) {
    return false;
  }
  if (request.target.has_value() && nexus.target_name != *request.target) return false;
  return request.nexuses.empty() ||
         std::ranges::find(request.nexuses, nexus) != request.nexuses.end();
}

void Shard::abort_tasks(AbortRequest request, Done done) {
  std::vector<Task*> tasks;
  for (auto& [id, unit] : units_) {
    if (request.unit.has_value() && id != *request.unit) continue;
    if (!request.nexuses.empty()) unit->end_prevention(request.nexuses);
    unit->for_each_active([&](Task& task) {
      if (affected(task, request)) tasks.push_back(&task);
    });
  }
  drain(std::move(tasks), {.requester = request.requester, .awaits_data = request.awaits_data},
        [done = std::move(done)](bool) mutable noexcept { done(); });
}

void Shard::raise_attention(const AttentionRequest& request) {
  for (auto& [id, unit] : units_) {
    if (!request.unit.has_value() || *request.unit == id) unit->raise(request);
  }
}

void Shard::drop_session(SessionId session, const char* reason) {
  if (Connection* connection = find(session)) connection->close(reason);
}

void Shard::request_logout(SessionId id) {
  if (Session* session = find_session(id)) session->request_logout();
}

void Shard::close_gate(UnitId id, ExclusiveId exclusive, BlockRange range, Done done) {
  LogicalUnit* unit = find_unit(id);
  if (unit == nullptr) return done();
  unit->close_gate(exclusive, range, std::move(done));
}

void Shard::open_gate(UnitId id, ExclusiveId exclusive) {
  if (LogicalUnit* unit = find_unit(id)) unit->open_gate(exclusive);
}

ShardStatus Shard::status() {
  ShardStatus status;
  const io::Instant now = loop_.now();
  for (auto& [id, connection] : connections_) {
    Session* session = connection->session();
    if (session == nullptr) continue;
    SessionStatus& row = status.sessions.emplace_back();
    row.id = id;
    row.initiator_name = session->nexus().initiator_name;
    row.target_name = session->nexus().target_name;
    row.isid = session->nexus().isid;
    row.tsih = session->tsih();
    row.portal_group_tag = session->nexus().portal_group_tag;
    row.peer = connection->peer().to_string();
    row.portal = connection->local().to_string();
    row.user = session->user();
    row.thread = options_.index;
    row.age_ms = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(now - connection->accepted_at())
            .count());
    row.commands_in_flight = session->active_commands();
    row.header_digest = session->parameters().header_digest;
    row.data_digest = session->parameters().data_digest;
    row.state = connection->closing() ? "draining" : "logged in";
  }
  for (auto& [id, unit] : units_) status.counters.emplace_back(id, unit->counters);
  status.logins_failed = logins_failed_;
  status.pdus_rejected = pdus_rejected_;
  status.buffer_bytes_used = buffers_->used_bytes();
  status.buffer_bytes_total = buffers_->total_bytes();
  return status;
}

void Shard::begin_shutdown(Done done) {
  shutting_down_ = true;
  shutdown_done_ = std::move(done);
  for (auto& [id, connection] : connections_) {
    connection->close("the target shuts down");
    // Of those that were closing already, some wait for an answer of the node.
    if (connection->session() != nullptr) connection->session()->abort_all();
  }
  maybe_shut_down();
}

void Shard::maybe_shut_down() {
  if (!shutdown_done_ || !connections_.empty() || bury_op_.busy() || wake_op_.busy()) return;
  if (housekeeping_.armed()) loop_.stop(housekeeping_);
  units_.clear();
  std::exchange(shutdown_done_, nullptr)();
}

// --- look-ups ---

Connection* Shard::find(SessionId id) {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

Session* Shard::find_session(SessionId id) {
  Connection* connection = find(id);
  return connection == nullptr || connection->closing() ? nullptr : connection->session();
}

LogicalUnit* Shard::find_unit(UnitId id) {
  const auto found = units_.find(id);
  return found == units_.end() ? nullptr : found->second.get();
}

Task* Shard::find_task(uint32_t slot, uint64_t serial) {
  Task& task = tasks_[slot];
  return task.state != Task::State::free && task.serial == serial ? &task : nullptr;
}

uint32_t Shard::ttt_of(const Task& task, const R2t& r2t) const {
  const auto number = static_cast<uint32_t>(&r2t - task.r2ts.data());
  const auto generation = static_cast<uint32_t>(task.serial) << (kR2tBits + kSlotBits);
  return (generation | task.slot << kR2tBits | number) & 0x7fffffff;
}

R2t* Shard::find_r2t(uint32_t ttt) {
  const uint32_t number = ttt & ((1u << kR2tBits) - 1);
  const uint32_t slot = (ttt >> kR2tBits) & ((1u << kSlotBits) - 1);
  if (slot >= kMaxTasks || number >= kMaxOutstandingR2t) return nullptr;
  R2t& r2t = tasks_[slot].r2ts[number];
  return r2t.active && r2t.ttt == ttt ? &r2t : nullptr;
}

// --- slots ---

Task* Shard::acquire_task() {
  if (free_tasks_.empty()) return nullptr;
  Task& task = tasks_[free_tasks_.back()];
  free_tasks_.pop_back();
  task.reset();
  task.serial = next_serial_++;
  task.state = Task::State::parked;
  return &task;
}

void Shard::release(Task& task) {
  task.state = Task::State::free;
  free_tasks_.push_back(task.slot);
}

// --- waiting ---

void Shard::drain(std::vector<Task*> tasks, const DrainOptions& options, Drained done) {
  std::vector<std::pair<Task*, uint64_t>> left;
  for (Task* task : tasks) left.emplace_back(task, task->serial);
  const auto ended = [this](const std::pair<Task*, uint64_t>& entry) {
    const Task* task = find_task(entry.first->slot, entry.second);
    return task == nullptr || task->state == Task::State::ended;
  };
  // Ending one task can end others or free them: each is looked up again by its serial number.
  for (const auto& entry : left) {
    if (ended(entry)) continue;
    const bool own = options.requester == entry.first->session->id();
    entry.first->abort(!own, own && options.awaits_data);
  }
  std::erase_if(left, ended);
  if (left.empty()) return done(true);
  const bool bounded = options.deadline > io::Duration::zero();
  const io::Instant at = bounded ? loop_.now() + options.deadline : io::Instant{};
  drains_.push_back({std::move(left), at, std::move(done)});
}

void Shard::task_ended(Task& task, uint64_t serial) {
  if (drains_.empty()) return;
  std::vector<Drained> finished;
  std::erase_if(drains_, [&](Drain& drain) {
    std::erase(drain.left, std::pair(&task, serial));
    if (!drain.left.empty()) return false;
    finished.push_back(std::move(drain.done));
    return true;
  });
  for (Drained& done : finished) done(true);
}

void Shard::expire_drains(io::Instant now) {
  std::vector<Drained> expired;
  std::erase_if(drains_, [&](Drain& drain) {
    if (drain.deadline == io::Instant{} || now < drain.deadline) return false;
    expired.push_back(std::move(drain.done));
    return true;
  });
  for (Drained& done : expired) done(false);
}

void Shard::wait_for_buffer(Task& task) { waiting_tasks_.push_back(task); }

void Shard::stop_waiting(Task& task) {
  if (task.waits_for_buffer) {
    waiting_tasks_.erase(decltype(waiting_tasks_)::s_iterator_to(task));
    task.waits_for_buffer = false;
  }
}

void Shard::resume_later(Connection& connection) {
  if (!connection.paused_hook.is_linked()) paused_.push_back(connection);
}

void Shard::cancel_resume(Connection& connection) {
  if (connection.paused_hook.is_linked()) {
    paused_.erase(decltype(paused_)::s_iterator_to(connection));
  }
}

void Shard::wake_waiters() {
  if (wake_op_.busy() || (waiting_tasks_.empty() && paused_.empty())) return;
  loop_.at_turn_end(wake_op_);
}

void Shard::on_wake(int32_t) noexcept {
  // Each at most once a turn: one that finds nothing again queues again.
  for (size_t left = waiting_tasks_.size(); left > 0 && !waiting_tasks_.empty(); --left) {
    Task& task = waiting_tasks_.front();
    waiting_tasks_.pop_front();
    task.waits_for_buffer = false;
    task.on_buffer_available();  // may queue again; the next one may have a share of its own left
  }
  for (size_t left = paused_.size(); left > 0 && !paused_.empty(); --left) {
    Connection& connection = paused_.front();
    paused_.pop_front();
    connection.resume();
  }
  maybe_shut_down();
}

void Shard::bury(Connection& connection) {
  if (std::ranges::find(dead_, &connection) != dead_.end()) return;
  dead_.push_back(&connection);
  if (!bury_op_.busy()) loop_.complete_soon(bury_op_, 0);
}

void Shard::on_bury(int32_t) noexcept {
  std::vector<Connection*> dead;
  dead.swap(dead_);
  for (Connection* connection : dead) connections_.erase(connection->id());
  connection_count_.store(static_cast<uint32_t>(connections_.size()), std::memory_order_relaxed);
  maybe_shut_down();
}

void Shard::on_housekeeping() noexcept {
  const io::Instant now = loop_.now();
  expire_drains(now);
  for (auto& [id, connection] : connections_) connection->on_housekeeping(now);
  wake_waiters();
  if (!connections_.empty() || !drains_.empty()) loop_.start(housekeeping_, kHousekeeping);
}

}  // namespace holdfast::target
