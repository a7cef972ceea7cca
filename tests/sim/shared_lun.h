#pragma once
// A LUN that several nodes share, with persistent reservations per nexus, and what can go wrong
// with it: commands that arrive late or are under way when their node dies, torn, doubled and
// misdirected writes, damaged sectors, a target that restarts and forgets. Its medium and keys are
// the world's; each process has a SharedLunDevice of its own.

#include <array>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/io/shared_block_device.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

class SharedLunDevice;

struct SharedLunOptions {
  uint64_t size_bytes = uint64_t{64} << 20;
  Duration delay_max = std::chrono::milliseconds(2);
  uint32_t slow_per_million = 0;  // of the commands take up to slow_max
  Duration slow_max = std::chrono::seconds(6);
  uint32_t lost_per_million = 0;         // writes whose answer is lost: they may land, late
  uint32_t torn_per_million = 0;         // of the writes of a dying process
  uint32_t misdirected_per_million = 0;  // writes that land 4 KiB beside their place as well
  bool aptpl = true;
};

// Owner: the test.
class SharedLun {
 public:
  static constexpr size_t kSector = 512;
  using Sector = std::array<uint8_t, kSector>;
  // Told of every write that is accepted, as it lands.
  using Landed = std::function<void(uint64_t nexus, uint64_t offset, base::Bytes bytes)>;
  // Told of every preemption that a nexus demands, as it does.
  using Preempting = std::function<void(uint64_t by, uint64_t victim_key)>;

  SharedLun(SimWorld& world, std::string name, const SharedLunOptions& options)
      : world_(world), name_(std::move(name)), options_(options) {}

  SharedLunOptions& options() { return options_; }
  const SharedLunOptions& options() const { return options_; }
  void set_landed(Landed landed) { landed_ = std::move(landed); }
  void set_preempting(Preempting preempting) { preempting_ = std::move(preempting); }
  // Its key was preempted, the target has answered that, and it has not registered again.
  bool fenced(uint64_t nexus) const { return fenced_.contains(nexus); }
  void restart_target();  // what is under way is executed or lost; without APTPL keys are forgotten
  void corrupt(uint64_t offset);  // one bit of the sector
  size_t registrations() const { return keys_.size(); }
  bool reserved() const { return type_ != io::ReservationType::none; }
  void write_now(uint64_t offset, base::Bytes bytes);
  void read_now(uint64_t offset, base::MutableBytes bytes) const;

 private:
  friend class SharedLunDevice;
  struct Command {
    uint64_t nexus = 0;
    uint64_t offset = 0;
    std::vector<uint8_t> bytes;
    bool arrived = false;  // has passed the check of the reservation
    bool dead = false;     // its process is gone
    std::function<void(int32_t)> answer;
  };
  using Commands = std::list<std::shared_ptr<Command>>;

  Duration delay();
  bool may_write(uint64_t nexus) const;
  void begin_write(std::shared_ptr<Command> command);
  void arrive(const std::shared_ptr<Command>& command);
  void land(const std::shared_ptr<Command>& command);
  void answer(const std::shared_ptr<Command>& command, int32_t result);
  void drop_unsent_of(uint64_t nexus);
  void abort_of(const std::vector<uint64_t>& nexuses, std::function<void()> drained);

  SimWorld& world_;
  const std::string name_;
  SharedLunOptions options_;
  Landed landed_;
  Preempting preempting_;
  std::map<uint64_t, Sector> medium_;  // by number
  std::map<uint64_t, uint64_t> keys_;  // by nexus
  std::set<uint64_t> fenced_;          // nexuses
  io::ReservationType type_ = io::ReservationType::none;
  uint64_t holder_ = 0;  // nexus
  uint32_t generation_ = 0;
  uint64_t boots_ = 0;
  Commands under_way_;
  std::vector<SharedLunDevice*> devices_;
};

// What it does wrong on purpose.
struct LunSabotage {
  bool requeue = false;  // a conflict makes it register anew and repeat the write
  // What the keys that are read leave out; empty: nothing.
  std::function<bool(uint64_t key)> hidden;
};

// Owner: the test, one per process.
class SharedLunDevice final : public io::SharedBlockDevice, private ProcessWatcher {
 public:
  // `nexus`: of this life of the node, and this daemon; a process that comes back with it
  // reinstates its session, which ends what its forerunner had under way.
  SharedLunDevice(SharedLun& lun, SimLoop& loop, uint64_t nexus, const LunSabotage& sabotage = {});
  ~SharedLunDevice() override;

  // No command reaches the target, nor answer this host.
  void cut(bool is_cut) { cut_ = is_cut; }
  uint64_t nexus() const { return nexus_; }
  void unregister();

  io::BlockInfo info() const override;
  void submit(io::BlockRequest& request) override;
  void cancel(io::BlockRequest&) override {}
  void set_listener(Listener* listener) override { listener_ = listener; }
  void wait_ghosts(uint64_t offset, uint64_t length, Done done) override;
  void use_key(uint64_t key, Done done) override;
  void readmit(Done done) override { use_key(key_, std::move(done)); }
  void verify_key(Done done) override;
  void reserve(io::ReservationType type, Done done) override;
  void preempt_and_abort(uint64_t victim, io::ReservationType type, Done done) override;
  void clear_reservations(Done done) override { refuse(std::move(done)); }
  void read_reservations(GotState done) override;

 private:
  friend class SharedLun;
  void on_process_ended(SimProcess& process, bool power_lost) override;
  void write(io::BlockRequest& request, uint64_t id, Duration timeout);
  void read(io::BlockRequest& request, uint64_t id, Duration timeout);
  // Executes at the target, after some time and if it is reached; answers on the loop.
  void control(std::function<base::Result<>()> execute, Done done);
  void refuse(Done done);
  void target_restarted();
  void answer_soon(Done done, base::Result<> result);

  SharedLun& lun_;
  SimLoop& loop_;
  SimWorld& world_;
  const LunSabotage sabotage_;
  uint64_t nexus_;
  uint64_t key_ = 0;
  bool key_lost_ = false;
  bool cut_ = false;
  bool logged_in_ = false;
  Listener* listener_ = nullptr;
};

}  // namespace holdfast::sim
