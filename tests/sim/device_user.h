#pragma once
// A host that uses the target through a multipath device of the product: random requests, of which
// the model judges the answers, and what an error says about what may still land. It owns the LUN
// alone.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "mpio/device.h"
#include "tests/sim/judge.h"
#include "tests/sim/sim_link_watch.h"
#include "tests/sim/sim_network.h"

namespace holdfast::sim {

// Owner: the test. Runs in a process of its own.
class DeviceUser final : public io::LinkListener {
 public:
  // A write of which nobody knows whether it will land: until its ghost is gone, or a later write
  // to the same place is done.
  struct Open {
    WriteId write;
    DataModel::Range range;
    Duration ended;
  };
  // What outlives its process: on its disk, and what the test knows of it.
  struct Legacy {
    std::map<uint64_t, std::set<mpio::SessionTrace>> traces;  // by ISID: DeviceOptions::note
    std::vector<Open> open;
  };
  struct Options {
    std::string host = "hv1";
    std::vector<std::string> addresses;  // of the host: one a path
    std::vector<std::string> portals;    // of the target, in the same order
    uint32_t depth = 8;
    uint16_t lun = 0;
    mpio::DeviceOptions device;  // without its paths
    uint64_t key = 0;            // chosen before any path is there; 0: none
    // Others write to the same unit: only COMPARE AND WRITE and reads, for nothing is promised
    // about plain writes of two hosts.
    bool shared = false;
    uint32_t timeout_percent = 20, cancel_percent = 5;  // of the requests
    bool crashes = false;                               // it keeps what a next process must know
    Legacy legacy;                                      // of the process before
  };
  DeviceUser(Judge& judge, SimFabric& fabric, Options options);
  ~DeviceUser() override;

  void start();
  // Issues nothing of its own any more.
  void quiesce() { quiet_ = true; }
  // Every path serves, no request and no ghost is left.
  bool settled() const;
  void verify();  // reads everything; settled() again when done
  void stop();    // then it may be destroyed once stopped()
  bool stopped() const { return stopped_; }
  // Its process is killed. What is left is for the one that is made with these options.
  Options crash();
  std::string describe() const;
  const mpio::DeviceCounters& counters() const { return device_.counters(); }

 private:
  using Kind = io::BlockRequest::Kind;
  struct Operation {
    explicit Operation(DeviceUser& its_user) : user(its_user), request(*this) {}
    void on_done(int32_t result) noexcept { user.on_done(*this, result); }

    DeviceUser& user;
    DataModel::Range range;
    WriteId write = 0;
    uint64_t read = 0;
    std::vector<uint64_t> looks;  // status: a read of the model for each extent
    Duration began{0};
    std::vector<uint8_t> memory, compared;
    std::vector<iovec> parts;
    std::vector<io::Extent> extents;
    io::BlockRequestOf<Operation, &Operation::on_done> request;
  };
  void await_legacy();
  void write_gone(WriteId write);
  void on_tick() noexcept;
  void on_link(const io::LinkEvent& event) noexcept override;
  void issue_one(Operation& operation);
  void issue(Operation& operation, Kind kind);
  void begin_swap(Operation& operation);
  void cut(Operation& operation);
  void read_whole();
  void on_done(Operation& operation, int32_t result);
  void read_ended(Operation& operation, int32_t result);
  void status_ended(Operation& operation, int32_t result);
  void swap_ended(Operation& operation, int32_t result);
  void write_ended(Operation& operation, int32_t result);
  bool expected_error(Kind kind, int32_t result) const;

  Judge& judge_;
  const Options options_;
  std::map<uint64_t, std::set<mpio::SessionTrace>> traces_;
  bool legacy_awaited_ = false;
  SimWorld& world_;
  SimProcess& process_;
  SimLoop& loop_;
  SimNetwork network_;
  SimLinkWatch links_;
  base::SeededRandom random_;
  base::SeededRandom device_random_;
  std::unique_ptr<io::BufferPool> buffers_;
  mpio::Device device_;
  Unit& unit_;
  bool quiet_ = false, verifying_ = false, stopping_ = false, stopped_ = false;
  uint32_t busy_ = 0;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<Open> open_;
  io::TimerOf<DeviceUser, &DeviceUser::on_tick> timer_{*this};
};

}  // namespace holdfast::sim
