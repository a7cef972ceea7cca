#pragma once
// The simulator's ground: one queue of events ordered by (time, sequence), virtual time, one seed.
// Owner: the test. Thread: one; nothing in it reads a real clock or real randomness, so a seed
// gives a byte-identical trace. What it injects and what it does not: docs/fault_model.md.

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/io/loop.h"

namespace holdfast::sim {

using io::Duration;

class SimProcess;

// Told when a process ends without running its own code any more.
class ProcessWatcher {
 public:
  virtual ~ProcessWatcher() = default;
  virtual void on_process_ended(SimProcess& process, bool power_lost) = 0;
};

class SimWorld {
 public:
  using Action = std::move_only_function<void()>;
  // Sees every trace line; for a failed seed that is run again by hand.
  using TraceSink = std::function<void(std::string_view line)>;

  // time < 0: no event.
  struct EventId {
    Duration time{-1};
    uint64_t sequence = 0;
    auto operator<=>(const EventId&) const = default;
    bool valid() const { return time >= Duration::zero(); }
  };

  explicit SimWorld(uint64_t seed);
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;
  ~SimWorld();

  uint64_t seed() const { return seed_; }
  Duration now() const { return now_; }  // true time since the world began

  EventId at(Duration time, Action action);
  EventId after(Duration delay, Action action) { return at(now_ + delay, std::move(action)); }
  void cancel(EventId& id);  // no-op once fired; clears id

  // One event. False: nothing is queued.
  bool step();
  // Runs events until the condition holds (true) or `within` has passed (false). The condition is
  // looked at between events.
  bool run_until(const std::function<bool()>& condition, Duration within);
  void run_for(Duration duration);

  base::Random& random() { return random_; }
  // A stream of its own, so that a component's draws do not shift those of others.
  base::SeededRandom fork_random() { return base::SeededRandom(random_.next()); }
  bool chance(uint32_t per_million) { return random_.below(1'000'000) < per_million; }
  Duration between(Duration low, Duration high);

  template <class... Args>
  void trace(fmt::format_string<Args...> format, Args&&... args) {
    line_.clear();
    fmt::vformat_to(std::back_inserter(line_), format, fmt::make_format_args(args...));
    add_line();
  }
  // Seen by the sink but no part of the hash: log lines of the product, which a limiter on the real
  // clock may drop.
  void note(std::string_view line);
  void set_trace_sink(TraceSink sink) { sink_ = std::move(sink); }
  // Over every trace line and its time so far: equal seeds, equal hashes.
  uint64_t hash() const { return hash_; }
  uint64_t events_run() const { return events_run_; }

  // A process lives as long as the world, also after it was killed, so nobody holds a dangling one.
  SimProcess& make_process(std::string name);
  void watch(ProcessWatcher& watcher) { watchers_.push_back(&watcher); }
  void unwatch(ProcessWatcher& watcher) { std::erase(watchers_, &watcher); }
  const std::vector<ProcessWatcher*>& watchers() const { return watchers_; }

 private:
  // More than this without virtual time moving is a loop that never sleeps.
  static constexpr uint64_t kMaxEventsPerInstant = 200'000;

  void add_line();

  const uint64_t seed_;
  base::SeededRandom random_;
  Duration now_{0};
  uint64_t next_sequence_ = 1;
  uint64_t events_run_ = 0;
  uint64_t events_this_instant_ = 0;
  std::map<EventId, Action> events_;
  std::string line_;
  uint64_t hash_ = 0xcbf29ce484222325;
  TraceSink sink_;
  std::vector<std::unique_ptr<SimProcess>> processes_;
  std::vector<ProcessWatcher*> watchers_;
};

}  // namespace holdfast::sim
