#include "tests/sim/sim_loop.h"

#include <utility>

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {
// What a wake-up, a turn and a message between threads cost.
constexpr Duration kWakeMax = 5us;
constexpr Duration kTurnMin = 500ns;
constexpr Duration kTurnMax = 20us;
constexpr Duration kPostMax = 30us;
constexpr Duration kTimerLatenessMax = 100us;
// One turn in so many takes only part of what has arrived.
constexpr uint32_t kPartialBatchPerMillion = 300'000;
}  // namespace

SimLoop::SimLoop(SimWorld& world, SimProcess& process, std::string name)
    : world_(world), process_(process), name_(std::move(name)) {}

SimLoop::~SimLoop() { abandon_all(); }

io::Instant SimLoop::local_now() const { return process_.to_local(world_.now()); }

io::Instant SimLoop::now() const { return in_turn_ ? now_ : local_now(); }

void SimLoop::start(io::Timer& timer, Duration after) {
  if (!alive_) return;
  stop(timer);
  // Never due again in the turn that arms it.
  timer.deadline = now() + std::max(after, Duration(1));
  timers_.insert(timer);
  if (!in_turn_) arm_timer_event();
}

void SimLoop::stop(io::Timer& timer) {
  if (timer.armed()) timers_.erase(timers_.iterator_to(timer));
}

void SimLoop::post(io::Task task) {
  if (!alive_) {
    SimProcess::bury(std::make_shared<io::Task>(std::move(task)));
    return;
  }
  // A queue: tasks become visible in the order in which they were posted.
  Duration visible_at = world_.now() + world_.between(0us, kPostMax);
  if (!posted_.empty()) visible_at = std::max(visible_at, posted_.back().visible_at);
  posted_.push_back({visible_at, std::move(task)});
  world_.at(visible_at, [this] { wake(); });
}

void SimLoop::complete_soon(io::Op& op, int32_t result) {
  if (!alive_) return;
  const uint64_t id = begin(op);
  finished_[id] = result;
  soon_.push_back(id);
  wake();
}

void SimLoop::at_turn_end(io::Op& op) {
  if (!alive_) return;
  const uint64_t id = begin(op);
  finished_[id] = 0;
  turn_end_.push_back(id);
  wake();
}

uint64_t SimLoop::begin(io::Op& op) {
  ASSERT(alive_);  // an object of a killed process is still running
  op.begin();
  const uint64_t id = next_op_id_++;
  busy_.emplace(id, &op);
  op.scratch = id;
  return id;
}

bool SimLoop::unfinished(uint64_t id) const {
  return busy_.contains(id) && !finished_.contains(id);
}

void SimLoop::finish(uint64_t id, int32_t result) {
  if (!busy_.contains(id)) return;
  const bool first = finished_.emplace(id, result).second;
  ASSERT(first);  // a device completed an op twice
  arrived_.push_back({id, {}});
  wake();
}

void SimLoop::pause() {
  paused_ = true;
  world_.cancel(turn_event_);
}

void SimLoop::resume() {
  if (!std::exchange(paused_, false)) return;
  wake();
}

void SimLoop::abandon_all() {
  alive_ = false;
  world_.cancel(turn_event_);
  world_.cancel(timer_event_);
  for (auto& [id, op] : busy_) op->abandon();
  busy_.clear();
  finished_.clear();
  soon_.clear();
  turn_end_.clear();
  timers_.clear();
  // What tasks captured belongs to the dead process: its destructors must not run.
  for (auto& posted : posted_) {
    SimProcess::bury(std::make_shared<io::Task>(std::move(posted.task)));
  }
  posted_.clear();
  for (auto& arrival : arrived_) {
    if (arrival.op_id == 0) {
      SimProcess::bury(std::make_shared<io::Task>(std::move(arrival.task)));
    }
  }
  arrived_.clear();
}

void SimLoop::wake() {
  if (!alive_ || paused_ || in_turn_ || turn_event_.valid()) return;
  const Duration earliest = std::max(world_.now(), next_turn_not_before_);
  turn_event_ = world_.at(earliest + world_.between(0us, kWakeMax), [this] {
    turn_event_ = {};
    turn();
  });
}

void SimLoop::turn() {
  in_turn_ = true;
  ++turns_;
  now_ = local_now();
  take_arrivals();
  uint32_t steps = 0;
  bool more = true;
  while (alive_ && more) {
    more = run_soon();
    more = run_turn_end() || more;
    more = run_timers() || more;
    ASSERT(++steps < kMaxStepsPerTurn);
  }
  in_turn_ = false;
  if (!alive_) return;
  next_turn_not_before_ = world_.now() + world_.between(kTurnMin, kTurnMax);
  if (!arrived_.empty()) wake();
  arm_timer_event();
}

