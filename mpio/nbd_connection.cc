#include "mpio/nbd_connection.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"
#include "mpio/nbd_server.h"

namespace holdfast::mpio {
namespace {

using nbd::Command;
namespace command_flags = nbd::command_flags;

constexpr const char* kLog = "nbd";
constexpr size_t kReceiveBytes = 64 * 1024;

uint32_t to_wire_error(int32_t result) {
  switch (-result) {
    case ENOSPC:
      return nbd::kNoSpace;
    case EINVAL:
      return nbd::kInvalid;
    case EROFS:
    case EPERM:
      return nbd::kPermission;
    case ENOTSUP:
      return nbd::kNotSupported;
    case ENOLINK:
      return nbd::kShutdown;
    default:
      return nbd::kIo;  // fenced and timed out too: the protocol has no word for them
  }
}

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
  LOG_INFO(kLog, "client of {} gone: {}", server_.options_.name, why);
  phase_ = Phase::closing;
  waiting_ = false;
  server_.loop_.stop(timer_);
  server_.network_.cancel(receive_op_);
  server_.network_.cancel(send_op_);
  server_.network_.shutdown(socket_);
  if (incoming_ != nullptr) release(*std::exchange(incoming_, nullptr));
  check_gone();
}

void NbdConnection::check_gone() {
  if (phase_ != Phase::closing || processing_ || socket_ == io::kNoSocket) return;
  if (receive_op_.busy() || send_op_.busy() || flush_op_.busy()) return;
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
  // What the client sent before it vanished is executed, and waited for: like a disk's cable, a
  // broken socket does not take back what went through it.
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
    const uint64_t direct = std::min(bytes, incoming_->wire.length - payload_filled_);
    payload_filled_ += direct;
    bytes -= direct;
  }
  process(base::Bytes(receive_buffer_).first(static_cast<size_t>(bytes)));
}

void NbdConnection::process(base::Bytes input) {
  processing_ = true;
  input_ = input;
  bool more = true;
  while (more && phase_ != Phase::closing && !waiting_) {
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
      case Phase::closing:
        break;
    }
  }
  processing_ = false;
  if (phase_ == Phase::closing) return check_gone();
  if (!waiting_) arm_receive();
}

