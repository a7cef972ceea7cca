#pragma once
// What each request of the daemon's control socket does: docs/operations.md, "Control socket of
// holdfast-mpiod".
//
// Requests come on the socket's thread and are handed to the control loop, and by it to the loops
// of the devices. No answer waits for a device: one whose loop does not answer in time is shown as
// it was when it last did.

#include <memory>
#include <string>
#include <vector>

#include "common/daemon/control_server.h"
#include "common/io/loop.h"
#include "mpio/device_set.h"

namespace holdfast::mpio {

// Below the two seconds in which the command line answers.
inline constexpr auto kGatherLimit = std::chrono::milliseconds(700);

// One loop's: the control loop's. The devices outlive it.
class Control {
 public:
  Control(io::Loop& loop, const DeviceSet& devices);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // For the control server. Any thread; the answers come from this loop.
  daemon::ControlServer::Handler handler();

 private:
  struct Gather;
  using Reply = daemon::StreamServer::Reply;
  using Statuses = std::vector<DeviceStatus>;
  using Handle = std::shared_ptr<DeviceHandle>;

  void carry_out(const std::string& request, Reply reply);
  void gather(DeviceSet::Devices devices, std::move_only_function<void(Statuses) noexcept> then);
  void on_status(uint64_t id, const Handle& device, DeviceStatus status);
  void on_gather_timer(uint64_t id);
  void finish_gather(Gather& gather);
  void list(DeviceSet::Devices devices, Reply reply);
  void explain(const Handle& device, Reply reply);
  void set_policy(const Handle& device, const std::string& policy, Reply reply);
  void set_enabled(const Handle& device, const std::string& path, bool enabled, Reply reply);
  void test_fence(const Handle& device, Reply reply);

  io::Loop& loop_;
  const DeviceSet& devices_;
  std::vector<std::unique_ptr<Gather>> gathers_;
  uint64_t next_gather_ = 1;
};

}  // namespace holdfast::mpio
