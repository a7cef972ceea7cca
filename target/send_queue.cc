#include "target/send_queue.h"

#include <algorithm>

namespace holdfast::target {
namespace {

using iscsi::Bhs;
using iscsi::DataInPdu;

// StatSN, ExpCmdSN and MaxCmdSN lie at the same place in every PDU of a target.
struct NumberedPdu {
  std::array<uint8_t, 24> before;
  base::be32 stat_sn;
  base::be32 exp_cmd_sn;
  base::be32 max_cmd_sn;
  std::array<uint8_t, 12> after;
};
static_assert(base::WireStruct<NumberedPdu, iscsi::kBhsBytes>);

}  // namespace

void SendQueue::configure(iscsi::Digests digests, uint32_t max_data_segment, uint32_t max_burst) {
  digests_ = digests;
  max_data_segment_ = max_data_segment;
  max_burst_ = max_burst;
}

std::span<const iovec> SendQueue::prepare(SequenceNumbers& numbers) {
  if (!unsent_.empty()) return unsent_;
  iovec_count_ = 0;
  frame_count_ = 0;
  while (!items_.empty() && frame_count_ < kMaxSendPdus) {
    SendItem& item = items_.front();
    if (item.kind == SendItem::Kind::pdu) {
      cut_pdu(item, numbers);
    } else {
      cut_data_in(item, numbers);
      if (item.cut < item.data.size()) continue;
    }
    items_.pop_front();
    in_flight_.push_back(item);
  }
  unsent_ = std::span(iovecs_).first(iovec_count_);
  return unsent_;
}

void SendQueue::cut_pdu(SendItem& item, SequenceNumbers& numbers) {
  auto pdu = base::load<NumberedPdu>(base::as_bytes(item.header));
  pdu.stat_sn = numbers.stat_sn;
  pdu.exp_cmd_sn = numbers.exp_cmd_sn;
  pdu.max_cmd_sn = numbers.max_cmd_sn;
  if (item.takes_stat_sn) ++numbers.stat_sn;
  if (item.progress != nullptr) {
    auto response = base::load<iscsi::ScsiResponsePdu>(base::as_bytes(pdu));
    response.exp_data_sn = response.exp_data_sn + item.progress->data_sn;
    pdu = base::load<NumberedPdu>(base::as_bytes(response));
  }
  append(item.plain ? item.header : base::load<Bhs>(base::as_bytes(pdu)), item.data, item.plain);
}

void SendQueue::cut_data_in(SendItem& item, SequenceNumbers& numbers) {
  DataInProgress& progress = *item.progress;
  const auto left = static_cast<uint32_t>(item.data.size()) - item.cut;
  const uint32_t length = std::min({left, max_data_segment_, progress.burst_left});
  const bool ends_data = item.ends_data && length == left;
  progress.burst_left -= length;

  DataInPdu pdu;
  pdu.itt = item.itt;
  pdu.data_sn = progress.data_sn++;
  pdu.buffer_offset = item.buffer_offset + item.cut;
  pdu.exp_cmd_sn = numbers.exp_cmd_sn;
  pdu.max_cmd_sn = numbers.max_cmd_sn;
  if (ends_data || progress.burst_left == 0) {
    pdu.flags = iscsi::kFinal;
    progress.burst_left = max_burst_;
  }
  if (ends_data && item.with_status) {
    pdu.flags =
        static_cast<uint8_t>(pdu.flags | iscsi::data_in_flags::kStatus | item.residual_flags);
    pdu.status = item.status;
    pdu.residual_count = item.residual;
    pdu.stat_sn = numbers.stat_sn++;
  }
  append(base::load<Bhs>(base::as_bytes(pdu)), item.data.subspan(item.cut, length), false);
  item.cut += length;
}

void SendQueue::append(const Bhs& header, base::Bytes data, bool plain) {
  Frame& frame = frames_[frame_count_++];
  const size_t header_bytes = iscsi::write_header(base::MutableBytes(frame.header), header,
                                                  data.size(), digests_.header && !plain);
  iovecs_[iovec_count_++] = {frame.header.data(), header_bytes};
  if (data.empty()) return;
  iovecs_[iovec_count_++] = {const_cast<uint8_t*>(data.data()), data.size()};  // only read
  if (data.size() % 4 == 0 && (!digests_.data || plain)) return;
  frame.trailer = iscsi::data_trailer(data, digests_.data && !plain);
  iovecs_[iovec_count_++] = {frame.trailer.storage.data(), frame.trailer.length};
}

void SendQueue::advance(size_t bytes) {
  while (bytes > 0) {
    ASSERT(!unsent_.empty());
    iovec& first = unsent_.front();
    const size_t part = std::min(bytes, first.iov_len);
    first.iov_base = static_cast<uint8_t*>(first.iov_base) + part;
    first.iov_len -= part;
    bytes -= part;
    if (first.iov_len == 0) unsent_ = unsent_.subspan(1);
  }
  if (unsent_.empty()) release(in_flight_);
}

void SendQueue::clear() {
  unsent_ = {};
  release(in_flight_);
  release(items_);
}

void SendQueue::release(ItemList& items) {
  // A callback may push new items, but never into the list given here.
  ItemList done;
  done.swap(items);
  while (!done.empty()) {
    SendItem& item = done.front();
    done.pop_front();
    item.sent(item);
  }
}

}  // namespace holdfast::target
