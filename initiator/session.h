#pragma once
// One iSCSI session: one connection, one path. Connects, logs in, carries commands and task
// management functions, ends. It knows nothing of other paths and repeats nothing: what it could
// not finish it gives back with the one thing that matters then, whether any byte of it was sent.
//
// Owner: whoever constructs it; one loop's. After start() the owner keeps it until on_ended(), from
// within which it may destroy it. No call of it calls back.

#include <array>
#include <boost/intrusive/list.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/io/loop.h"
#include "common/io/network.h"
#include "common/iscsi/login_client.h"
#include "common/iscsi/pdu_reader.h"
#include "initiator/command.h"
#include "initiator/send_queue.h"

namespace holdfast::initiator {

enum class EndKind : uint8_t {
  closed,             // by close()
  logged_out,         // logout() was answered
  connect_failed,     // `error` is the errno
  login_refused,      // `status` says why
  login_failed,       // the target breaks the protocol, or does not prove who it is
  redirected,         // the target names another portal for this login: `redirect`
  timed_out,          // connecting, logging in or logging out took too long
  peer_closed,        // FIN
  connection_failed,  // RST, ETIMEDOUT: `error` is the errno
  protocol_error,     // what the target sent makes no sense; or a digest is wrong
};
const char* to_string(EndKind kind) noexcept;

struct SessionEnd {
  EndKind kind = EndKind::closed;
  int32_t error = 0;
  iscsi::LoginStatus status = iscsi::LoginStatus::success;
  bool chap_refused = false;          // LoginClient::chap_refused()
  bool retry_without_sha256 = false;  // LoginClient::may_retry_without_sha256()
  const char* why = "";               // static text
  iscsi::TargetAddress redirect;
};

// RFC 7143 11.9.
struct AsyncMessage {
  iscsi::AsyncEvent event{};
  uint8_t vendor_code = 0;
  uint64_t lun = 0;
  uint16_t parameter1 = 0, parameter2 = 0, parameter3 = 0;
  scsi::Sense sense;  // event scsi
};

class SessionEvents {
 public:
  virtual ~SessionEvents() = default;
  // TCP is there, the login begins.
  virtual void on_connected() noexcept {}
  virtual void on_up() noexcept = 0;
  // After all commands and functions were completed. The last call.
  virtual void on_ended(const SessionEnd& end) noexcept = 0;
  // Some bytes have come, whatever they mean. Before anything they bring is told.
  virtual void on_received() noexcept {}
  // The answer to ping().
  virtual void on_ping_answered() noexcept {}
  virtual void on_async(const AsyncMessage&) noexcept {}
};

class Session {
 public:
  struct Options {
    io::Endpoint portal;
    io::ConnectOptions connect;
    iscsi::LoginClient::Options login;
    io::Duration connect_timeout = kConnectTimeout;
    // A login that reinstates a session is answered when that one's commands have ended: a fence
    // needs the fence's deadline here.
    io::Duration login_timeout = kLoginTimeout;
  };
  using TextDone = std::move_only_function<void(base::Result<std::vector<uint8_t>>) noexcept>;

  Session(io::Loop& loop, io::Network& network, base::Random& random, Options options,
          SessionEvents& events);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  void start();
  bool up() const { return phase_ == Phase::full_feature; }

  // From on_up() to on_ended(): once the end has begun (a callback may have called close()) what is
  // submitted is given back with everything else, unsent. Who submits again from its callback asks
  // up() first, or it would be given back without end.
  // The command waits while the target's window is closed. At most kMaxCommands at a time.
  bool has_slot() const { return !free_slots_.empty(); }
  void submit(Command& command);
  // Takes a command back that was not sent: true, and it is idle, its callback will not come.
  bool withdraw(Command& command);
  // Any number at a time: those beyond kMaxManagementPdus wait.
  void manage(TaskManagement& function);
  // It is idle: its callback will not come, and its answer, should it come, is passed over.
  // Commands that it ends without an answer of their own stay under way.
  void forget(TaskManagement& function);
  // Asks for a sign of life, ahead of all that waits. False: one is under way already.
  bool ping();
  bool ping_outstanding() const { return ping_tag_ != iscsi::kReservedTag; }
  // One at a time: key=value pairs; answers with those of the target.
  void text(base::Bytes request, TextDone done);
  // Ends with on_ended(): logged_out, or timed_out after kLogoutTimeout. No command is sent any
  // more.
  void logout();

  // Any time after start(). `reset`: what the kernel has not sent yet is thrown away and the peer
  // is told; anything else might go on for minutes, and arrive.
  void close(bool reset, const char* why);

  const iscsi::SessionParameters& parameters() const { return parameters_; }
  uint16_t tsih() const { return tsih_; }
  const std::string& target_alias() const { return target_alias_; }
  bool chap_done() const { return chap_done_; }
  bool target_proved() const { return target_proved_; }
  uint64_t isid() const { return options_.login.isid; }
  // As the target stated it in the login.
  std::optional<uint16_t> portal_group_tag() const { return portal_group_tag_; }
  const Options& options() const { return options_; }
  io::Endpoint local_endpoint() const { return local_; }
  // Commands not completed, and how many of them wait for the target's window.
  uint32_t outstanding() const { return outstanding_; }
  uint64_t bytes_received() const { return bytes_received_; }
  uint64_t late_answers() const { return late_answers_; }  // to what had ended
  io::TransportInfo transport_info();

