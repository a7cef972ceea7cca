#pragma once
// What goes wrong in a run: chosen by the seed, and healed again by it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/sim_client.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {

enum class Sabotage : uint8_t { none, lock, cancel, flush, store };

// Everything that the seed decides before the first event.
struct Plan {
  uint32_t clients = 2;
  TargetHostOptions target;
  FabricOptions fabric;
  bool network_faults = false;
  bool disk_faults = false;
  bool disk_hangs = false;
  bool kills = false;
  bool power_losses = false;
  bool pauses = false;
  bool store_faults = false;
  uint32_t slow_per_million = 0;
};
Plan make_plan(base::Random& random, Sabotage sabotage);
std::string describe(const Plan& plan);

// One simulation from set-up to verdict.
class Simulation {
 public:
  struct Options {
    uint64_t seed = 1;
    uint32_t steps = 30;
    Sabotage sabotage = Sabotage::none;
    SimWorld::TraceSink trace;
  };
  explicit Simulation(const Options& options);
  ~Simulation();

  // True: nothing wrong.
  bool run();
  const std::vector<std::string>& breaches() const { return judge_.breaches(); }
  std::string summary() const;
  uint64_t hash() const { return world_.hash(); }

 private:
  void set_up();
  void misbehave();
  void network_fault(SimClient& client);
  void disk_fault();
  void kill_or_cut();
  void heal();
  void restart_soon(Duration within);
  bool settle(const char* when);
  void check_medium();
  void check_nothing_open();

  const Options options_;
  SimWorld world_;
  Plan plan_;
  SimFabric fabric_;
  Judge judge_;
  std::unique_ptr<TargetHost> target_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  bool restart_pending_ = false;
  uint32_t kills_ = 0;
  uint32_t cuts_ = 0;
};

}  // namespace holdfast::sim
