#pragma once
// A target that does what the test says: it logs initiators in, keeps what arrives and sends what
// it is told, right or wrong.

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/iscsi/login_server.h"
#include "common/iscsi/pdu_reader.h"
#include "common/iscsi/pdu_writer.h"
#include "tests/sim/sim_network.h"

namespace holdfast::initiator {

struct ReceivedPdu {
  iscsi::Bhs bhs;
  std::vector<uint8_t> data;
  bool data_digest_ok = true;
  template <class Pdu>
  Pdu as() const {
    return base::load<Pdu>(base::as_bytes(bhs));
  }
};

// Owner: the fixture; in a process of its own, which ends with it.
class ScriptedTarget final : public iscsi::LoginPolicy {
 public:
  static constexpr uint32_t kFirstStatSn = 0xfffffffd;  // wraps soon

  ScriptedTarget(sim::SimWorld& world, sim::SimFabric& fabric)
      : process_(world.make_process("target")),
        loop_(process_.make_loop()),
        network_(fabric, loop_),
        random_(world.fork_random()) {
    listener_ = network_.listen(portal()).value();
    network_.accept(accept_op_, listener_);
  }
  ~ScriptedTarget() override { process_.kill(); }

  static io::Endpoint portal() { return io::Endpoint::parse("10.1.0.10:3260").value(); }

  // What the login is answered with; `serves_logins` false: the test answers.
  iscsi::LocalParameters parameters;
  iscsi::LoginDecision decision;
  bool serves_logins = true;
  uint32_t window = 32;  // commands, of the responses

  std::deque<ReceivedPdu> received;
  bool peer_closed = false;
  int32_t peer_error = 0;  // errno
  int connections = 0;
  uint32_t stat_sn = kFirstStatSn;
  uint32_t exp_cmd_sn = 0;
  bool spoil_header_digest = false, spoil_data_digest = false;
  // Not reading: the initiator's sends stall once the buffers are full.
  void stop_reading() { reading_ = false; }
  void go_on_reading() {
    reading_ = true;
    if (!receive_op_.busy()) arm_receive();
  }

  bool logged_in() const { return full_feature_; }
  const iscsi::SessionParameters& active() const { return login_->parameters(); }
  sim::SimProcess& process() { return process_; }

  // As it is, but for the data length and digests.
  template <class Pdu>
  void send_as_is(const Pdu& pdu, base::Bytes data = {}) {
    std::array<uint8_t, iscsi::kMaxWireHeaderBytes> header;
    const bool digests = full_feature_;
    const size_t length =
        iscsi::write_header(header, pdu, data.size(), digests && active().header_digest);
    if (spoil_header_digest && length > iscsi::kBhsBytes) header[iscsi::kBhsBytes] ^= 1;
    iscsi::DataTrailer trailer = iscsi::data_trailer(data, digests && active().data_digest);
    if (data.empty()) trailer.length = 0;
    if (spoil_data_digest && trailer.length >= iscsi::kDigestBytes) {
      trailer.storage[trailer.length - 1u] ^= 1;
    }
    send_bytes(base::Bytes(header).first(length));
    send_bytes(data);
    send_bytes(trailer.bytes());
  }
  // With the numbers of the session; `consumes`: it takes a StatSN.
  template <class Pdu>
  void send(Pdu pdu, bool consumes, base::Bytes data = {}) {
    number(pdu, consumes);
    send_as_is(pdu, data);
  }
  template <class Pdu>
  void number(Pdu& pdu, bool consumes) {
    pdu.stat_sn = stat_sn;
    if (consumes) ++stat_sn;
    pdu.exp_cmd_sn = exp_cmd_sn;
    pdu.max_cmd_sn = exp_cmd_sn + window - 1;
  }
  void send_bytes(base::Bytes bytes) {
    out_.append(base::as_text(bytes));
    flush();
  }
  // What is queued is sent before a close that is no reset.
  void close(bool reset) {
    if (reset) {
      network_.cancel(receive_op_);
      closing_ = true;
      reset_ = true;
      if (!receive_op_.busy() && !send_op_.busy()) close_now();
      return;
    }
    fin_ = true;
    flush();
  }

 private:
  iscsi::LoginDecision normal(std::string_view, std::string_view) override { return decision; }
  iscsi::LoginDecision discovery(std::string_view) override { return decision; }
  iscsi::LoginStatus join_session(std::string_view, uint64_t, uint16_t, uint16_t) override {
    return iscsi::LoginStatus::session_does_not_exist;
  }
  bool chap_ended(bool) override { return true; }

