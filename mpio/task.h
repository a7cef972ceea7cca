#pragma once
// What a request becomes inside the device: a job, and SCSI commands that each cover a part of it.
// Both come from pools of the device; nothing is allocated per request.

#include <array>
#include <boost/intrusive/list.hpp>
#include <cstdint>

#include "common/io/buffer_pool.h"
#include "common/io/shared_block_device.h"
#include "initiator/command.h"
#include "mpio/ghosts.h"
#include "mpio/path_selector.h"
#include "mpio/retry.h"

namespace holdfast::mpio {

class Device;
struct Task;

// One BlockRequest.
struct Job {
  explicit Job(Device& owner) : device(owner) {}
  void on_deadline() noexcept;

  Device& device;
  io::BlockRequest* request = nullptr;
  boost::intrusive::list_member_hook<> hook;  // Device: has more to send than tasks were free
  uint64_t next = 0;                          // bytes of it that have become tasks
  uint32_t tasks = 0;
  int32_t error = 0;  // the first; what is not sent yet is not sent any more
  io::TimerOf<Job, &Job::on_deadline> deadline{*this};
};

struct Task {
  explicit Task(Device& owner) : device(owner) { command.owner = abort.owner = this; }

  enum class State : uint8_t {
    idle,
    waiting,  // for ghosts
    ready,    // for a path
    delayed,  // until `not_before`
    on_path,  // with a session
    fencing,  // the fate of its last attempt must be known first
  };
  // What the next command of it does.
  enum class Step : uint8_t { execute, read_back, make_durable };

  Device& device;
  Job* job = nullptr;
  State state = State::idle;
  Step step = Step::execute;
  uint64_t offset = 0;  // bytes of the medium
  uint64_t length = 0;
  bool reissued = false;  // an earlier attempt may have been executed: only its own ghost is behind
  bool aborting = false;  // on a path, and that is asked for
  std::array<iovec, initiator::kMaxDataIovecs> parts{};
  size_t part_count = 0;
  io::Buffer scratch;  // parameter data, the block of WRITE SAME, what is read back
  SessionId session;   // of the last attempt
  SizeClass size = SizeClass::small;
  uint32_t depth = 1;  // in flight on its path when it was sent
  io::Instant submitted{};
  io::Instant not_before{};
  RetryHistory retry;
  size_t avoid = kNoPath;  // another path is wanted, if there is one
  GhostWaiter waiter;
  boost::intrusive::list_member_hook<> hook;       // of the state's list
  boost::intrusive::list_member_hook<> path_hook;  // in flight on a path, oldest first

  static void on_command_done(initiator::Command& command) noexcept;
  initiator::Command command{on_command_done};
  static void on_aborted(initiator::TaskManagement& function) noexcept;
  initiator::TaskManagement abort{on_aborted};
  void on_abort_timeout() noexcept;
  io::TimerOf<Task, &Task::on_abort_timeout> abort_timer{*this};
};

}  // namespace holdfast::mpio
