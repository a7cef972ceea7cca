#include "target/connection.h"

#include "common/base/log.h"
#include "target/shard.h"

namespace holdfast::target {
namespace {

constexpr const char* kLog = "iscsi";

iscsi::LoginServer::Options login_options(uint16_t portal_group_tag) {
  iscsi::LoginServer::Options options;
  options.parameters.max_recv_data_segment_length = kChunkBytes;
  options.parameters.first_burst_length = kChunkBytes;
  options.parameters.max_outstanding_r2t = kMaxOutstandingR2t;
  options.portal_group_tag = portal_group_tag;
  options.command_window = kCommandWindow;
  return options;
}

}  // namespace

ControlPdu::ControlPdu() : item(this, nullptr) {}

Connection::Connection(Shard& shard, io::Socket socket, uint16_t portal_group_tag, SessionId id)
    : shard_(shard),
      socket_(socket),
      portal_group_tag_(portal_group_tag),
      id_(id),
      peer_(shard.network().peer_endpoint(socket)),
      local_(shard.network().local_endpoint(socket)),
      accepted_at_(shard.loop().now()),
      receive_buffer_(kLoginReceiveBufferBytes),
      last_received_(accepted_at_),
      last_sent_(accepted_at_),
      policy_(std::make_unique<LoginPolicy>(
          shard.map(),
          LoginPolicy::Route{.peer = peer_, .portal = local_, .portal_group_tag = portal_group_tag},
          LoginPolicy::Guard{.backoff = shard.login_backoff(), .loop = shard.loop()})),
      login_(std::make_unique<iscsi::LoginServer>(login_options(portal_group_tag), *policy_,
                                                  shard.random())) {}

Connection::~Connection() { ASSERT(gone()); }

void Connection::start() {
  shard_.login_began();
  arm_receive();
}

void Connection::close(const char* why) {
  if (phase_ == Phase::closing) return;
  LOG_LIMITED(info, kLog, "connection {} from {} closed: {}", id_, peer_.to_string(), why);
  if (logging_in()) shard_.login_ended();
  phase_ = Phase::closing;
  shard_.cancel_resume(*this);
  shard_.network().cancel(receive_op_);
  shard_.network().cancel(send_op_);
  shard_.network().shutdown(socket_);
  if (session_ != nullptr) session_->abort_all();
  check_gone();
}

bool Connection::gone() const {
  return phase_ == Phase::closing && socket_closed_ && !flush_op_.busy();
}

// Called whenever something that the end waits for has ended.
void Connection::check_gone() {
  if (phase_ != Phase::closing || processing_) return;
  if (receive_op_.busy() || send_op_.busy()) return;
  // Nothing is with the kernel any more: what was to be sent has no receiver.
  send_queue_.clear();
  if (session_ != nullptr && !session_->idle()) return;
  if (!socket_closed_) {
    socket_closed_ = true;
    shard_.network().close(socket_, false);
    if (admission_asked_) shard_.node().session_gone(id_);
  }
  if (gone()) shard_.bury(*this);
}

// --- receiving ---

void Connection::arm_receive() {
  if (phase_ == Phase::full_feature && receive_buffer_.size() < kReceiveBufferBytes) {
    receive_buffer_.resize(kReceiveBufferBytes);  // empty now: a login gets by with less
  }
  const base::MutableBytes direct = reader_.direct_target();
  direct_bytes_ = direct.size();
  size_t count = 0;
  if (!direct.empty()) receive_iovecs_[count++] = {direct.data(), direct.size()};
  receive_iovecs_[count++] = {receive_buffer_.data(), receive_buffer_.size()};
  shard_.network().receive(receive_op_, socket_, std::span(receive_iovecs_).first(count));
}

void Connection::on_received(int32_t result) noexcept {
  if (phase_ == Phase::closing) return check_gone();
  if (result == 0) return close("the initiator closed it");
  if (result < 0) return close("receive failed");
  last_received_ = shard_.loop().now();
  auto bytes = static_cast<size_t>(result);
  const size_t direct = std::min(bytes, direct_bytes_);
  if (direct > 0) reader_.direct_received(direct);
  bytes -= direct;
  input_ = base::Bytes(receive_buffer_.data(), bytes);
  process_input();
}

void Connection::process_input() {
  processing_ = true;
  bool more = true;
  while (more && phase_ != Phase::closing && !paused_) {
    if (header_pending_) {
      if (!handle_header()) break;
      header_pending_ = false;
    }
    const base::Result<iscsi::PduReader::Event> event = reader_.next(input_);
    if (!event.has_value()) {
      close(event.error().what);
      break;
    }
    switch (*event) {
      case iscsi::PduReader::Event::need_more:
        more = false;
        break;
      case iscsi::PduReader::Event::header:
        header_pending_ = true;
        break;
      case iscsi::PduReader::Event::pdu:
        more = handle_pdu();
        break;
    }
  }
  processing_ = false;
  if (phase_ == Phase::closing) return check_gone();
  if (paused_ || phase_ == Phase::waiting_for_grant) return;
  receive_wanted_ = true;
  arm_flush();
}

// False: paused or closing.
bool Connection::handle_header() {
  if (phase_ != Phase::full_feature) {
    login_data_.resize(reader_.data_length());
    if (!login_data_.empty()) reader_.set_data_target(login_data_);
    return true;
  }
  switch (session_->on_header(reader_)) {
    case Session::Intake::take:
      reader_.set_data_target(session_->target());
      return true;
    case Session::Intake::discard:
      if (reader_.data_length() > 0) reader_.discard_data();
      return true;
    case Session::Intake::pause:
      paused_ = true;
      shard_.resume_later(*this);
      return false;
    case Session::Intake::pause_for_answers:
      paused_ = true;
      return false;  // on_control_sent()
    case Session::Intake::violation:
      close(session_->why());
      return false;
  }
  return false;
}

// False: take no more PDUs now.
bool Connection::handle_pdu() {
  if (phase_ == Phase::full_feature) {
    if (!session_->on_pdu(reader_)) close(session_->why());
    return phase_ != Phase::closing;
  }
  login_pdu();
  return phase_ == Phase::login || phase_ == Phase::full_feature;
}

void Connection::resume() {
  if (!paused_ || phase_ == Phase::closing) return;
  paused_ = false;
  process_input();
}

// --- login ---

void Connection::login_pdu() {
  if (refused_) return;  // sent before the peer saw our last answer
  act_on_login(login_->on_pdu(reader_.bhs(), login_data_));
}

void Connection::act_on_login(const iscsi::LoginServer::Outcome& outcome) {
  using Next = iscsi::LoginServer::Next;
  if (outcome.identity_established) ask_admission();
  switch (outcome.next) {
    case Next::reply:
      send_login_response(false);
      return;
    case Next::wait_for_grant:
      phase_ = Phase::waiting_for_grant;
      if (admitted_.has_value()) on_admitted(*admitted_);
      return;
    case Next::full_feature:
      send_login_response(false);
      if (phase_ == Phase::closing) return;  // there was no room for the response
      enter_full_feature();
      return;
    case Next::reply_and_close:
      refused_ = true;
      shard_.count_failed_login();
      LOG_LIMITED(warning, kLog, "login refused: peer={} initiator={} target={}: {} ({})",
                  peer_.to_string(), login_->initiator_name(), login_->target_name(),
                  iscsi::to_string(login_->status()), login_->reason());
      send_login_response(true);
      return;
    case Next::close:
      shard_.count_failed_login();
      close("not a login");
      return;
  }
}

void Connection::ask_admission() {
  admission_asked_ = true;
  AdmitRequest request;
  request.session = id_;
  request.shard = shard_.index();
  request.discovery = login_->session_type() == iscsi::SessionType::discovery;
  request.nexus = {.initiator_name = login_->initiator_name(),
                   .isid = login_->isid(),
                   .target_name = login_->target_name(),
                   .portal_group_tag = portal_group_tag_};
  request.portal = local_;
  request.peer = peer_;
  shard_.node().admit(std::move(request), [&shard = shard_, id = id_](AdmitReply reply) noexcept {
    if (Connection* connection = shard.find(id)) connection->on_admitted(reply);
  });
}

void Connection::on_admitted(const AdmitReply& reply) {
  admitted_ = reply;
  if (phase_ != Phase::waiting_for_grant) return;
  phase_ = Phase::login;
  // The configuration may have changed since the login began.
  if (reply.status != iscsi::LoginStatus::success) {
    act_on_login(login_->deny(reply.status, reply.reason));
  } else if (const auto obstacle = policy_->obstacle_now(*shard_.map())) {
    act_on_login(login_->deny(obstacle->status, obstacle->reason));
  } else {
    act_on_login(login_->grant(reply.tsih));
  }
  if (phase_ == Phase::closing || processing_) return;
  process_input();
}

void Connection::send_login_response(bool closes) {
  ControlPdu* pdu = new_control_pdu();
  const base::Bytes data = login_->response_data();
  if (pdu == nullptr) return close("no slot for a login response");
  if (data.size() > pdu->small.size()) {
    pdu->buffer = shard_.buffers().acquire(data.size());
    if (!pdu->buffer) {
      give_back(*pdu);
      return close("no buffer for a login response");
    }
  }
  const base::MutableBytes room = pdu->buffer ? pdu->buffer.first(data.size())
                                              : base::MutableBytes(pdu->small).first(data.size());
  std::copy(data.begin(), data.end(), room.begin());
  pdu->item.data = room;
  pdu->item.header = base::load<iscsi::Bhs>(base::as_bytes(login_->response()));
  pdu->item.plain = true;
  pdu->item.takes_stat_sn = false;
  pdu->closes = closes;
  queue_control(*pdu);
}

void Connection::enter_full_feature() {
  numbers_.stat_sn = login_->next_stat_sn();
  numbers_.exp_cmd_sn = login_->first_cmd_sn();
  numbers_.max_cmd_sn = numbers_.exp_cmd_sn + kCommandWindow - 1;
  const iscsi::SessionParameters& parameters = login_->parameters();
  send_queue_.configure({.header = parameters.header_digest, .data = parameters.data_digest},
                        parameters.max_send_data_segment_length, parameters.max_burst_length);
  reader_.set_max_data_segment(kChunkBytes);
  reader_.set_digests(parameters.header_digest, parameters.data_digest);
  session_ = std::make_unique<Session>(*this, *login_, *admitted_);
  phase_ = Phase::full_feature;
  shard_.login_ended();
  LOG_LIMITED(info, kLog, "login: session={} initiator={} isid={:012x} target={} peer={} portal={}",
              id_, login_->initiator_name(), login_->isid(), login_->target_name(),
              peer_.to_string(), local_.to_string());
  login_.reset();
  policy_.reset();
  login_data_ = {};
}

// --- sending ---

void Connection::queue(SendItem& item) {
  send_queue_.push(item);
  arm_flush();
}

void Connection::arm_flush() {
  if (phase_ == Phase::closing || flush_op_.busy()) return;
  shard_.loop().at_turn_end(flush_op_);
}

void Connection::on_flush(int32_t) noexcept {
  if (phase_ == Phase::closing) return check_gone();
  if (!send_op_.busy() && !send_queue_.empty()) {
    shard_.network().send(send_op_, socket_, send_queue_.prepare(numbers_));
  }
  // After the send: what arrives while it is carried out makes the next batch larger.
  if (std::exchange(receive_wanted_, false)) arm_receive();
}

void Connection::on_sent(int32_t result) noexcept {
  if (phase_ == Phase::closing) return check_gone();
  if (result <= 0) return close("send failed");
  last_sent_ = shard_.loop().now();
  send_queue_.advance(static_cast<size_t>(result));
  if (phase_ == Phase::closing) return check_gone();
  if (!send_queue_.empty()) arm_flush();
}

ControlPdu* Connection::new_control_pdu() {
  ControlPdu* pdu = shard_.acquire_control_pdu();
  if (pdu == nullptr) return nullptr;
  ++control_pdus_;
  pdu->connection = this;
  pdu->closes = false;
  pdu->item.sent = on_control_sent;
  pdu->item.kind = SendItem::Kind::pdu;
  pdu->item.takes_stat_sn = true;
  pdu->item.plain = false;
  pdu->item.data = {};
  return pdu;
}

void Connection::queue_control(ControlPdu& pdu) { queue(pdu.item); }

void Connection::give_back(ControlPdu& pdu) {
  pdu.buffer = {};
  shard_.release(pdu);
  --control_pdus_;
}

void Connection::on_control_sent(SendItem& item) noexcept {
  ControlPdu& pdu = *static_cast<ControlPdu*>(item.owner);
  Connection& connection = *pdu.connection;
  const bool closes = pdu.closes;
  connection.give_back(pdu);
  if (connection.phase_ == Phase::closing) return;
  if (closes) {
    connection.close_at_ = connection.shard_.loop().now() + kCloseLinger;
    // The peer reads our last answer before it sees the end: the write side only.
    connection.shard_.network().shutdown_send(connection.socket_);
  }
  connection.answer_taken();
}

void Connection::answer_taken() {
  if (!paused_) return;
  shard_.resume_later(*this);
  shard_.wake_waiters();
}

void Connection::on_housekeeping(io::Instant now) {
  if (phase_ == Phase::closing) return;
  if (close_at_ != io::Instant{} && now >= close_at_) return close("closed after its last answer");
  if (phase_ != Phase::full_feature) {
    const auto limit = phase_ == Phase::login ? io::Duration(kLoginTimeout)
                                              : shard_.options().drain_deadline + kLoginTimeout;
    if (now - accepted_at_ >= limit) close("the login took too long");
    return;
  }
  if (send_op_.busy() && now - last_sent_ >= kSendStallTimeout) {
    return close("the initiator takes no data");
  }
  if (!send_op_.busy()) last_sent_ = now;
  session_->on_housekeeping(now, !paused_, send_op_.busy());
}

}  // namespace holdfast::target
