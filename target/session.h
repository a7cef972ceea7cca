#pragma once
// The full feature phase of one session: command numbering, task management, NOP, text, logout, and
// the routing of data to tasks. One connection per session. Owner: Connection.

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/iscsi/negotiation.h"
#include "common/iscsi/pdu.h"
#include "common/iscsi/pdu_reader.h"
#include "common/iscsi/text_server.h"
#include "target/logical_unit.h"
#include "target/login_policy.h"
#include "target/task.h"

namespace holdfast::target {

class Connection;
struct ControlPdu;

class Session {
 public:
  Session(Connection& connection, const iscsi::LoginServer& login, const AdmitReply& admitted);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  // What to do with the data of the PDU whose header has arrived.
  enum class Intake : uint8_t {
    take,  // into target()
    discard,
    pause,              // no buffer now: ask again later
    pause_for_answers,  // the initiator does not take those it was given: until it does
    violation,          // protocol error: close
  };
  Intake on_header(const iscsi::PduReader& reader);
  base::MutableBytes target() const { return target_; }
  // False: protocol error, close. `why()` says what.
  bool on_pdu(const iscsi::PduReader& reader);
  const char* why() const { return why_; }

  // Every command ends; nothing is answered any more.
  void abort_all();
  bool idle() const { return tasks_.empty(); }
  bool has_active_tasks() const;

  void update_units();  // the map or the set of units has changed
  void unit_removed(UnitId unit);

  void queue(SendItem& item);
  void task_activated(Task& task);  // its CmdSN slot is used
  void task_ended(Task& task);      // ... and free again
  void task_released(Task& task);
  // A chunk goes while its data is being received into it (the command was aborted): the memory
  // stays until the PDU's end, or the socket would write into somebody else's buffer.
  void chunk_released(Chunk& chunk);
  void forget_in_parked(const NexusUnit& nexus_unit);
  void purge_retired_units();
  void forget_parked(Task& task);  // it was aborted; its number counts as used when its turn comes

  void request_logout();
  void ping();
  void on_housekeeping(io::Instant now, bool reading, bool sending);

  Connection& connection() { return connection_; }
  Shard& shard();
  SessionId id() const { return id_; }
  const NexusId& nexus() const { return nexus_; }
  bool is_discovery() const { return discovery_; }
  uint16_t tsih() const { return tsih_; }
  const std::string& user() const { return user_; }
  const iscsi::SessionParameters& parameters() const { return text_.parameters(); }
  const std::vector<std::unique_ptr<NexusUnit>>& units() const { return units_; }
  NexusUnit* find_unit(uint64_t lun_field);
  uint32_t active_commands() const { return active_commands_; }
  const scsi::PortDescription& port() const { return port_; }
  io::Instant logout_deadline() const { return logout_deadline_; }
  // The data-out it is to get holds buffers: it must not wait for a buffer itself.
  uint32_t open_r2ts = 0;
  uint64_t buffer_bytes = 0;  // held by its commands until their data is sent

 private:
  // session.cc
  Intake on_command_header(const iscsi::PduReader& reader);
  bool describe(Task& task, const iscsi::PduReader& reader);
  void end_overdue(io::Instant now);
  Intake command_data(Task& task, uint32_t length);
  bool may_pause_for(const Task& task) const;
  bool on_command(const iscsi::PduReader& reader);
  bool take_number(uint32_t cmd_sn, bool immediate, bool* in_order);
  void advance_window();
  void run_parked();
  void park(Task& task);
  void refuse(const iscsi::ScsiCommandPdu& pdu, scsi::Status status);
  bool unexpected(const char* why);
  void update_max_cmd_sn();

  // session_data.cc
  Intake on_data_out_header(const iscsi::PduReader& reader);
  Intake unsolicited_data(const iscsi::DataOutPdu& pdu, uint32_t length);
  Intake solicited_data(const iscsi::DataOutPdu& pdu, uint32_t length);
  bool on_data_out(const iscsi::PduReader& reader);

