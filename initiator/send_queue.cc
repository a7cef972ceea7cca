#include "initiator/send_queue.h"

#include <algorithm>

#include "common/iscsi/sequence.h"

namespace holdfast::initiator {
namespace {

using iscsi::Bhs;

// CmdSN and ExpStatSN lie at the same place in every request that a ControlPdu can be. A login
// request has its own.
struct NumberedRequest {
  std::array<uint8_t, 24> before;
  base::be32 cmd_sn;
  base::be32 exp_stat_sn;
  std::array<uint8_t, 16> after;
};
static_assert(base::WireStruct<NumberedRequest, iscsi::kBhsBytes>);

}  // namespace

bool SendQueue::withdraw(Command& command) {
  if (!command.hook_.is_linked()) return false;
  commands_.erase(commands_.iterator_to(command));
  return true;
}

void SendQueue::drop_solicited(Command& command) {
  for (Transfer& transfer : std::span(command.transfers_).first(kMaxOutstandingR2t)) {
    if (transfer.hook.is_linked()) transfers_.erase(transfers_.iterator_to(transfer));
    transfer.active = false;
  }
}

std::span<const iovec> SendQueue::prepare(SequenceNumbers& numbers) {
  if (!unsent_.empty()) return unsent_;
  ASSERT(frame_count_ == 0);
  iovec_count_ = bytes_ = 0;
  while (!control_.empty() && !logged_out_ && room(1)) {
    ControlPdu& pdu = control_.front();
    control_.pop_front();
    cut_control(pdu, numbers);
    control_in_flight_.push_back(pdu);
  }
  while (true) {
    if (!transfers_.empty()) {
      Transfer& transfer = transfers_.front();
      if (!room(transfer.command->data.size())) break;
      cut_transfer(transfer, numbers);
      if (!transfer.active) transfers_.erase(transfers_.iterator_to(transfer));
    } else if (!commands_.empty() && !logged_out_) {
      Command& command = commands_.front();
      if (!room(command.writes ? command.data.size() : 0)) break;
      if (iscsi::serial_less(numbers.max_cmd_sn, numbers.cmd_sn)) break;  // the window is closed
      commands_.pop_front();
      cut_command(command, numbers);
    } else {
      break;
    }
  }
  unsent_ = std::span(iovecs_).first(iovec_count_);
  return unsent_;
}

void SendQueue::cut_control(ControlPdu& pdu, const SequenceNumbers& numbers) {
  begin(nullptr);
  if (pdu.header.code() == iscsi::Opcode::logout_request) logged_out_ = true;
  auto header = base::load<NumberedRequest>(base::as_bytes(pdu.header));
  if (!plain_) {
    header.cmd_sn = numbers.cmd_sn;
    header.exp_stat_sn = numbers.exp_stat_sn;
  }
  const size_t first_part = iovec_count_;
  if (!pdu.data.empty()) iovecs_[iovec_count_++] = {pdu.data.data(), pdu.data.size()};
  finish(base::load<Bhs>(base::as_bytes(header)), first_part,
         static_cast<uint32_t>(pdu.data.size()));
}

uint32_t SendQueue::longest_segment() const {
  return std::min<uint32_t>(parameters_.max_send_data_segment_length, kMaxSendBytes);
}

// With as much of its data as may go without being asked for (RFC 7143 13.10, 13.11, 13.14).
void SendQueue::cut_command(Command& command, SequenceNumbers& numbers) {
  begin(&command);
  const uint32_t out = command.writes ? command.data_bytes : 0;
  const uint32_t burst = std::min(out, parameters_.first_burst_length);
  const uint32_t immediate = parameters_.immediate_data ? std::min(burst, longest_segment()) : 0;
  command.announced_ = !parameters_.initial_r2t && immediate < burst;

  iscsi::ScsiCommandPdu pdu;
  pdu.flags = static_cast<uint8_t>(iscsi::TaskAttribute::simple);
  if (!command.announced_) pdu.flags |= iscsi::kFinal;
  if (command.data_bytes > 0) {
    pdu.flags |=
        command.writes ? iscsi::scsi_command_flags::kWrite : iscsi::scsi_command_flags::kRead;
  }
  pdu.lun = command.lun;
  pdu.itt = command.tag_;
  pdu.expected_data_transfer_length = command.data_bytes;
  pdu.cmd_sn = command.cmd_sn_ = numbers.cmd_sn++;
  pdu.exp_stat_sn = numbers.exp_stat_sn;
  pdu.cdb = command.cdb;
  command.sent_ = true;
  command.state_ = Command::State::sent;
  command.given_ = immediate;
  const size_t first_part = iovec_count_;
  add_data(command, 0, immediate);
  finish(base::load<Bhs>(base::as_bytes(pdu)), first_part, immediate);
  if (!command.announced_) return;
  // Before the next command: unsolicited data keeps the order of the commands.
  Transfer& transfer = command.transfers_.back();
  transfer.active = true;
  transfer.ttt = iscsi::kReservedTag;
  transfer.offset = immediate;
  transfer.end = burst;
  transfer.data_sn = 0;
  transfers_.push_back(transfer);
}

void SendQueue::cut_transfer(Transfer& transfer, const SequenceNumbers& numbers) {
  Command& command = *transfer.command;
  begin(&command);
  const uint32_t length = std::min(transfer.end - transfer.offset, longest_segment());
  iscsi::DataOutPdu pdu;
  pdu.lun = command.lun;
  pdu.itt = command.tag_;
  pdu.ttt = transfer.ttt;
  pdu.exp_stat_sn = numbers.exp_stat_sn;
  pdu.data_sn = transfer.data_sn++;
  pdu.buffer_offset = transfer.offset;
  if (transfer.offset + length == transfer.end) pdu.flags = iscsi::kFinal;
  const size_t first_part = iovec_count_;
  add_data(command, transfer.offset, length);
  finish(base::load<Bhs>(base::as_bytes(pdu)), first_part, length);
  if (transfer.offset <= command.given_) {
    command.given_ = std::max(command.given_, transfer.offset + length);
  }
  transfer.offset += length;
  if (transfer.offset < transfer.end) return;
  transfer.active = false;
  if (transfer.ttt == iscsi::kReservedTag) command.announced_ = false;
}

void SendQueue::begin(Command* command) {
  frame_commands_[frame_count_] = command;
  if (command != nullptr) ++command->frames_;
  ++iovec_count_;  // of the header, which finish() writes
}

void SendQueue::add_data(const Command& command, uint32_t offset, uint32_t length) {
  for (const iovec& part : command.data) {
    if (length == 0) return;
    if (offset >= part.iov_len) {
      offset -= static_cast<uint32_t>(part.iov_len);
      continue;
    }
    const auto bytes = std::min<size_t>(length, part.iov_len - offset);
    iovecs_[iovec_count_++] = {static_cast<uint8_t*>(part.iov_base) + offset, bytes};
    length -= static_cast<uint32_t>(bytes);
    offset = 0;
  }
  ASSERT(length == 0);
}

void SendQueue::finish(const Bhs& header, size_t first_part, uint32_t length) {
  Frame& frame = frames_[frame_count_++];
  const size_t header_bytes = iscsi::write_header(base::MutableBytes(frame.header), header, length,
                                                  parameters_.header_digest && !plain_);
  iovecs_[first_part - 1] = {frame.header.data(), header_bytes};
  bytes_ += header_bytes + length;
  const bool digest = parameters_.data_digest && !plain_;
  if (length == 0 || (length % 4 == 0 && !digest)) return;
  std::array<base::Bytes, kMaxDataIovecs> parts;
  const size_t count = iovec_count_ - first_part;
  for (size_t i = 0; i < count; ++i) {
    const iovec& part = iovecs_[first_part + i];
    parts[i] = {static_cast<const uint8_t*>(part.iov_base), part.iov_len};
  }
  frame.trailer = iscsi::data_trailer(std::span<const base::Bytes>(parts).first(count), digest);
  iovecs_[iovec_count_++] = {frame.trailer.storage.data(), frame.trailer.length};
}

bool SendQueue::advance(size_t bytes) {
  while (bytes > 0) {
    ASSERT(!unsent_.empty());
    iovec& first = unsent_.front();
    const size_t part = std::min(bytes, first.iov_len);
    first.iov_base = static_cast<uint8_t*>(first.iov_base) + part;
    first.iov_len -= part;
    bytes -= part;
    if (first.iov_len == 0) unsent_ = unsent_.subspan(1);
  }
  return unsent_.empty();
}

void SendQueue::recycle() {
  unsent_ = {};
  frame_count_ = 0;
  while (!control_in_flight_.empty()) {
    control_in_flight_.front().in_use = false;
    control_in_flight_.pop_front();
  }
}

void SendQueue::clear() {
  recycle();
  control_in_flight_.swap(control_);
  recycle();
  transfers_.clear();
  commands_.clear();
}

}  // namespace holdfast::initiator
