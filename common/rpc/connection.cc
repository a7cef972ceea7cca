#include "common/rpc/connection.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace holdfast::rpc {

using base::Errc;
using base::fail;

const char* to_string(EndKind kind) noexcept {
  switch (kind) {
    case EndKind::closed:
      return "closed";
    case EndKind::connect_failed:
      return "connect failed";
    case EndKind::timed_out:
      return "timed out";
    case EndKind::tls_failed:
      return "tls failed";
    case EndKind::refused:
      return "refused";
    case EndKind::peer_closed:
      return "closed by the peer";
    case EndKind::connection_failed:
      return "connection failed";
    case EndKind::stalled:
      return "stalled";
    case EndKind::protocol_error:
      return "protocol error";
  }
  return "";
}

std::string describe(const ConnectionEnd& end) {
  std::string text = fmt::format("{}: {}", to_string(end.kind), end.why);
  if (end.error != 0) text += fmt::format(" ({})", std::strerror(end.error));
  return text;
}

Connection::Connection(io::Loop& loop, io::Network& network, const Options& options,
                       ConnectionEvents& events)
    : loop_(loop), network_(network), options_(options), events_(events) {}

Connection::~Connection() { ASSERT(phase_ == Phase::idle || phase_ == Phase::ended); }

void Connection::connect(std::shared_ptr<const TlsContext> tls, const std::string& node,
                         const io::Endpoint& address, const io::ConnectOptions& options) {
  ASSERT(phase_ == Phase::idle);
  phase_ = Phase::connecting;
  client_ = true;
  tls_ = std::move(tls);
  node_ = node;
  const base::Result<io::Socket> socket = network_.open_stream(address, options);
  if (!socket.has_value()) {
    return end(EndKind::connect_failed, socket.error().what, socket.error().sys);
  }
  socket_ = *socket;
  loop_.start(timer_, options_.handshake_timeout);
  network_.connect(connect_op_, socket_, address);
}

void Connection::accept(std::shared_ptr<const TlsContext> tls, io::Socket socket) {
  ASSERT(phase_ == Phase::idle);
  tls_ = std::move(tls);
  socket_ = socket;
  loop_.start(timer_, options_.handshake_timeout);
  begin_handshake(TlsEngine::Side::server, "");
  arm_receive();
}

void Connection::on_connected(int32_t result) noexcept {
  if (phase_ == Phase::closing) return check_ended();
  if (result < 0) return end(EndKind::connect_failed, "the peer cannot be reached", -result);
  begin_handshake(TlsEngine::Side::client, node_);
  process({});
}

void Connection::begin_handshake(TlsEngine::Side side, const std::string& node) {
  phase_ = Phase::handshake;
  engine_ = std::make_unique<TlsEngine>(tls_, side, node);
  receive_buffer_.resize(kReceiveBytes);
}

void Connection::on_timer() noexcept {
  switch (phase_) {
    case Phase::connecting:
      return end(EndKind::timed_out, "no answer to the connection request");
    case Phase::handshake:
      return end(EndKind::timed_out, "the handshake took too long");
    case Phase::open:
      return end(EndKind::stalled, "the peer does not take what is sent");
    default:
      if (send_op_.busy()) network_.cancel(send_op_);  // the farewell
      return check_ended();
  }
}

// --- receiving ---

void Connection::arm_receive() {
  receive_iovec_ = {receive_buffer_.data(), receive_buffer_.size()};
  network_.receive(receive_op_, socket_, {&receive_iovec_, 1});
}

void Connection::on_received(int32_t result) noexcept {
  if (phase_ == Phase::closing) return check_ended();
  if (result == 0) return end(EndKind::peer_closed, "the peer closed the connection");
  if (result < 0) return end(EndKind::connection_failed, "receive failed", -result);
  process(base::Bytes(receive_buffer_).first(static_cast<size_t>(result)));
}

void Connection::process(base::Bytes received) {
  plain_.clear();
  if (!engine_->receive(received, plain_)) {
    return end(EndKind::tls_failed, to_string(engine_->failure()));
  }
  if (!client_ && engine_->established() && !identified_) identify();
  if (live()) read_frames();
  if (live() && engine_->peer_closed()) {
    end(EndKind::peer_closed, client_ && phase_ == Phase::handshake
                                  ? "the peer closed the connection before it said hello"
                                  : "the peer closed the connection");
  }
  if (!live()) return;
  arm_flush();
  arm_receive();
}

// The accepting side knows now who the peer is.
void Connection::identify() {
  identified_ = true;
  peer_ = engine_->peer();
  const bool wanted = events_.on_identified();
  if (phase_ != Phase::handshake) return;
  if (!wanted) {
    const auto why = static_cast<uint8_t>(Refusal::declined);
    say(FrameKind::refusal, {&why, 1});
    return end(EndKind::refused, "this node does not want the peer");
  }
  say(FrameKind::hello, {});
  become_open();
}

// Ahead of everything that is queued.
void Connection::say(FrameKind kind, base::Bytes payload) {
  FrameBuffer frame(kFrameHeaderBytes + payload.size());
  const bool fits = frame.push({.kind = kind}, payload).has_value();
  ASSERT(fits);
  engine_->send(frame.front());  // if it fails, the next receive says so
}

