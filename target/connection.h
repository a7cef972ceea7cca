#pragma once
// One TCP connection: receive, cut into PDUs, login, send. Its session does the rest.
// Owner: Shard, which destroys it once closed() and nothing of it is pending.

#include <memory>
#include <vector>

#include "common/io/network.h"
#include "common/iscsi/login_server.h"
#include "common/iscsi/pdu_reader.h"
#include "target/login_policy.h"
#include "target/send_queue.h"
#include "target/session.h"

namespace holdfast::target {

class Shard;

// An answer that is not a SCSI response: NOP-In, Reject, text, logout, task management, login.
struct ControlPdu {
  ControlPdu();
  class Connection* connection = nullptr;
  bool closes = false;  // after it is sent the connection ends
  Buffer buffer;        // long data
  std::array<uint8_t, 64> small{};
  SendItem item;
};

class Connection {
 public:
  Connection(Shard& shard, io::Socket socket, uint16_t portal_group_tag, SessionId id);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  void start();
  // Nothing more is received or executed. Its commands are aborted and waited for; then gone()
  // holds and the shard forgets it. `why` is static text for the log.
  void close(const char* why);
  bool closing() const { return phase_ == Phase::closing; }
  // Closed and nothing pending: may be destroyed.
  bool gone() const;
  void check_gone();

  // Sending. queue() coalesces: everything of one turn of the loop leaves in one send.
  void queue(SendItem& item);
  // Null: the shard has no more of them.
  ControlPdu* new_control_pdu();
  // So many answers wait to be sent that no further request is taken.
  bool answers_pile_up() const { return control_pdus_ >= kMaxControlPdusPerConnection; }
  void queue_control(ControlPdu& pdu);
  void give_back(ControlPdu& pdu);  // unused
  // The peer has taken some of what it was sent: reading goes on if it was stopped for that.
  void answer_taken();

  // Takes up receiving again after a pause for lack of buffers or too many queued answers.
  void resume();

  void on_admitted(const AdmitReply& reply);
  void on_housekeeping(io::Instant now);

  Shard& shard() { return shard_; }
  SessionId id() const { return id_; }
  Session* session() { return session_.get(); }
  const iscsi::LoginServer* login() const { return login_.get(); }
  uint16_t portal_group_tag() const { return portal_group_tag_; }
  const io::Endpoint& peer() const { return peer_; }
  const io::Endpoint& local() const { return local_; }
  SequenceNumbers& numbers() { return numbers_; }
  SendQueue& send_queue() { return send_queue_; }
  io::Instant accepted_at() const { return accepted_at_; }
  bool logging_in() const { return phase_ == Phase::login || phase_ == Phase::waiting_for_grant; }

  boost::intrusive::list_member_hook<> paused_hook;  // Shard: waits for buffers

 private:
  enum class Phase : uint8_t { login, waiting_for_grant, full_feature, closing };

  void arm_receive();
  void on_received(int32_t result) noexcept;
  void process_input();
  bool handle_header();
  bool handle_pdu();
  void arm_flush();
  void on_flush(int32_t) noexcept;
  void on_sent(int32_t result) noexcept;
  void login_pdu();
  void act_on_login(const iscsi::LoginServer::Outcome& outcome);
  void send_login_response(bool closes);
  void enter_full_feature();
  void ask_admission();
  static void on_control_sent(SendItem& item) noexcept;

  Shard& shard_;
  io::Socket socket_;
  uint16_t portal_group_tag_;
  SessionId id_;
  Phase phase_ = Phase::login;
  io::Endpoint peer_;
  io::Endpoint local_;
  io::Instant accepted_at_;

  iscsi::PduReader reader_;
  std::vector<uint8_t> receive_buffer_;
  base::Bytes input_;
  bool header_pending_ = false;
  bool paused_ = false;
  bool processing_ = false;
  bool receive_wanted_ = false;  // at the end of this turn
  std::array<iovec, 2> receive_iovecs_{};
  size_t direct_bytes_ = 0;
  io::Instant last_received_;

  SendQueue send_queue_;
  SequenceNumbers numbers_;
  uint32_t control_pdus_ = 0;
  io::Instant last_sent_;
  bool socket_closed_ = false;

  std::unique_ptr<LoginPolicy> policy_;
  std::unique_ptr<iscsi::LoginServer> login_;
  std::vector<uint8_t> login_data_;
  std::unique_ptr<Session> session_;
  bool refused_ = false;  // the login: what still comes is not looked at
  bool admission_asked_ = false;
  std::optional<AdmitReply> admitted_;
  io::Instant close_at_{};  // a half-closed connection is reset then

  io::OpOf<Connection, &Connection::on_received> receive_op_{*this};
  io::OpOf<Connection, &Connection::on_sent> send_op_{*this};
  io::OpOf<Connection, &Connection::on_flush> flush_op_{*this};
};

}  // namespace holdfast::target
