// The connection and the login. Commands: session_commands.cc; everything else that a target may
// send: session_control.cc.

#include "initiator/session.h"

#include <cerrno>
#include <utility>

#include "common/base/log.h"

namespace holdfast::initiator {
namespace {

constexpr const char* kLog = "initiator";

}  // namespace

const char* to_string(EndKind kind) noexcept {
  switch (kind) {
    case EndKind::closed:
      return "closed";
    case EndKind::logged_out:
      return "logged out";
    case EndKind::connect_failed:
      return "connect failed";
    case EndKind::login_refused:
      return "login refused";
    case EndKind::login_failed:
      return "login failed";
    case EndKind::redirected:
      return "redirected";
    case EndKind::timed_out:
      return "timed out";
    case EndKind::peer_closed:
      return "closed by the target";
    case EndKind::connection_failed:
      return "connection failed";
    case EndKind::protocol_error:
      return "protocol error";
  }
  return "";
}

Session::Session(io::Loop& loop, io::Network& network, base::Random& random, Options options,
                 SessionEvents& events)
    : loop_(loop),
      network_(network),
      random_(random),
      options_(std::move(options)),
      events_(events),
      slots_(kMaxCommands, nullptr),
      generations_(kMaxCommands, 0) {
  options_.login.parameters.max_recv_data_segment_length = kMaxDataSegment;
  options_.login.parameters.max_outstanding_r2t = kMaxOutstandingR2t;
  free_slots_.reserve(kMaxCommands);
  for (uint32_t slot = kMaxCommands; slot > 0; --slot) {
    free_slots_.push_back(static_cast<uint16_t>(slot - 1));
  }
}

Session::~Session() { ASSERT(phase_ == Phase::idle || phase_ == Phase::ended); }

void Session::start() {
  ASSERT(phase_ == Phase::idle);
  phase_ = Phase::connecting;
  io::ConnectOptions connect = options_.connect;
  connect.reset_at_exit = true;  // a write in the kernel's buffer must not outlive who knows of it
  const base::Result<io::Socket> socket = network_.open_stream(options_.portal, connect);
  if (!socket.has_value()) {
    end(EndKind::connect_failed, socket.error().what, socket.error().sys);
    return;
  }
  socket_ = *socket;
  loop_.start(timer_, options_.connect_timeout);
  network_.connect(connect_op_, socket_, options_.portal);
}

void Session::on_connected(int32_t result) noexcept {
  if (phase_ == Phase::closing) return finish_end();
  if (result < 0) return end(EndKind::connect_failed, "the portal cannot be reached", -result);
  phase_ = Phase::login;
  local_ = network_.local_endpoint(socket_);
  receive_buffer_.resize(kReceiveBufferBytes);
  loop_.start(timer_, options_.login_timeout);
  options_.login.cmd_sn = static_cast<uint32_t>(random_.next());
  login_ = std::make_unique<iscsi::LoginClient>(options_.login, random_);
  arm_receive();
  events_.on_connected();
  if (phase_ == Phase::login) act_on_login(login_->start());
}

void Session::on_timer() noexcept {
  switch (phase_) {
    case Phase::connecting:
      return end(EndKind::timed_out, "no answer to the connection request", ETIMEDOUT);
    case Phase::login:
      return end(EndKind::timed_out, "the login was not answered in time", ETIMEDOUT);
    case Phase::full_feature:
      return end(EndKind::timed_out, "the logout was not answered in time", ETIMEDOUT);
    default:
      return;
  }
}

// --- receiving ---

void Session::arm_receive() {
  const base::MutableBytes direct = reader_.direct_target();
  direct_bytes_ = direct.size();
  size_t count = 0;
  if (!direct.empty()) receive_iovecs_[count++] = {direct.data(), direct.size()};
  receive_iovecs_[count++] = {receive_buffer_.data(), receive_buffer_.size()};
  network_.receive(receive_op_, socket_, std::span(receive_iovecs_).first(count));
}

void Session::on_received(int32_t result) noexcept {
  if (phase_ == Phase::closing) return finish_end();
  if (result == 0) return end(EndKind::peer_closed, "the target closed the connection");
  if (result < 0) return end(EndKind::connection_failed, "receive failed", -result);
  auto bytes = static_cast<size_t>(result);
  bytes_received_ += bytes;
  events_.on_received();
  if (phase_ == Phase::closing) return finish_end();
  const size_t direct = std::min(bytes, direct_bytes_);
  if (direct > 0) reader_.direct_received(direct);
  process(base::Bytes(receive_buffer_).first(bytes - direct));
}

void Session::process(base::Bytes input) {
  processing_ = true;
  while (phase_ == Phase::login || phase_ == Phase::full_feature) {
    const base::Result<iscsi::PduReader::Event> event = reader_.next(input);
    if (!event.has_value()) {
      broken(event.error().what);
      break;
    }
    if (*event == iscsi::PduReader::Event::need_more) break;
    if (*event == iscsi::PduReader::Event::header) {
      if (!on_header()) break;
    } else if (!reader_.data_digest_ok()) {
      // Level 0 has no way to ask for it again (RFC 7143 7.8).
      broken("a data digest is wrong");
    } else {
      on_pdu();
    }
  }
  processing_ = false;
  if (phase_ == Phase::closing) return finish_end();
  arm_receive();
}

// Where the data of the PDU goes. False: the session ends.
bool Session::on_header() {
  incoming_ = nullptr;
  const uint32_t length = reader_.data_length();
  if (phase_ == Phase::full_feature && reader_.bhs().code() == iscsi::Opcode::data_in) {
    return place_data_in();
  }
  control_data_.resize(length);  // the reader has checked it against what we declared
  if (length > 0) reader_.set_data_target(control_data_);
  return true;
}

void Session::on_pdu() {
  if (phase_ == Phase::login) return on_login_pdu();
  switch (reader_.bhs().code()) {
    case iscsi::Opcode::data_in:
      return on_data_in();
    case iscsi::Opcode::scsi_response:
      return on_scsi_response();
    case iscsi::Opcode::r2t:
      return on_r2t();
    case iscsi::Opcode::nop_in:
      return on_nop_in();
    case iscsi::Opcode::task_management_response:
      return on_task_management_response();
    case iscsi::Opcode::text_response:
      return on_text_response();
    case iscsi::Opcode::async_message:
      return on_async_message();
    case iscsi::Opcode::reject:
      return on_reject();
    case iscsi::Opcode::logout_response:
      return on_logout_response();
    default:
      broken("an opcode that no target may send");
  }
}

bool Session::broken(const char* why) {
  end(phase_ == Phase::login ? EndKind::login_failed : EndKind::protocol_error, why);
  return false;
}

// --- login ---

void Session::on_login_pdu() { act_on_login(login_->on_pdu(reader_.bhs(), control_data_)); }

void Session::act_on_login(iscsi::LoginClient::Next next) {
  using Next = iscsi::LoginClient::Next;
  switch (next) {
    case Next::send: {
      ControlPdu* pdu = new_control();
      if (pdu == nullptr) return;
      pdu->header = base::load<iscsi::Bhs>(base::as_bytes(login_->request()));
      const base::Bytes data = login_->request_data();
      pdu->data.assign(data.begin(), data.end());
      return send_control(*pdu);
    }
    case Next::full_feature:
      return enter_full_feature();
    case Next::redirected:
      end_.redirect = login_->redirect_address();
      end_.status = login_->status();
      return end(EndKind::redirected, "the target names another portal");
    case Next::refused:
      end_.status = login_->status();
      end_.chap_refused = login_->chap_refused();
      end_.retry_without_sha256 = login_->may_retry_without_sha256();
      if (end_.chap_refused) {
        return end(EndKind::login_refused, "the target refused our CHAP user or secret");
      }
      if (end_.status == iscsi::LoginStatus::authentication_failure && !options_.login.chap) {
        return end(EndKind::login_refused, "the target wants CHAP, and no `chap` is configured");
      }
      return end(EndKind::login_refused, iscsi::to_string(end_.status));
    case Next::failed:
      return end(EndKind::login_failed, login_->reason());
  }
}

void Session::enter_full_feature() {
  parameters_ = login_->parameters();
  tsih_ = login_->tsih();
  portal_group_tag_ = login_->portal_group_tag();
  target_alias_ = login_->target_alias();
  chap_done_ = login_->chap_done();
  target_proved_ = login_->target_proved();
  numbers_ = {.cmd_sn = options_.login.cmd_sn,
              .max_cmd_sn = login_->max_cmd_sn(),
              .exp_stat_sn = login_->exp_stat_sn()};
  exp_cmd_sn_ = login_->exp_cmd_sn();
  send_queue_.configure(parameters_);
  reader_.set_digests(parameters_.header_digest, parameters_.data_digest);
  reader_.set_max_data_segment(parameters_.max_recv_data_segment_length);
  phase_ = Phase::full_feature;
  loop_.stop(timer_);
  login_.reset();
  LOG_DEBUG(kLog, "logged in: portal={} target={} isid={:012x} tsih={}",
            options_.portal.to_string(), options_.login.target_name, options_.login.isid, tsih_);
  events_.on_up();
}

// --- sending ---

void Session::arm_flush() {
  if (phase_ == Phase::closing || flush_op_.busy() || send_op_.busy()) return;
  loop_.at_turn_end(flush_op_);
}

void Session::on_flush(int32_t) noexcept {
  if (phase_ == Phase::closing) return finish_end();
  if (send_op_.busy()) return;
  const std::span<const iovec> next = send_queue_.prepare(numbers_);
  if (!next.empty()) network_.send(send_op_, socket_, next);
}

void Session::on_sent(int32_t result) noexcept {
  if (phase_ == Phase::closing) return finish_end();
  if (result <= 0) return end(EndKind::connection_failed, "send failed", -result);
  if (send_queue_.advance(static_cast<size_t>(result))) {
    for (Command* command : send_queue_.sent_commands()) {
      if (command == nullptr) continue;
      --command->frames_;
      release_if_unused(*command);
    }
    send_queue_.recycle();
    complete_ending();
    complete_functions();
    send_functions();
    if (phase_ == Phase::closing) return finish_end();
  }
  arm_flush();
}

// Null: the session ends, as a target that makes us answer faster than it reads deserves.
ControlPdu* Session::new_control() {
  for (ControlPdu& pdu : control_) {
    if (pdu.in_use) continue;
    pdu.in_use = true;
    pdu.header = {};
    pdu.data.clear();
    return &pdu;
  }
  broken("the target asks for more answers than it takes");
  return nullptr;
}

void Session::send_control(ControlPdu& pdu) {
  send_queue_.push(pdu);
  arm_flush();
}

// --- the end ---

void Session::close(bool reset, const char* why) {
  if (phase_ == Phase::closing || phase_ == Phase::ended) return;
  ASSERT(phase_ != Phase::idle);
  reset_ = reset;
  end(EndKind::closed, why);
}

// From here on nothing is sent, and what arrives is not looked at. The kernel may still read the
// memory of commands and write to it: they are given back when its operations have ended.
void Session::end(EndKind kind, const char* why, int32_t error) {
  if (phase_ == Phase::closing || phase_ == Phase::ended) return;
  if (kind != EndKind::closed && kind != EndKind::logged_out) reset_ = true;
  end_.kind = kind;
  end_.why = why;
  end_.error = error;
  phase_ = Phase::closing;
  loop_.stop(timer_);
  network_.cancel(connect_op_);
  network_.cancel(receive_op_);
  network_.cancel(send_op_);
  if (socket_ != io::kNoSocket) network_.shutdown(socket_);
  // Never from inside a call of the owner: the next completion, or this one, goes on.
  if (!flush_op_.busy()) loop_.at_turn_end(flush_op_);
}

void Session::finish_end() {
  if (processing_ || connect_op_.busy() || receive_op_.busy() || send_op_.busy() ||
      flush_op_.busy()) {
    return;
  }
  if (socket_ != io::kNoSocket) network_.close(std::exchange(socket_, io::kNoSocket), reset_);
  fail_everything();
  login_.reset();  // it holds secrets
  phase_ = Phase::ended;
  LOG_DEBUG(kLog, "session ended: portal={} target={} isid={:012x}: {} ({})",
            options_.portal.to_string(), options_.login.target_name, options_.login.isid,
            to_string(end_.kind), end_.why);
  const SessionEnd end = std::move(end_);
  events_.on_ended(end);  // may destroy this object
}

io::TransportInfo Session::transport_info() {
  return socket_ == io::kNoSocket ? io::TransportInfo{} : network_.transport_info(socket_);
}

}  // namespace holdfast::initiator
