#pragma once
// What an initiator asks of a target: SCSI commands and task management functions, each embedded in
// its owner.

#include <array>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <span>

#include "common/iscsi/pdu.h"
#include "common/scsi/sense.h"
#include "common/scsi/status.h"
#include "initiator/limits.h"

namespace holdfast::initiator {

class Command;

// Data that goes out for a command: what an R2T asked for, or what was announced without one.
struct Transfer {
  boost::intrusive::list_member_hook<> hook;
  Command* command = nullptr;
  bool active = false;
  uint32_t ttt = iscsi::kReservedTag;
  uint32_t offset = 0;  // of the next byte to send
  uint32_t end = 0;
  uint32_t data_sn = 0;
};

enum class Outcome : uint8_t {
  answered,    // status, sense and moved are the target's
  unsent,      // no byte of it was handed to the network: it was and will be not executed
  unanswered,  // the session ended, or the target does not say what it did (a response other than
               // "completed"): it may have been executed, and it may still be
  ended,       // a task management function of ours ended it: what it did, it did before
  rejected,    // the target refused the PDU itself: it was not executed
};
const char* to_string(Outcome outcome) noexcept;

// Owner: whoever embeds it; it and the memory it names stay until done. Not copied, not moved.
// `done` is never called from inside a call of the session; the command may be reused from it.
class Command {
 public:
  using Done = void (*)(Command&) noexcept;

  explicit Command(Done done) : done_(done) {
    for (Transfer& transfer : transfers_) transfer.command = this;
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  ~Command() { ASSERT(!busy()); }

  // What to do. Changed only while not busy().
  uint64_t lun = 0;  // as it lies in the PDU: scsi::encode_lun()
  std::array<uint8_t, 16> cdb{};
  std::span<const iovec> data;  // at most kMaxDataIovecs parts
  uint32_t data_bytes = 0;      // of `data`
  bool writes = false;          // data goes out, else it comes in
  void* owner = nullptr;        // for `done`; not looked at here

  // What came of it.
  Outcome outcome = Outcome::unsent;
  scsi::Status status = scsi::Status::good;
  scsi::Sense sense;
  uint32_t moved = 0;  // bytes, by the target's word: data_bytes less the residual

  bool busy() const { return state_ != State::idle; }
  // At least one byte of it may be on its way.
  bool sent() const { return sent_; }

 private:
  friend class Session;
  friend class SendQueue;

  enum class State : uint8_t {
    idle,
    queued,  // waits for the window, or for its turn to be sent
    sent,    // the target has it, or will
    ending,  // the outcome is known; the kernel still reads its memory
  };

  Done done_;
  State state_ = State::idle;
  bool sent_ = false;
  uint32_t tag_ = 0;
  uint32_t cmd_sn_ = 0;
  uint32_t received_ = 0;  // Data-In
  uint32_t next_data_in_sn_ = 0;
  uint32_t next_r2t_sn_ = 0;
  uint32_t frames_ = 0;     // PDUs of it in the send under way
  uint32_t given_ = 0;      // bytes of its data, from the first on, that were put into PDUs
  bool announced_ = false;  // unsolicited data that must be sent whatever the answer is
  std::array<Transfer, kMaxOutstandingR2t + 1> transfers_;
  boost::intrusive::list_member_hook<> hook_;  // of the queue it waits in
};

// Immediate (RFC 7143 11.5). The answer to a function that aborts says that the commands it names
// are over: those of this session are completed (Outcome::ended) before it is.
class TaskManagement {
 public:
  using Done = void (*)(TaskManagement&) noexcept;

  explicit TaskManagement(Done done) : done_(done) {}
  TaskManagement(const TaskManagement&) = delete;
  TaskManagement& operator=(const TaskManagement&) = delete;
  ~TaskManagement() { ASSERT(!busy_); }

  iscsi::TaskFunction function = iscsi::TaskFunction::abort_task;
  uint64_t lun = 0;
  Command* task = nullptr;  // abort_task: a sent command of the same session that is not done
  void* owner = nullptr;

  bool answered = false;  // false: the session ended, or the target rejected the PDU
  iscsi::TaskResponse response = iscsi::TaskResponse::function_rejected;

  bool busy() const { return busy_; }

 private:
  friend class Session;
  Done done_;
  bool busy_ = false;
  bool sent_ = false;
  uint32_t tag_ = 0;
  uint32_t cmd_sn_ = 0;    // commands before it are those it concerns
  uint32_t task_tag_ = 0;  // of `task`, which may be another command by the time of the answer
  uint32_t task_cmd_sn_ = 0;
  boost::intrusive::list_member_hook<> hook_;
};

}  // namespace holdfast::initiator