  void on_accepted(int32_t result) noexcept {
    if (result < 0) return;
    ASSERT(socket_ == io::kNoSocket);  // one at a time
    ++connections;
    socket_ = result;
    full_feature_ = peer_closed = fin_ = closing_ = reset_ = false;
    reader_ = std::make_unique<iscsi::PduReader>();
    login_.emplace(
        iscsi::LoginServer::Options{
            .parameters = parameters, .portal_group_tag = 3, .command_window = window},
        *this, random_);
    buffer_.resize(64 * 1024);
    arm_receive();
    network_.accept(accept_op_, listener_);
  }
  void arm_receive() {
    if (!reading_ || socket_ == io::kNoSocket || peer_closed) return;
    iovec_ = {buffer_.data(), buffer_.size()};
    network_.receive(receive_op_, socket_, {&iovec_, 1});
  }
  void on_received(int32_t result) noexcept {
    if (result <= 0) {
      peer_closed = true;
      peer_error = -result;
      if (!send_op_.busy()) close_now();
      return;
    }
    base::Bytes input = base::Bytes(buffer_).first(static_cast<size_t>(result));
    while (true) {
      const auto event = reader_->next(input);
      ASSERT(event.has_value());  // the initiator never sends what we cannot read
      if (*event == iscsi::PduReader::Event::need_more) break;
      if (*event == iscsi::PduReader::Event::header) {
        data_.resize(reader_->data_length());
        if (!data_.empty()) reader_->set_data_target(data_);
        continue;
      }
      on_pdu();
    }
    arm_receive();
  }
  void on_pdu() {
    const iscsi::Bhs& bhs = reader_->bhs();
    if (serves_logins && bhs.code() == iscsi::Opcode::login_request) return answer_login();
    const bool numbered = bhs.code() == iscsi::Opcode::scsi_command && !bhs.immediate();
    if (numbered) {
      // In order, and never more than the window allows.
      ASSERT(reader_->as<iscsi::ScsiCommandPdu>().cmd_sn == exp_cmd_sn);
      ++exp_cmd_sn;
    }
    received.push_back({bhs, data_, reader_->data_digest_ok()});
  }
  void answer_login() {
    using Next = iscsi::LoginServer::Next;
    iscsi::LoginServer::Outcome outcome = login_->on_pdu(reader_->bhs(), data_);
    if (outcome.next == Next::wait_for_grant) outcome = login_->grant(7);
    if (outcome.next == Next::close) return close(true);
    send_as_is(login_->response(), login_->response_data());
    if (outcome.next == Next::reply_and_close) return close(false);
    if (outcome.next != Next::full_feature) return;
    full_feature_ = true;
    reader_->set_digests(active().header_digest, active().data_digest);
    reader_->set_max_data_segment(active().max_recv_data_segment_length);
    stat_sn = login_->next_stat_sn();
    exp_cmd_sn = login_->first_cmd_sn();
  }

  void flush() {
    if (socket_ == io::kNoSocket || send_op_.busy() || closing_) return;
    if (out_.empty()) {
      if (std::exchange(fin_, false)) network_.shutdown_send(socket_);
      return;
    }
    sending_ = std::exchange(out_, {});
    send_iovec_ = {sending_.data(), sending_.size()};
    network_.send(send_op_, socket_, {&send_iovec_, 1});
  }
  void on_sent(int32_t result) noexcept {
    if (result > 0 && !closing_ && !peer_closed) {
      sending_.erase(0, static_cast<size_t>(result));
      out_.insert(0, sending_);
      return flush();
    }
    if ((closing_ || peer_closed) && !receive_op_.busy()) close_now();
  }
  void close_now() {
    if (socket_ == io::kNoSocket) return;
    out_.clear();
    network_.close(std::exchange(socket_, io::kNoSocket), reset_);
  }

  sim::SimProcess& process_;
  sim::SimLoop& loop_;
  sim::SimNetwork network_;
  base::SeededRandom random_;
  io::Socket listener_ = io::kNoSocket;
  io::Socket socket_ = io::kNoSocket;
  bool full_feature_ = false, fin_ = false, closing_ = false, reset_ = false, reading_ = true;
  std::optional<iscsi::LoginServer> login_;
  std::unique_ptr<iscsi::PduReader> reader_;
  std::vector<uint8_t> buffer_, data_;
  iovec iovec_{}, send_iovec_{};
  std::string out_, sending_;
  io::OpOf<ScriptedTarget, &ScriptedTarget::on_accepted> accept_op_{*this};
  io::OpOf<ScriptedTarget, &ScriptedTarget::on_received> receive_op_{*this};
  io::OpOf<ScriptedTarget, &ScriptedTarget::on_sent> send_op_{*this};
};

}  // namespace holdfast::initiator