 private:
  enum class Phase : uint8_t { idle, connecting, login, full_feature, closing, ended };
  using FunctionList = boost::intrusive::list<
      TaskManagement,
      boost::intrusive::member_hook<TaskManagement, boost::intrusive::list_member_hook<>,
                                    &TaskManagement::hook_>>;
  using CommandList = boost::intrusive::list<
      Command, boost::intrusive::member_hook<Command, boost::intrusive::list_member_hook<>,
                                             &Command::hook_>>;

  // session.cc: connection and login
  void on_connected(int32_t result) noexcept;
  void on_received(int32_t result) noexcept;
  void on_sent(int32_t result) noexcept;
  void on_flush(int32_t) noexcept;
  void on_timer() noexcept;
  void arm_receive();
  void arm_flush();
  void process(base::Bytes input);
  bool on_header();
  void on_pdu();
  void on_login_pdu();
  void act_on_login(iscsi::LoginClient::Next next);
  void enter_full_feature();
  void end(EndKind kind, const char* why, int32_t error = 0);
  void finish_end();
  bool broken(const char* why);
  ControlPdu* new_control();
  void send_control(ControlPdu& pdu);

  // session_commands.cc
  Command* find(uint32_t tag) const;
  bool place_data_in();
  void on_data_in();
  void on_scsi_response();
  void on_r2t();
  void finish(Command& command, Outcome outcome);
  void release_if_unused(Command& command);
  void free_slot(const Command& command);
  void complete_ending();
  void end_commands(const TaskManagement& function);
  static bool ends_commands(const TaskManagement& function);
  bool concerns(const TaskManagement& function, const Command& command) const;
  bool holds_commands(const TaskManagement& function) const;
  void send_functions();
  void complete_functions();
  FunctionList::iterator find_function(uint32_t tag);
  void on_task_management_response();
  void fail_everything();
  bool take_residual(Command& command, uint8_t flags, uint32_t residual);

  // session_control.cc
  bool take_numbers(uint32_t stat_sn, bool consumes, uint32_t exp_cmd_sn, uint32_t max_cmd_sn);
  void on_nop_in();
  void on_text_response();
  void on_async_message();
  void on_reject();
  void on_logout_response();
  void send_text(uint64_t lun, uint32_t ttt, std::vector<uint8_t> data);
  uint32_t next_control_tag();

  io::Loop& loop_;
  io::Network& network_;
  base::Random& random_;
  Options options_;
  SessionEvents& events_;
  Phase phase_ = Phase::idle;
  io::Socket socket_ = io::kNoSocket;
  io::Endpoint local_;
  bool reset_ = false;
  SessionEnd end_;

  std::unique_ptr<iscsi::LoginClient> login_;
  iscsi::SessionParameters parameters_;
  uint16_t tsih_ = 0;
  std::optional<uint16_t> portal_group_tag_;
  std::string target_alias_;
  bool chap_done_ = false;
  bool target_proved_ = false;
  SequenceNumbers numbers_;
  uint32_t exp_cmd_sn_ = 0;

  iscsi::PduReader reader_;
  std::vector<uint8_t> receive_buffer_;
  std::vector<uint8_t> control_data_;  // of the PDU that is being received
  std::vector<uint8_t> bounce_;        // Data-In that lies in several parts of its memory
  Command* incoming_ = nullptr;        // whose Data-In is being received
  bool bounced_ = false;
  std::array<iovec, 2> receive_iovecs_{};
  size_t direct_bytes_ = 0;
  uint64_t bytes_received_ = 0;
  bool processing_ = false;

  SendQueue send_queue_;
  std::array<ControlPdu, kMaxControlPdus> control_;

  std::vector<Command*> slots_;
  std::vector<uint32_t> generations_;
  std::vector<uint16_t> free_slots_;
  uint32_t outstanding_ = 0;
  uint64_t late_answers_ = 0;
  CommandList ending_;  // their outcome is known, and no send names their memory any more
  FunctionList functions_;
  uint32_t control_tag_ = 0;
  uint32_t ping_tag_ = iscsi::kReservedTag;
  uint32_t logout_tag_ = iscsi::kReservedTag;
  uint32_t text_tag_ = iscsi::kReservedTag;
  uint32_t text_responses_ = 0;
  std::vector<uint8_t> text_answer_;
  TextDone text_done_;

  io::OpOf<Session, &Session::on_connected> connect_op_{*this};
  io::OpOf<Session, &Session::on_received> receive_op_{*this};
  io::OpOf<Session, &Session::on_sent> send_op_{*this};
  io::OpOf<Session, &Session::on_flush> flush_op_{*this};
  io::TimerOf<Session, &Session::on_timer> timer_{*this};
};

}  // namespace holdfast::initiator