  // session_control.cc
  Intake on_control_header(const iscsi::PduReader& reader);
  bool on_control(const iscsi::PduReader& reader);
  bool number_control(uint32_t cmd_sn, bool immediate);
  void on_nop_out(const iscsi::PduReader& reader);
  void on_text(const iscsi::PduReader& reader);
  void on_logout(const iscsi::PduReader& reader);
  void finish_logout();
  void reject(const iscsi::Bhs& bhs, iscsi::RejectReason reason);

  // session_task_management.cc
  void on_task_management(const iscsi::PduReader& reader);
  void on_set_function(const iscsi::TaskManagementRequestPdu& request);
  bool commands_missing(const iscsi::TaskManagementRequestPdu& request) const;
  void run_waiting_functions();
  void expire_waiting_functions(io::Instant now);
  void plug_gaps(uint32_t before);
  void abort_task(const iscsi::TaskManagementRequestPdu& request);
  void abort_task_set(const iscsi::TaskManagementRequestPdu& request, LogicalUnit& unit);
  void reset(const iscsi::TaskManagementRequestPdu& request, iscsi::TaskFunction function,
             UnitId unit);
  void drain_and_answer(std::vector<Task*> tasks, uint32_t itt, bool awaits_data);
  void answer(uint32_t itt, iscsi::TaskResponse response, bool closes = false);

  Task* find_task(uint32_t itt);
  void insert(Task& task);
  void erase(Task& task);

  Connection& connection_;
  SessionId id_;
  NexusId nexus_;
  bool discovery_;
  uint16_t tsih_;
  uint16_t cid_;  // of its one connection, as the initiator numbers it
  std::string user_;
  TargetDirectory directory_;
  iscsi::TextServer text_;
  scsi::PortDescription port_;
  std::vector<std::unique_ptr<NexusUnit>> units_;  // by LUN, ascending
  // No longer mapped; kept until their last command has ended.
  std::vector<std::unique_ptr<NexusUnit>> retired_units_;
  AdmitReply admitted_;

  using TaskList =
      boost::intrusive::list<Task,
                             boost::intrusive::member_hook<Task, TaskHook, &Task::session_hook>>;
  using ParkedList =
      boost::intrusive::list<Task,
                             boost::intrusive::member_hook<Task, TaskHook, &Task::parked_hook>>;
  static constexpr size_t kBuckets = 256;
  TaskList tasks_;
  ParkedList parked_;  // by CmdSN: they arrived before an earlier one
  std::array<Task*, kBuckets> by_itt_{};
  // Numbers that count as received: of parked commands that were aborted, and of commands that an
  // ABORT TASK named before they came.
  std::vector<uint32_t> skipped_numbers_;
  // Functions on task sets that came before commands with lower numbers.
  struct WaitingFunction {
    iscsi::TaskManagementRequestPdu request;
    io::Instant deadline;
  };
  std::vector<WaitingFunction> waiting_functions_;
  uint32_t active_commands_ = 0;
  uint32_t immediate_commands_ = 0;
  uint32_t unsent_tasks_ = 0;  // ended, but not all of their bytes are sent

  // Of the PDU that is being received.
  base::MutableBytes target_;
  Task* incoming_task_ = nullptr;
  Chunk* incoming_chunk_ = nullptr;
  Buffer orphaned_buffer_;
  R2t* incoming_r2t_ = nullptr;
  bool incoming_out_of_order_ = false;
  enum class Verdict : uint8_t { none, run, ignore, task_set_full, too_many_immediate } verdict_{};
  std::vector<uint8_t> control_data_;
  Buffer ping_data_;
  const char* why_ = "";

  io::Instant last_heard_{};
  io::Instant ping_sent_{};
  bool ping_outstanding_ = false;
  uint32_t next_ttt_ = 1;
  io::Instant logout_deadline_{};
  ControlPdu* logout_answer_ = nullptr;
  bool logging_out_ = false;
};

}  // namespace holdfast::target
