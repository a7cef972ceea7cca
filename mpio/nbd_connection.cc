#include "mpio/nbd_connection.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"
#include "mpio/ghosts.h"
#include "mpio/nbd_server.h"

namespace holdfast::mpio {
namespace {

using nbd::Command;
namespace command_flags = nbd::command_flags;

constexpr const char* kLog = "nbd";
constexpr size_t kReceiveBytes = 64 * 1024;
// Answers to options that the client has not taken yet.
constexpr size_t kMaxNegotiationOutput = 64 * 1024;

}  // namespace

NbdRequest::NbdRequest()
    : BlockRequest([](io::Op& op, int32_t result) noexcept {
        NbdRequest& self = static_cast<NbdRequest&>(op);
        self.connection->on_request_done(self, result);
      }) {}

NbdConnection::NbdConnection(NbdServer& server, io::Socket socket)
    : server_(server),
      socket_(socket),
      negotiation_(server.info_),
      receive_buffer_(kReceiveBytes) {}

NbdConnection::~NbdConnection() { ASSERT(under_way_ == 0 && socket_ == io::kNoSocket); }

void NbdConnection::start() {
  server_.loop_.start(timer_, kNbdHandshakeTimeout);
  const base::Bytes hello = negotiation_.hello();
  negotiation_output_.assign(hello.begin(), hello.end());
  arm_send();
  arm_receive();
}

void NbdConnection::close(const char* why) {
  if (phase_ == Phase::closing) return;
  LOG_LIMITED(info, kLog, "client of {} gone: {}", server_.options_.name, why);
  if (phase_ != Phase::draining) server_.orphans_ += under_way_;
  phase_ = Phase::closing;
  ++server_.closing_;
  waiting_ = Waiting::no;
  if (waiting_hook.is_linked()) server_.no_longer_waiting(*this);
  server_.loop_.stop(timer_);
  server_.loop_.stop(payload_timer_);
  server_.network_.cancel(receive_op_);
  server_.network_.cancel(send_op_);
  server_.network_.cancel(hangup_op_);
  server_.network_.shutdown(socket_);
  if (incoming_ != nullptr) release(*std::exchange(incoming_, nullptr));
  check_gone();
}

// The client has ended the conversation, or the negotiation has: it gets what is under way first.
void NbdConnection::drain(const char* why) {
  phase_ = Phase::draining;
  server_.orphans_ += under_way_;
  drain_reason_ = why;
  check_drained();
}

void NbdConnection::check_drained() {
  if (phase_ != Phase::draining || under_way_ > 0 || !answers_.empty() || !unsent_.empty()) return;
  if (negotiation_output_.empty()) close(drain_reason_);
}

void NbdConnection::check_gone() {
  if (phase_ != Phase::closing || processing_ || socket_ == io::kNoSocket) return;
  if (receive_op_.busy() || send_op_.busy() || flush_op_.busy() || hangup_op_.busy()) return;
  unsent_ = {};
  while (!sending_.empty()) {
    NbdRequest& request = sending_.front();
    sending_.pop_front();
    release(request);
  }
  while (!answers_.empty()) {
    NbdRequest& request = answers_.front();
    answers_.pop_front();
    release(request);
  }
  // What was begun before the client vanished is executed, and waited for: like a disk's cable, a
  // broken socket does not take back what went through it. orphan_changes()
  if (under_way_ > 0) return;
  server_.network_.close(std::exchange(socket_, io::kNoSocket));
  server_.gone(*this);
}

// --- receiving ---

void NbdConnection::arm_receive() {
  size_t count = 0;
  if (phase_ == Phase::payload && incoming_ != nullptr) {
    uint64_t skip = payload_filled_;
    for (size_t i = 0; i < incoming_->part_count; ++i) {
      const iovec& part = incoming_->parts[i];
      if (skip >= part.iov_len) {
        skip -= part.iov_len;
        continue;
      }
      receive_iovecs_[count++] = {static_cast<uint8_t*>(part.iov_base) + skip,
                                  part.iov_len - static_cast<size_t>(skip)};
      skip = 0;
    }
  }
  receive_iovecs_[count++] = {receive_buffer_.data(), receive_buffer_.size()};
  server_.network_.receive(receive_op_, socket_, std::span(receive_iovecs_).first(count));
}

void NbdConnection::on_received(int32_t result) noexcept {
  if (phase_ == Phase::closing) return check_gone();
  if (result <= 0) return close(result == 0 ? "it closed the connection" : "receive failed");
  auto bytes = static_cast<uint64_t>(result);
  if (phase_ == Phase::payload && incoming_ != nullptr) {
    const uint64_t direct = std::min(bytes, incoming_->wire.length.get() - payload_filled_);
    payload_filled_ += direct;
    bytes -= direct;
  }
  process(base::Bytes(receive_buffer_).first(static_cast<size_t>(bytes)));
}

void NbdConnection::process(base::Bytes input) {
  processing_ = true;
  input_ = input;
  bool more = true;
  while (more && waiting_ == Waiting::no) {
    switch (phase_) {
      case Phase::negotiation:
        more = !input_.empty();
        if (more) negotiate(input_);
        break;
      case Phase::header:
        more = take_header(input_);
        break;
      case Phase::payload:
        take_payload(input_);
        more = phase_ != Phase::payload;
        break;
      case Phase::draining:
      case Phase::closing:
        more = false;
        break;
    }
  }
  processing_ = false;
  if (phase_ == Phase::closing) return check_gone();
  if (phase_ != Phase::draining && waiting_ == Waiting::no) arm_receive();
}

void NbdConnection::negotiate(base::Bytes& input) {
  const auto next = negotiation_.feed(input);
  const std::vector<uint8_t>& output = negotiation_.output();
  negotiation_output_.insert(negotiation_output_.end(), output.begin(), output.end());
  if (negotiation_output_.size() > kMaxNegotiationOutput) {
    return close("it asks for more than it reads");
  }
  if (!negotiation_output_.empty()) arm_send();
  switch (next) {
    case nbd::Negotiation::Next::more:
      return;
    case nbd::Negotiation::Next::transmission:
      server_.loop_.stop(timer_);
      if (send_op_.busy()) server_.loop_.start(timer_, kNbdSendTimeout);
      phase_ = Phase::header;
      server_.network_.watch_hangup(hangup_op_, socket_);
      LOG_LIMITED(info, kLog, "client of {} connected", server_.options_.name);
      return;
    case nbd::Negotiation::Next::close:
      drain("the negotiation ended");
  }
}

// False: more bytes are needed.
bool NbdConnection::take_header(base::Bytes& input) {
  const size_t part = std::min(header_.size() - header_filled_, input.size());
  std::copy_n(input.begin(), part, header_.begin() + static_cast<ptrdiff_t>(header_filled_));
  header_filled_ += part;
  input = input.subspan(part);
  if (header_filled_ < header_.size()) return false;
  return begin_request();
}

// Always false: the header stays, and go_on() takes it up again.
bool NbdConnection::wait(Waiting what) {
  waiting_ = what;
  if (!waiting_hook.is_linked()) server_.wait(*this);
  return false;
}

// What it wants and was not begun, whether it waits or lies unread in the socket, is not begun any
// more: it would land on what others write meanwhile, for nobody.
void NbdConnection::on_hangup(int32_t) noexcept {
  if (phase_ == Phase::closing) return check_gone();
  close("it closed the connection");
}

nbd::Agreed NbdConnection::agreed() const {
  return {.structured = negotiation_.structured(), .block_status = negotiation_.block_status()};
}

// False: nothing more can be taken now.
bool NbdConnection::begin_request() {
  const auto wire = base::load<nbd::Request>(header_);
  if (wire.magic.get() != nbd::kRequestMagic) {
    close("a request without its magic number");
    return false;
  }
  const auto command = static_cast<Command>(wire.command.get());
  if (command == Command::disconnect) {
    drain("it disconnected");
    return false;
  }
  const bool writes = command == Command::write;
  if (writes && wire.length > nbd::kMaxPayload) {
    close("a write longer than the maximum it was told");
    return false;
  }
  NbdRequest* request = new_request();
  if (request == nullptr) return wait(Waiting::own);
  request->wire = wire;
  const uint32_t problem = nbd::problem_of(wire, server_.info_, agreed());
  if (problem == 0 && server_.must_wait_for_orphans(wire)) {
    free_.push_back(request);
    return wait(Waiting::own);
  }
  if (problem == 0 && (writes || command == Command::read)) {
    const Waiting missing = acquire_buffers(*request, wire.length);
    if (missing != Waiting::no) {
      free_.push_back(request);
      return wait(missing);
    }
  }
  header_filled_ = 0;
  if (problem != 0) {
    discard_ = writes ? wire.length.get() : 0;
    if (discard_ > 0) phase_ = Phase::payload;
    answer(*request, problem);
    return true;
  }
  if (!writes) {
    submit(*request);
    return true;
  }
  incoming_ = request;
  payload_filled_ = 0;
  phase_ = Phase::payload;
  server_.loop_.start(payload_timer_, kNbdPayloadTimeout);
  return true;
}

// All or nothing. Who waits for the pool is not overtaken, so a large request gets its turn.
NbdConnection::Waiting NbdConnection::acquire_buffers(NbdRequest& request, uint32_t bytes) {
  if (held_bytes_ > 0 && held_bytes_ + bytes > server_.share()) return Waiting::own;
  if (!server_.may_take(*this, bytes)) return Waiting::pool;
  uint32_t left = bytes;
  while (left > 0) {
    const auto part = static_cast<uint32_t>(std::min<size_t>(left, kNbdSlab));
    io::Buffer buffer = server_.buffers_.acquire(part);
    if (!buffer) {
      for (size_t i = 0; i < request.part_count; ++i) request.buffers[i] = {};
      request.part_count = 0;
      return Waiting::pool;
    }
    request.parts[request.part_count] = {buffer.data(), part};
    request.buffers[request.part_count++] = std::move(buffer);
    left -= part;
  }
  held_bytes_ += bytes;
  if (is_small(bytes)) server_.small_bytes_ += bytes;
  return Waiting::no;
}

void NbdConnection::take_payload(base::Bytes& input) {
  if (incoming_ == nullptr) {
    const auto part = static_cast<size_t>(std::min<uint64_t>(discard_, input.size()));
    input = input.subspan(part);
    discard_ -= part;
    if (discard_ == 0) phase_ = Phase::header;
    return;
  }
  uint64_t at = 0;
  for (size_t i = 0; i < incoming_->part_count && !input.empty(); ++i) {
    const iovec& space = incoming_->parts[i];
    if (payload_filled_ < at + space.iov_len) {
      const auto skip = static_cast<size_t>(payload_filled_ - at);
      const size_t part = std::min(space.iov_len - skip, input.size());
      std::copy_n(input.begin(), part, static_cast<uint8_t*>(space.iov_base) + skip);
      input = input.subspan(part);
      payload_filled_ += part;
    }
    at += space.iov_len;
  }
  if (payload_filled_ < incoming_->wire.length.get()) return;
  server_.loop_.stop(payload_timer_);
  phase_ = Phase::header;
  submit(*std::exchange(incoming_, nullptr));
}

void NbdConnection::go_on() {
  ASSERT(waiting_ != Waiting::no && phase_ == Phase::header);
  waiting_ = Waiting::no;
  processing_ = true;
  const bool begun = begin_request();
  processing_ = false;
  if (phase_ == Phase::closing) return check_gone();
  if (waiting_ != Waiting::no) return;  // it keeps its place
  if (waiting_hook.is_linked()) server_.no_longer_waiting(*this);
  if (begun) process(input_);
}

// --- requests ---

NbdRequest* NbdConnection::new_request() {
  if (free_.empty()) {
    if (pool_.size() == kMaxNbdRequests) return nullptr;
    pool_.push_back(std::make_unique<NbdRequest>());  // only until the client's depth is reached
    pool_.back()->connection = this;
    free_.push_back(pool_.back().get());
  }
  NbdRequest* request = free_.back();
  free_.pop_back();
  request->part_count = 0;
  return request;
}

// No client will ever hear what became of it, so whoever comes next cannot know that it may still
// land: on another path, after what is written now.
bool NbdConnection::orphan_changes(uint64_t offset, uint64_t length) const {
  if (!is_orphaned()) return false;
  return std::ranges::any_of(pool_, [&](const auto& request) {
    return request->busy() && waits_for_ghosts(request->kind) &&
           ByteRange{request->offset, request->length}.overlaps({offset, length});
  });
}

void NbdConnection::submit(NbdRequest& request) {
  using Kind = io::BlockRequest::Kind;
  const uint16_t flags = request.wire.flags;
  request.offset = request.wire.offset;
  request.length = request.wire.length;
  request.data = std::span<const iovec>(request.parts).first(request.part_count);
  request.durability =
      (flags & command_flags::kFua) != 0 ? io::Durability::durable : io::Durability::cached;
  request.may_deallocate = (flags & command_flags::kNoHole) == 0;
  switch (static_cast<Command>(request.wire.command.get())) {
    case Command::read:
      request.kind = Kind::read;
      break;
    case Command::write:
      request.kind = Kind::write;
      break;
    case Command::flush:
      request.kind = Kind::flush;
      break;
    case Command::trim:
      request.kind = Kind::discard;
      break;
    case Command::write_zeroes:
      request.kind = Kind::write_zeroes;
      break;
    default:
      request.kind = Kind::status;
      request.extents =
          std::span(request.extent_space)
              .first((flags & command_flags::kRequestOne) != 0 ? 1 : nbd::kStatusExtents);
      request.extent_count = 0;
  }
  ++under_way_;
  server_.device_.submit(request);
}

void NbdConnection::on_request_done(NbdRequest& request, int32_t result) noexcept {
  --under_way_;
  if (is_orphaned()) {
    --server_.orphans_;
    server_.something_freed();
  }
  if (phase_ == Phase::closing) {
    release(request);
    return check_gone();
  }
  answer(request, result < 0 ? nbd::to_wire_error(result) : 0);
}

void NbdConnection::answer(NbdRequest& request, uint32_t error) {
  const auto command = static_cast<Command>(request.wire.command.get());
  request.with_data = command == Command::read && error == 0;
  request.head_bytes = 0;
  if (command == Command::block_status && error == 0) {
    request.head_bytes =
        nbd::write_status(request.head, request.wire, request.extents.first(request.extent_count));
    if (request.head_bytes == 0) error = nbd::kIo;
  }
  if (request.head_bytes == 0) {
    request.head_bytes =
        nbd::write_head(request.head, request.wire, error, negotiation_.structured());
  }
  answers_.push_back(request);
  arm_send();
}

void NbdConnection::release(NbdRequest& request) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < request.part_count; ++i) {
    bytes += request.parts[i].iov_len;
    request.buffers[i] = {};
  }
  held_bytes_ -= bytes;
  if (is_small(bytes)) server_.small_bytes_ -= bytes;
  request.part_count = 0;
  free_.push_back(&request);
  server_.something_freed();
}

