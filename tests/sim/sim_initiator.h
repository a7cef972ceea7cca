#pragma once
// One login and its session as a simulated initiator keeps it: a compact iSCSI client over
// SimNetwork. It holds the target to the protocol: every number, length and order that RFC 7143
// fixes is checked, and a breach is reported, never tolerated.

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/iscsi/negotiation.h"
#include "common/iscsi/pdu.h"
#include "common/iscsi/pdu_reader.h"
#include "common/iscsi/status.h"
#include "common/scsi/sense.h"
#include "common/scsi/status.h"
#include "tests/sim/sim_network.h"

namespace holdfast::sim {

struct ScsiRequest {
  uint16_t lun = 0;
  std::array<uint8_t, 16> cdb{};
  std::vector<uint8_t> data_out;
  uint32_t read_length = 0;
};

struct ScsiResult {
  bool answered = false;  // false: the connection ended first, so its fate is unknown
  bool received = false;  // the target has said that it has the command (ExpCmdSN is past it)
  scsi::Status status{};
  scsi::Sense sense{};  // key and codes only
  std::vector<uint8_t> data_in;

  bool good() const { return answered && status == scsi::Status::good; }
  bool check(const scsi::Sense& code) const {
    return answered && status == scsi::Status::check_condition && sense.same_code(code);
  }
};

// Called from the connection's own callbacks, in the order of what arrived.
class InitiatorEvents {
 public:
  virtual ~InitiatorEvents() = default;
  virtual void on_logged_in() = 0;
  virtual void on_login_refused(iscsi::LoginStatus status) = 0;
  virtual void on_command_done(uint32_t tag, const ScsiResult& result) = 0;
  virtual void on_task_management_done(uint32_t tag, bool answered, iscsi::TaskResponse) = 0;
  virtual void on_logged_out() = 0;
  // After every command and task management request has been reported unanswered.
  virtual void on_connection_lost() = 0;
  virtual void on_breach(const std::string& what) = 0;
};

struct LoginOptions {
  std::string initiator_name;
  uint64_t isid = 0;
  std::string target_name;
  io::Endpoint portal;
  io::Endpoint source;
  iscsi::LocalParameters parameters;
};

// Owner: SimClient. Destroy it once gone().
class SimInitiator {
 public:
  SimInitiator(SimLoop& loop, SimNetwork& network, base::Random& random,
               const LoginOptions& options, InitiatorEvents& events);
  SimInitiator(const SimInitiator&) = delete;
  SimInitiator& operator=(const SimInitiator&) = delete;

  void start();
  // Both return the initiator task tag. Sent when the command window allows it.
  uint32_t submit(ScsiRequest request);
  // Immediate. `referenced` is a tag, for ABORT TASK.
  uint32_t manage(iscsi::TaskFunction function, uint16_t lun, uint32_t referenced);
  // Sends the data for R2Ts that it has let wait, so that several are outstanding. Call it now and
  // then.
  void answer_r2ts();
  void logout();
  // Ends the connection from this side; on_connection_lost follows unless it was reported already.
  void drop(bool reset);

  bool logged_in() const { return phase_ == Phase::full_feature; }
  bool gone() const { return phase_ == Phase::gone; }
  bool was_sent(uint32_t tag) const;
  bool was_received(uint32_t tag) const;  // ScsiResult::received, as of now
  // A task management function has ended it without a response; none may come any more.
  void forget(uint32_t tag);
  io::Socket socket() const { return socket_; }
  size_t commands() const { return tasks_.size(); }

 private:
  enum class Phase : uint8_t { idle, connecting, login, full_feature, closing, gone };
  struct Task {
    ScsiRequest request;
    ScsiResult result;
    bool sent = false;
    uint32_t cmd_sn = 0;
    uint32_t next_data_sn = 0;
    uint32_t next_r2t_sn = 0;
    uint32_t open_r2ts = 0;    // not answered yet
    uint32_t burst_bytes = 0;  // Data-In since the last F bit
  };

  void on_connected(int32_t result) noexcept;
  void on_received(int32_t result) noexcept;
  void on_sent(int32_t result) noexcept;

  // sim_initiator.cc
  void arm_receive();
  void flush();
  void process(base::Bytes input);
  void on_pdu();
  void lose(const char* why);
  void close_when_idle();
  void breach(const std::string& what);
  template <class Pdu>
  void send_pdu(const Pdu& pdu, base::Bytes data) {
    send_bhs(base::load<iscsi::Bhs>(base::as_bytes(pdu)), data);
  }
  void send_bhs(const iscsi::Bhs& header, base::Bytes data);
  void send_login(bool first);
  void on_login_response();

  // sim_initiator_tasks.cc
  void on_full_feature_pdu();
  void take_numbers(uint32_t stat_sn, bool consumes, uint32_t exp_cmd_sn, uint32_t max_cmd_sn);
  void pump();
  void send_command(uint32_t tag, Task& task);
  void send_data_out(uint32_t tag, const Task& task, uint32_t ttt, uint32_t offset,
                     uint32_t length);
  void on_r2t();
  void on_data_in();
  void on_scsi_response();
  void on_nop_in();
  void finish(uint32_t tag);
  Task* find_task(uint32_t tag, const char* what);

  SimLoop& loop_;
  SimNetwork& network_;
  base::Random& random_;
  const LoginOptions options_;
  InitiatorEvents& events_;
  Phase phase_ = Phase::idle;
  bool lost_reported_ = false;
  bool reset_ = false;
  bool breached_ = false;
  io::Socket socket_ = io::kNoSocket;

  iscsi::Negotiation negotiation_;
  iscsi::PduReader reader_;
  std::vector<uint8_t> data_;
  std::vector<uint8_t> receive_buffer_;
  std::string out_;      // queued
  std::string sending_;  // given to the network, from sent_ on not yet taken
  size_t sent_ = 0;
  iovec send_iovec_{};
  iovec receive_iovec_{};

  bool numbers_known_ = false;
  uint32_t exp_stat_sn_ = 0;
  uint32_t cmd_sn_ = 0;
  uint32_t exp_cmd_sn_ = 0;
  uint32_t max_cmd_sn_ = 0;
  uint32_t next_tag_ = 1;
  uint32_t login_tag_ = 0;
  uint32_t logout_tag_ = 0;
  std::map<uint32_t, Task> tasks_;
  std::deque<uint32_t> waiting_;  // for the command window
  std::map<uint32_t, iscsi::TaskFunction> management_;
  std::deque<iscsi::R2tPdu> waiting_r2ts_;

  io::OpOf<SimInitiator, &SimInitiator::on_connected> connect_op_{*this};
  io::OpOf<SimInitiator, &SimInitiator::on_received> receive_op_{*this};
  io::OpOf<SimInitiator, &SimInitiator::on_sent> send_op_{*this};
};

}  // namespace holdfast::sim