void SimLoop::take_arrivals() {
  while (!posted_.empty() && posted_.front().visible_at <= world_.now()) {
    arrived_.push_back({0, std::move(posted_.front().task)});
    posted_.pop_front();
  }
  size_t count = arrived_.size();
  if (count > 1 && world_.chance(kPartialBatchPerMillion)) {
    count = 1 + static_cast<size_t>(world_.random().below(count));
  }
  for (; count > 0 && alive_; --count) {
    Arrival arrival = std::move(arrived_.front());
    arrived_.pop_front();
    if (arrival.op_id != 0) {
      deliver(arrival.op_id);
    } else {
      world_.trace("{}: task", name_);
      arrival.task();
    }
  }
}

bool SimLoop::run_soon() {
  const bool any = !soon_.empty();
  while (alive_ && !soon_.empty()) {
    const uint64_t id = soon_.front();
    soon_.pop_front();
    deliver(id);
  }
  return any;
}

bool SimLoop::run_turn_end() {
  const std::vector<uint64_t> batch = std::exchange(turn_end_, {});
  for (const uint64_t id : batch) {
    if (alive_) deliver(id);
  }
  return !batch.empty();
}

bool SimLoop::run_timers() {
  bool any = false;
  while (alive_ && !timers_.empty() && timers_.begin()->deadline <= now_) {
    io::Timer& timer = *timers_.begin();
    timers_.erase(timers_.begin());
    world_.trace("{}: timer", name_);
    any = true;
    timer.fire();
  }
  return any;
}

void SimLoop::deliver(uint64_t id) {
  const auto op = busy_.find(id);
  const auto result = finished_.find(id);
  ASSERT(op != busy_.end() && result != finished_.end());
  io::Op* const target = op->second;
  const int32_t value = result->second;
  busy_.erase(op);
  finished_.erase(result);
  world_.trace("{}: op {} -> {}", name_, id, value);
  target->complete(value);
}

void SimLoop::arm_timer_event() {
  world_.cancel(timer_event_);
  if (!alive_ || timers_.empty()) return;
  const Duration due = process_.to_world(timers_.begin()->deadline);
  timer_event_ = world_.at(due + world_.between(0us, kTimerLatenessMax), [this] {
    timer_event_ = {};
    if (!timers_.empty() && timers_.begin()->deadline > local_now()) {
      arm_timer_event();  // the clock's rate changed meanwhile
    } else {
      wake();
    }
  });
}

void SimLoop::clock_changed() { arm_timer_event(); }

SimProcess::SimProcess(SimWorld& world, std::string name) : world_(world), name_(std::move(name)) {
  // Loops of different processes must not find each other's instants comparable.
  clock_local_base_ = io::Instant(world_.between(1s, 100'000s));
  clock_world_base_ = world_.now();
}

SimProcess::~SimProcess() = default;

SimLoop& SimProcess::make_loop() {
  ASSERT(alive_);
  loops_.push_back(
      std::make_unique<SimLoop>(world_, *this, fmt::format("{}/{}", name_, loops_.size())));
  return *loops_.back();
}

void SimProcess::pause() {
  world_.trace("{}: stopped", name_);
  for (const auto& loop : loops_) loop->pause();
}

void SimProcess::resume() {
  world_.trace("{}: continued", name_);
  for (const auto& loop : loops_) loop->resume();
}

void SimProcess::kill(bool power_lost) {
  if (!std::exchange(alive_, false)) return;
  world_.trace("{}: {}", name_, power_lost ? "power lost" : "killed");
  for (const auto& loop : loops_) loop->abandon_all();
  for (ProcessWatcher* watcher : world_.watchers()) watcher->on_process_ended(*this, power_lost);
}

void SimProcess::bury(std::shared_ptr<void> remains) {
  // Never destroyed: at exit the destructors of the dead would run.
  static auto* const graveyard = new std::vector<std::shared_ptr<void>>;
  graveyard->push_back(std::move(remains));
}

void SimProcess::continue_clock_of(const SimProcess& earlier) {
  ASSERT(loops_.empty());
  clock_local_base_ = earlier.to_local(world_.now());
  clock_world_base_ = world_.now();
}

void SimProcess::set_clock_ppm(int64_t ppm) {
  clock_local_base_ = to_local(world_.now());
  clock_world_base_ = world_.now();
  clock_ppm_ = ppm;
  for (const auto& loop : loops_) loop->clock_changed();
}

io::Instant SimProcess::to_local(Duration world_time) const {
  constexpr int64_t kMillion = 1'000'000;
  const int64_t passed = (world_time - clock_world_base_).count();
  const int64_t error = passed / kMillion * clock_ppm_ + passed % kMillion * clock_ppm_ / kMillion;
  return clock_local_base_ + Duration(passed + error);
}

Duration SimProcess::to_world(io::Instant local) const {
  constexpr int64_t kMillion = 1'000'000;
  const int64_t passed = std::max<int64_t>((local - clock_local_base_).count(), 0);
  const int64_t rate = kMillion + clock_ppm_;
  const int64_t world = passed / rate * kMillion + passed % rate * kMillion / rate;
  return clock_world_base_ + Duration(world + 2);  // +2: rounding, so that it is due when it fires
}

}  // namespace holdfast::sim