void NbdConnection::negotiate(base::Bytes& input) {
  const auto next = negotiation_.feed(input);
  const std::vector<uint8_t>& output = negotiation_.output();
  negotiation_output_.insert(negotiation_output_.end(), output.begin(), output.end());
  if (negotiation_output_.size() > kReceiveBytes) {
    return close("it asks for more than it reads");
  }
  if (!negotiation_output_.empty()) arm_send();
  switch (next) {
    case nbd::Negotiation::Next::more:
      return;
    case nbd::Negotiation::Next::transmission:
      server_.loop_.stop(timer_);
      phase_ = Phase::header;
      LOG_INFO(kLog, "client of {} connected", server_.options_.name);
      return;
    case nbd::Negotiation::Next::close:
      if (negotiation_output_.empty()) return close("the negotiation failed");
      refused_ = true;  // on_sent() closes
      input = {};
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

// False: it waits for a slot or for buffers; the header stays.
bool NbdConnection::begin_request() {
  const auto wire = base::load<nbd::Request>(header_);
  if (wire.magic.get() != nbd::kRequestMagic) {
    close("a request without its magic number");
    return false;
  }
  const auto command = static_cast<Command>(wire.command.get());
  if (command == Command::disconnect) {
    close("it disconnected");
    return false;
  }
  const bool writes = command == Command::write;
  if (writes && wire.length > kMaxNbdPayload) {
    close("a write longer than the maximum it was told");
    return false;
  }
  NbdRequest* request = new_request();
  if (request == nullptr) {
    waiting_ = true;
    return false;
  }
  request->wire = wire;
  const uint32_t problem = problem_of(*request);
  const bool needs_buffers = writes || command == Command::read;
  if (problem == 0 && needs_buffers && !acquire_buffers(*request, wire.length)) {
    free_.push_back(request);
    waiting_ = true;
    return false;
  }
  header_filled_ = 0;
  if (problem != 0) {
    discard_ = writes ? wire.length.get() : 0;
    if (discard_ > 0) phase_ = Phase::payload;
    refuse(*request, problem);
    return true;
  }
  if (!writes) {
    submit(*request);
    return true;
  }
  incoming_ = request;
  payload_filled_ = 0;
  phase_ = Phase::payload;
  return true;
}

uint32_t NbdConnection::problem_of(const NbdRequest& request) const {
  const nbd::ExportInfo& info = server_.info_;
  const auto command = static_cast<Command>(request.wire.command.get());
  const uint16_t flags = request.wire.flags;
  const uint64_t offset = request.wire.offset;
  const uint32_t length = request.wire.length;
  uint16_t known = command_flags::kFua;
  bool changes = false;
  switch (command) {
    case Command::read:
      known |= command_flags::kDontFragment;
      if (length > kMaxNbdPayload) return nbd::kInvalid;
      break;
    case Command::write:
    case Command::trim:
      changes = true;
      break;
    case Command::write_zeroes:
      changes = true;
      known |= command_flags::kNoHole | command_flags::kFastZero;
      break;
    case Command::block_status:
      known |= command_flags::kRequestOne;
      if (!negotiation_.block_status()) return nbd::kInvalid;
      break;
    case Command::flush:
      return (flags & ~known) == 0 && offset == 0 && length == 0 ? 0 : nbd::kInvalid;
    default:
      return nbd::kInvalid;
  }
  if ((flags & ~known) != 0 || length == 0) return nbd::kInvalid;
  if (changes && (info.flags & nbd::export_flags::kReadOnly) != 0) return nbd::kPermission;
  if (offset % info.minimum_block != 0 || length % info.minimum_block != 0) return nbd::kInvalid;
  if (offset > info.size_bytes || length > info.size_bytes - offset) {
    return changes ? nbd::kNoSpace : nbd::kInvalid;
  }
  return 0;
}

bool NbdConnection::acquire_buffers(NbdRequest& request, uint32_t bytes) {
  request.part_count = 0;
  while (bytes > 0) {
    const auto part = static_cast<uint32_t>(std::min<size_t>(bytes, kNbdSlab));
    io::Buffer buffer = server_.buffers_.acquire(part);
    if (!buffer) {
      for (size_t i = 0; i < request.part_count; ++i) request.buffers[i] = {};
      request.part_count = 0;
      return false;
    }
    request.parts[request.part_count] = {buffer.data(), part};
    request.buffers[request.part_count++] = std::move(buffer);
    bytes -= part;
  }
  return true;
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
  if (payload_filled_ < incoming_->wire.length) return;
  phase_ = Phase::header;
  submit(*std::exchange(incoming_, nullptr));
}

void NbdConnection::buffers_freed() {
  if (!waiting_ || phase_ == Phase::closing || processing_) return;
  waiting_ = false;
  processing_ = true;
  const bool begun = begin_request();
  processing_ = false;
  if (phase_ == Phase::closing) return check_gone();
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

void NbdConnection::submit(NbdRequest& request) {
  using Kind = io::BlockRequest::Kind;
  const uint16_t flags = request.wire.flags;
  request.offset = request.wire.offset;
  request.length = request.wire.length;
  request.data = std::span<const iovec>(request.parts).first(request.part_count);
  request.durability = (flags & command_flags::kFua) != 0 ? io::Durability::durable
                                                          : io::Durability::cached;
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
      request.extents = std::span(request.extent_space)
                            .first((flags & command_flags::kRequestOne) != 0 ? 1
                                                                             : kNbdStatusExtents);
  }
  ++under_way_;
  server_.device_.submit(request);
}

void NbdConnection::refuse(NbdRequest& request, uint32_t error) {
  request.part_count = 0;
  answer(request, -static_cast<int32_t>(error == nbd::kShutdown ? ENOLINK : error));
}

void NbdConnection::on_request_done(NbdRequest& request, int32_t result) noexcept {
  --under_way_;
  if (phase_ == Phase::closing) {
    release(request);
    return check_gone();
  }
  answer(request, result);
}

// Reads, and whatever was asked after structured replies were agreed on, get a structured one.
void NbdConnection::answer(NbdRequest& request, int32_t result) {
  const auto command = static_cast<Command>(request.wire.command.get());
  const bool read = command == Command::read;
  const uint32_t error = result < 0 ? to_wire_error(result) : 0;
  request.with_data = read && error == 0;
  if (command == Command::block_status && error == 0) {
    answer_status(request);
  } else if (!negotiation_.structured()) {
    nbd::SimpleReply reply;
    reply.error = error;
    reply.cookie = request.wire.cookie;
    request.head_bytes = sizeof(reply);
    base::store(request.head, reply);
  } else {
    nbd::ChunkHeader chunk;
    chunk.cookie = request.wire.cookie;
    const auto rest = base::MutableBytes(request.head).subspan(sizeof(chunk));
    if (error != 0) {
      chunk.type = static_cast<uint16_t>(nbd::Chunk::error);
      chunk.length = sizeof(nbd::ErrorPayload);
      base::store(rest, nbd::ErrorPayload{.error = error});
      request.head_bytes = sizeof(chunk) + sizeof(nbd::ErrorPayload);
    } else if (read) {
      chunk.type = static_cast<uint16_t>(nbd::Chunk::offset_data);
      chunk.length = request.wire.length + static_cast<uint32_t>(sizeof(nbd::be64));
      base::store(rest, request.wire.offset);
      request.head_bytes = sizeof(chunk) + sizeof(nbd::be64);
    } else {
      chunk.type = static_cast<uint16_t>(nbd::Chunk::none);
      request.head_bytes = sizeof(chunk);
    }
    base::store(request.head, chunk);
  }
  answers_.push_back(request);
  arm_send();
}

void NbdConnection::answer_status(NbdRequest& request) {
  const auto out = base::MutableBytes(request.head);
  size_t at = sizeof(nbd::ChunkHeader) + sizeof(nbd::be32);
  base::store(out.subspan(sizeof(nbd::ChunkHeader)),
              nbd::be32(nbd::Negotiation::kAllocationContext));
  const bool one = (request.wire.flags & command_flags::kRequestOne) != 0;
  uint64_t left = request.wire.length;
  for (size_t i = 0; i < request.extent_count && left > 0; ++i) {
    const io::Extent& extent = request.extents[i];
    const auto length = static_cast<uint32_t>(std::min({extent.length_bytes, left,
                                                        uint64_t{0xffffffff}}));
    nbd::StatusDescriptor descriptor;
    descriptor.length = length;
    if (extent.state == io::ExtentState::deallocated) {
      descriptor.flags = nbd::kStateHole | nbd::kStateZero;
    }
    base::store(out.subspan(at), descriptor);
    at += sizeof(descriptor);
    left -= length;
    if (one || length < extent.length_bytes) break;
  }
  nbd::ChunkHeader chunk;
  chunk.type = static_cast<uint16_t>(nbd::Chunk::block_status);
  chunk.cookie = request.wire.cookie;
  chunk.length = static_cast<uint32_t>(at - sizeof(chunk));
  base::store(out, chunk);
  request.head_bytes = at;
}

void NbdConnection::release(NbdRequest& request) {
  const bool held = request.part_count > 0;
  for (size_t i = 0; i < request.part_count; ++i) request.buffers[i] = {};
  request.part_count = 0;
  free_.push_back(&request);
  if (held) server_.buffers_freed();
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
    if (!negotiation_output_.empty()) {
      send_iovecs_[count++] = {negotiation_output_.data(), negotiation_output_.size()};
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
  if (unsent_.empty()) {
    negotiation_output_.clear();
    if (refused_) return close("the negotiation ended");
    while (!sending_.empty()) {
      NbdRequest& request = sending_.front();
      sending_.pop_front();
      release(request);
    }
    buffers_freed();  // or a slot
    if (phase_ == Phase::closing) return;
  }
  if (!unsent_.empty() || !answers_.empty() || !negotiation_output_.empty()) arm_send();
}

void NbdConnection::on_timer() noexcept {
  close(phase_ == Phase::negotiation ? "the negotiation took too long"
                                     : "it takes no answers");
}

}  // namespace holdfast::mpio
