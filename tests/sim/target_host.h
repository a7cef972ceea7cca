#pragma once
// The host of the target: its disks and state directory, which last, and the target's process,
// which is started, killed, stopped and continued, or loses its power.

#include <memory>
#include <string>
#include <vector>

#include "target/config.h"
#include "tests/sim/sim_backing.h"
#include "tests/sim/sim_fabric.h"
#include "tests/sim/sim_state_store.h"

namespace holdfast::sim {

inline constexpr const char* kTargetName = "iqn.2026-11.org.holdfast:store";

struct TargetHostOptions {
  uint32_t shards = 1;
  bool volatile_cache = true;
  uint32_t drain_deadline_ms = 10'000;
  std::vector<std::string> portals = {"10.1.0.10:3260", "10.2.0.10:3260"};
  bool group_each = false;  // each portal is a group of its own, else all are one
  DiskOptions disks;
};

struct LunSpec {
  uint16_t lun = 0;
  std::string path;
  uint32_t block_size = 512;
  uint64_t blocks = 0;
  bool thin = true;
};

// Owner: the test.
class TargetHost {
 public:
  TargetHost(SimWorld& world, SimFabric& fabric, const TargetHostOptions& options,
             std::vector<LunSpec> luns);
  ~TargetHost();

  void start();
  void kill();
  // The whole host: unsynced writes of the disks may be lost.
  void lose_power();
  void pause();
  void resume();
  // Orderly. True: it ended in time and its objects were destroyed.
  bool stop(Duration within);

  bool running() const { return instance_ != nullptr; }
  bool listening() const;
  // Counts starts. The one a process belongs to, or 0.
  uint32_t instance() const { return starts_; }
  uint32_t instance_of(const SimProcess* process) const;
  bool paused() const { return paused_; }
  SimDisk& disk(size_t index) { return *disks_.find(luns_[index].path); }
  SimStateStorage& storage() { return storage_; }
  const std::vector<LunSpec>& luns() const { return luns_; }
  const TargetHostOptions& options() const { return options_; }

 private:
  struct Instance;
  target::Config config() const;
  void on_start_failed(uint32_t start, const std::string& why);

  SimWorld& world_;
  SimFabric& fabric_;
  const TargetHostOptions options_;
  const std::vector<LunSpec> luns_;
  SimDisks disks_;
  SimStateStorage storage_;
  uint32_t starts_ = 0;
  bool paused_ = false;
  bool was_paused_ = false;                   // this instance
  std::vector<const SimProcess*> processes_;  // by start
  std::shared_ptr<Instance> instance_;
};

}  // namespace holdfast::sim