// --- sending ---

void NbdConnection::arm_send() {
  if (phase_ == Phase::closing || send_op_.busy() || flush_op_.busy()) return;
  server_.loop_.at_turn_end(flush_op_);
}

void NbdConnection::on_flush(int32_t) noexcept {
  if (phase_ == Phase::closing) return check_gone();
  if (send_op_.busy()) return;
  if (unsent_.empty()) {
    size_t count = 0;
    negotiation_sending_.clear();
    negotiation_sending_.swap(negotiation_output_);
    if (!negotiation_sending_.empty()) {
      send_iovecs_[count++] = {negotiation_sending_.data(), negotiation_sending_.size()};
    }
    while (!answers_.empty()) {
      NbdRequest& request = answers_.front();
      const size_t parts = request.with_data ? request.part_count : 0;
      if (count + 1 + parts > send_iovecs_.size()) break;
      answers_.pop_front();
      sending_.push_back(request);
      send_iovecs_[count++] = {request.head.data(), request.head_bytes};
      std::copy_n(request.parts.begin(), parts,
                  send_iovecs_.begin() + static_cast<ptrdiff_t>(count));
      count += parts;
    }
    unsent_ = std::span(send_iovecs_).first(count);
  }
  if (unsent_.empty()) return;
  if (phase_ != Phase::negotiation) server_.loop_.start(timer_, kNbdSendTimeout);
  server_.network_.send(send_op_, socket_, unsent_);
}

void NbdConnection::on_sent(int32_t result) noexcept {
  if (phase_ == Phase::closing) return check_gone();
  if (result <= 0) return close("send failed");
  if (phase_ != Phase::negotiation) server_.loop_.stop(timer_);
  auto bytes = static_cast<size_t>(result);
  while (bytes > 0) {
    iovec& first = unsent_.front();
    const size_t part = std::min(bytes, first.iov_len);
    first.iov_base = static_cast<uint8_t*>(first.iov_base) + part;
    first.iov_len -= part;
    bytes -= part;
    if (first.iov_len == 0) unsent_ = unsent_.subspan(1);
  }
  while (unsent_.empty() && !sending_.empty()) {
    NbdRequest& request = sending_.front();
    sending_.pop_front();
    release(request);
  }
  if (!unsent_.empty() || !answers_.empty() || !negotiation_output_.empty()) return arm_send();
  check_drained();
}

void NbdConnection::on_timer() noexcept {
  close(phase_ == Phase::negotiation ? "the negotiation took too long" : "it takes no answers");
}

void NbdConnection::on_payload_timer() noexcept { close("it does not send what it writes"); }

}  // namespace holdfast::mpio
