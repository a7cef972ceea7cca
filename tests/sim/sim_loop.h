#pragma once
// A simulated process and its loops. A loop's turn: some of the completions and posted tasks that
// have arrived, then everything due at once (complete_soon), at_turn_end ops, timers; repeated
// until nothing is left that belongs to the turn.

#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/io/loop.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

// Owner: its SimProcess. Lives as long as the world: a dead loop just drops whatever reaches it.
class SimLoop final : public io::Loop {
 public:
  SimLoop(SimWorld& world, SimProcess& process, std::string name);
  ~SimLoop() override;

  io::Instant now() const override;
  void start(io::Timer& timer, Duration after) override;
  void stop(io::Timer& timer) override;
  void post(io::Task task) override;
  void complete_soon(io::Op& op, int32_t result) override;
  void at_turn_end(io::Op& op) override;

  // For simulated devices. An op is known by a number, so that a device never touches one that died
  // with its process.
  uint64_t begin(io::Op& op);
  // The completion arrives now and is delivered in a coming turn. Ignored when the op was
  // abandoned.
  void finish(uint64_t id, int32_t result);
  // Begun, and its completion not yet delivered: the owner may still not touch the buffers.
  bool pending(uint64_t id) const { return busy_.contains(id); }
  // The same, and finish() not yet called.
  bool unfinished(uint64_t id) const;

  // SIGSTOP and SIGCONT: the kernel goes on, the process does not.
  void pause();
  void resume();
  // kill -9: no callback runs any more; ops become idle and timers stop, so that their owners can
  // be destroyed where their destructors allow it (else SimProcess::bury).
  void abandon_all();

  SimWorld& world() { return world_; }
  SimProcess& process() { return process_; }
  const std::string& name() const { return name_; }
  bool alive() const { return alive_; }
  size_t ops_in_flight() const { return busy_.size(); }
  uint64_t turns() const { return turns_; }
  void clock_changed();  // SimProcess::set_clock_ppm

 private:
  struct TimerDeadline {
    using type = io::Instant;
    const type& operator()(const io::Timer& timer) const { return timer.deadline; }
  };
  using Timers = boost::intrusive::multiset<
      io::Timer,
      boost::intrusive::member_hook<io::Timer, boost::intrusive::set_member_hook<>,
                                    &io::Timer::hook>,
      boost::intrusive::key_of_value<TimerDeadline>>;
  struct Arrival {
    uint64_t op_id = 0;  // 0: a task
    io::Task task;
  };
  struct PostedTask {
    Duration visible_at{0};
    io::Task task;
  };
  // A turn that produces more steps than this never sleeps: a bug of the loop's users.
  static constexpr uint32_t kMaxStepsPerTurn = 100'000;

  io::Instant local_now() const;
  void wake();
  void turn();
  void take_arrivals();
  bool run_soon();
  bool run_turn_end();
  bool run_timers();
  void deliver(uint64_t id);
  void arm_timer_event();

  SimWorld& world_;
  SimProcess& process_;
  const std::string name_;
  bool alive_ = true;
  bool paused_ = false;
  bool in_turn_ = false;
  uint64_t turns_ = 0;
  io::Instant now_{};
  Duration next_turn_not_before_{0};
  SimWorld::EventId turn_event_;
  SimWorld::EventId timer_event_;
  uint64_t next_op_id_ = 1;
  std::map<uint64_t, io::Op*> busy_;
  std::map<uint64_t, int32_t> finished_;
  std::deque<Arrival> arrived_;
  std::deque<PostedTask> posted_;
  std::deque<uint64_t> soon_;
  std::vector<uint64_t> turn_end_;
  Timers timers_;
};

// A process on a simulated host: its loops, its clock. Ends by kill or by power loss of the host.
class SimProcess {
 public:
  SimProcess(SimWorld& world, std::string name);
  ~SimProcess();

  SimLoop& make_loop();
  const std::vector<std::unique_ptr<SimLoop>>& loops() const { return loops_; }
  const std::string& name() const { return name_; }
  bool alive() const { return alive_; }

  void pause();
  void resume();
  // After this no code of the process runs: its callbacks never come, its sockets are closed by the
  // kernel (power_lost: fall silent), its disk requests end on their own.
  void kill(bool power_lost = false);
  // What a killed process owned: kept unreachable for everything, and never destroyed before the
  // world, as kill -9 runs no destructor. It stays allocated until the program ends.
  static void bury(std::shared_ptr<void> remains);

  // Rate error of the host's clock in parts per million, from now on. May be negative.
  void set_clock_ppm(int64_t ppm);
  // The same host has not been booted in between. Before it has loops.
  void continue_clock_of(const SimProcess& earlier);
  io::Instant to_local(Duration world_time) const;
  // At this true time, at the latest a little after it, the local clock shows `local`.
  Duration to_world(io::Instant local) const;

 private:
  SimWorld& world_;
  const std::string name_;
  bool alive_ = true;
  int64_t clock_ppm_ = 0;
  Duration clock_world_base_{0};
  io::Instant clock_local_base_{};
  std::vector<std::unique_ptr<SimLoop>> loops_;
};

}  // namespace holdfast::sim
