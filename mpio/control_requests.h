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
#include "mpio/device_service.h"

namespace holdfast::mpio {

// Below the two seconds in which the command line answers.
inline constexpr auto kGatherLimit = std::chrono::milliseconds(700);

// One loop's: the control loop's. The devices' loops and services outlive it.
class Control {
 public:
  struct Member {
    DeviceService* service;
    io::Loop* loop;
  };

  Control(io::Loop& loop, std::vector<Member> members);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // For the control server. Any thread; the answers come from this loop.
  daemon::ControlServer::Handler handler();

 private:
  struct Gather;
  using Reply = daemon::StreamServer::Reply;
  using Statuses = std::vector<DeviceStatus>;

  void carry_out(const std::string& request, Reply reply);
  // Of the device named, or of all.
  void gather(const std::string& device, std::move_only_function<void(Statuses) noexcept> then);
  void on_status(uint64_t id, size_t index, DeviceStatus status);
  void on_gather_timer(uint64_t id);
  void finish_gather(Gather& gather);
  void list(const std::string& device, Reply reply);
  void explain(const std::string& device, Reply reply);
  void set_policy(size_t member, const std::string& policy, Reply reply);
  void set_enabled(size_t member, const std::string& path, bool enabled, Reply reply);
  void test_fence(size_t member, Reply reply);
  size_t find(const std::string& device) const;  // members_.size(): there is none

  io::Loop& loop_;
  std::vector<Member> members_;
  std::vector<DeviceStatus> last_;  // by member: as they last answered
  std::vector<std::unique_ptr<Gather>> gathers_;
  uint64_t next_gather_ = 1;
};

}  // namespace holdfast::mpio