void Connection::read_frames() {
  base::Bytes input = plain_;
  while (live()) {
    const base::Result<FrameReader::Event> event = reader_.next(input);
    if (!event.has_value()) return reject(event.error().what);
    if (*event == FrameReader::Event::need_more) return;
    if (phase_ == Phase::handshake) {
      on_first_frame();
    } else {
      events_.on_frame(reader_.header(), reader_.payload());
    }
  }
}

// The connecting side: the peer lets this node in, or not.
void Connection::on_first_frame() {
  const FrameHeader& header = reader_.header();
  if (header.kind == FrameKind::refusal && header.id == 0) {
    return end(EndKind::refused, "the peer does not want this node");
  }
  if (header.kind != FrameKind::hello) return reject("the peer did not begin with a hello");
  peer_ = engine_->peer();
  become_open();
}

void Connection::become_open() {
  loop_.stop(timer_);
  phase_ = Phase::open;
  if (send_op_.busy()) loop_.start(timer_, options_.send_timeout);
  events_.on_opened();
}

// --- sending ---

base::Result<> Connection::send(Priority priority, const FrameHeader& header, base::Bytes payload) {
  if (phase_ != Phase::open) return fail(Errc::closed, "the connection is not open");
  if (payload.size() > kMaxPayload) {
    return fail(Errc::invalid_argument, "the message is too long for one frame");
  }
  TRY(queue_.push(priority, header, payload));
  arm_flush();
  return {};
}

// Everything that one turn of the loop produces goes in one send.
void Connection::arm_flush() {
  if (!flush_op_.busy() && !send_op_.busy()) loop_.at_turn_end(flush_op_);
}

void Connection::on_flush(int32_t) noexcept {
  if (phase_ == Phase::closing) return check_ended();
  pump();
}

void Connection::pump() {
  if (send_op_.busy()) return;
  while (phase_ == Phase::open && !queue_.empty() && engine_->output().size() < kSendBytes) {
    if (!engine_->send(queue_.front())) {
      return end(EndKind::tls_failed, to_string(engine_->failure()));
    }
    queue_.pop();
  }
  if (!take_output()) return;
  if (phase_ == Phase::open) loop_.start(timer_, options_.send_timeout);
  send_rest();
}

// False: there is nothing to send.
bool Connection::take_output() {
  sending_.clear();
  sent_bytes_ = 0;
  sending_.swap(engine_->output());
  return !sending_.empty();
}

void Connection::send_rest() {
  send_iovec_ = {sending_.data() + sent_bytes_, sending_.size() - sent_bytes_};
  network_.send(send_op_, socket_, {&send_iovec_, 1});
}

void Connection::on_sent(int32_t result) noexcept {
  if (result <= 0) {
    if (phase_ == Phase::closing) return check_ended();
    return end(EndKind::connection_failed, "send failed", result == 0 ? EPIPE : -result);
  }
  sent_bytes_ += static_cast<size_t>(result);
  // With its own deadline while it says farewell.
  const bool farewell = phase_ == Phase::closing && timer_.armed();
  if (phase_ == Phase::closing && !farewell) return check_ended();
  if (sent_bytes_ < sending_.size()) return send_rest();
  if (farewell) {
    if (take_output()) return send_rest();
    return check_ended();
  }
  if (phase_ == Phase::open) loop_.stop(timer_);
  pump();
}

// --- the end ---

void Connection::begin_close(const char* why) { end(EndKind::closed, why); }

void Connection::end(EndKind kind, const char* why, int32_t error) {
  if (phase_ == Phase::closing || phase_ == Phase::ended) return;
  ASSERT(phase_ != Phase::idle);
  const bool connected = live();
  phase_ = Phase::closing;
  end_ = {.kind = kind, .error = error, .why = why};
  if (kind == EndKind::tls_failed) end_.tls = engine_->failure();
  loop_.stop(timer_);
  loop_.complete_soon(end_op_, 0);
  if (connect_op_.busy()) network_.cancel(connect_op_);
  if (receive_op_.busy()) network_.cancel(receive_op_);
  const bool peer_listens = kind == EndKind::closed || kind == EndKind::tls_failed ||
                            kind == EndKind::refused || kind == EndKind::protocol_error;
  const bool known = connected && (engine_->established() || kind == EndKind::tls_failed);
  if (known && peer_listens) return say_farewell();
  reset_ = kind != EndKind::peer_closed;
  if (send_op_.busy()) network_.cancel(send_op_);
}

// So that the peer knows why. What is being sent goes first, as a record cannot be left half done.
void Connection::say_farewell() {
  engine_->close();
  if (send_op_.busy()) {
    loop_.start(timer_, kFarewellTimeout);
  } else if (take_output()) {
    loop_.start(timer_, kFarewellTimeout);
    send_rest();
  }
}

void Connection::check_ended() {
  if (connect_op_.busy() || receive_op_.busy() || send_op_.busy() || flush_op_.busy() ||
      end_op_.busy()) {
    return;
  }
  loop_.stop(timer_);
  if (socket_ != io::kNoSocket) network_.close(std::exchange(socket_, io::kNoSocket), reset_);
  phase_ = Phase::ended;
  events_.on_ended(end_);  // may destroy this
}

}  // namespace holdfast::rpc
