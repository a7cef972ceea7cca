#pragma once
// target::StateStore in the simulator: what is durable outlives the process, and each save is there
// as a whole or not at all.

#include <deque>
#include <map>
#include <optional>
#include <string>

#include "target/state_store.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

// The state directory of a host. Owner: the test.
struct SimStateStorage {
  target::StoredState state;
  bool full = false;      // saves fail with Errc::no_space
  bool doubtful = false;  // a disk's reservations: Errc::in_doubt, at most twice in a row
  bool forgets = false;   // negative control: saves are acknowledged and not kept
  uint64_t failed_saves = 0;
  Duration delay_min = std::chrono::microseconds(100);
  Duration delay_max = std::chrono::milliseconds(20);
};

// Owner: the test, one per process. Saves that were under way when their process ended are kept up
// to some point and lost from there on.
class SimStateStore final : public target::StateStore, private ProcessWatcher {
 public:
  SimStateStore(SimWorld& world, SimProcess& process, SimStateStorage& storage,
                base::Random& random);
  ~SimStateStore() override;

  base::Result<target::StoredState> load() override;
  void identify(target::DiskKey key, io::Loop& reply_to, Identified done) override;
  void renew(target::DiskKey key, io::Loop& reply_to, Identified done) override;
  void note_served(const target::DiskIdentity& identity, uint64_t bytes, io::Loop& reply_to,
                   Done done) override;
  void save_reservations(const target::DiskIdentity& identity, std::vector<uint8_t> bytes,
                         io::Loop& reply_to, Done done) override;
  void save_created_disk(target::DiskConfig disk, io::Loop& reply_to, Done done) override;
  void forget_created_disk(std::string name, io::Loop& reply_to, Done done) override;
  void save_alua(uint16_t portal_group_tag, std::string state, io::Loop& reply_to,
                 Done done) override;

 private:
  using Change = std::move_only_function<base::Result<>(target::StoredState&)>;
  struct Save {
    Change change;
    io::Loop* reply_to = nullptr;
    Done done;
    std::optional<target::DiskIdentity> reservations_of{};
  };

  void on_process_ended(SimProcess& process, bool power_lost) override;
  void enqueue(Change change, io::Loop& reply_to, Done done,
               std::optional<target::DiskIdentity> reservations_of = {});
  bool doubts(const Save& save);
  void identify(target::DiskKey key, bool anew, io::Loop& reply_to, Identified done);
  void begin_next();
  void carry_out();

  SimWorld& world_;
  SimProcess& process_;
  SimStateStorage& storage_;
  base::Random& random_;
  std::deque<Save> queue_;
  bool busy_ = false;
  std::map<target::DiskIdentity, int> doubts_in_a_row_;
};

}  // namespace holdfast::sim
