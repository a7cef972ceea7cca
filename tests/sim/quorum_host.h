#pragma once
// A host of the simulated cluster: the product's qdisk::Node on simulated network, local disk and
// LUNs; beside it what lives by its right: a coordinator's writes to the volume, and a virtual
// machine that must never run twice.

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "qdisk/node.h"
#include "tests/sim/quorum_judge.h"
#include "tests/sim/shared_lun.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

// What a run does wrong on purpose; some seed must notice.
struct QuorumSabotage {
  bool skip_verification = false;  // "verify after register" is not done
  bool late_lease = false;         // counted from the receipt of the renewal
  bool sighting = false;           // the time to stop counts from the last sight of the node
  bool short_takeover = false;     // T is too short for L + K + D
  bool pet_blindly = false;        // the watchdog is petted without a look at the lease
  bool early_preempt = false;      // of a silent member, before its eviction is decided
  bool give_back = false;          // a host that shuts down unregisters, the holder too
  bool spare_own_lives = false;    // a new life does not end what its forerunners have under way
  LunSabotage lun;
};

class QuorumHost;

// All cluster networks: messages may be lost, late, doubled; each direction is cut on its own.
struct QuorumNet {
  static constexpr size_t kHosts = 8;
  std::array<std::array<std::array<bool, kHosts>, kHosts>, qdisk::kMaxNetworks> cut{};
  uint32_t loss_per_million = 0;
  uint32_t double_per_million = 0;
  uint32_t slow_per_million = 0;  // take up to slow_max
  Duration delay_max = std::chrono::milliseconds(5);
  Duration slow_max = std::chrono::seconds(5);
  std::array<QuorumHost*, kHosts> hosts{};
};

struct QuorumCluster {
  SimWorld& world;
  QuorumJudge& judge;
  QuorumNet net;
  SharedLun& witness;
  SharedLun& volume;
  qdisk::Uuid uuid{};
  qdisk::Timers timers{};
  qdisk::VoterPolicy policy{};
  QuorumSabotage sabotage;
  qdisk::Decision founded;
  // Whatever is to be ended goes on, as a process that hangs in the kernel: only a watchdog helps.
  bool kills_hang = false;
};

class QuorumHost {
 public:
  QuorumHost(QuorumCluster& cluster, qdisk::NodeId id);
  ~QuorumHost();

  // A new life after a boot, or where its state was lost; else only the daemon was restarted.
  void start(bool new_life);
  void kill();  // power off: everything on it ends
  void shut_down();
  // Whose a nexus is, at the witness or a volume.
  static qdisk::Life life_of_nexus(uint64_t nexus);
  void lose_state();
  void pause(Duration time);
  void cut_witness(bool cut);
  void cut_volume(bool cut);
  // Ends the virtual machine and the writes, then gives the volume to another.
  void hand_over(qdisk::NodeId to);
  bool up() const { return stack_ != nullptr; }
  const qdisk::NodeRecord& stored() const { return stored_; }  // what its disk holds
  bool remembers() const { return stored_.remembers; }
  bool settled() const;  // a member with a lease
  bool works() const;    // coordinates, and its writes land
  const qdisk::Node* node() const;
  const qdisk::Decision& known() const;  // that it was told of
  std::string describe() const;

 private:
  friend class HostStack;
  void watchdog_petted();
  void end_vm();

  QuorumCluster& cluster_;
  const qdisk::NodeId id_;
  qdisk::NodeRecord stored_;  // on its local disk
  bool new_life_ = false;     // not only its daemon was restarted
  qdisk::Incarnation incarnation_ = 0;
  std::shared_ptr<class HostStack> stack_;
  SimProcess* process_ = nullptr;
  bool witness_cut_ = false, volume_cut_ = false;
  bool vm_runs_ = false;
  uint64_t pets_ = 0;
  int64_t clock_ppm_ = 0;
};

}  // namespace holdfast::sim
