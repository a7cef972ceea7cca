#include "common/rpc/send_queue.h"

#include "common/rpc/limits.h"

namespace holdfast::rpc {

base::Result<> FrameBuffer::push(const FrameHeader& header, base::Bytes payload) {
  const size_t size = kFrameHeaderBytes + payload.size();
  if (size > max_bytes_ || size_bytes() > max_bytes_ - size) {
    return base::fail(base::Errc::limit, "the send queue is full");
  }
  const WireHeader wire = encode_header(header, payload.size());
  const base::Bytes head = base::as_bytes(wire);
  bytes_.insert(bytes_.end(), head.begin(), head.end());
  bytes_.insert(bytes_.end(), payload.begin(), payload.end());
  return {};
}

base::Bytes FrameBuffer::front() const {
  ASSERT(!empty());
  const base::Bytes waiting = base::Bytes(bytes_).subspan(head_);
  return waiting.first(kFrameHeaderBytes + base::load<WireHeader>(waiting).length.get());
}

void FrameBuffer::pop() {
  head_ += front().size();
  // Moved to the front when at least as much has gone as is left: so the memory is at most twice
  // the bound, and moving costs no more than sending did.
  if (head_ >= bytes_.size() - head_) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
}

SendQueue::SendQueue() : urgent_(kUrgentQueueBytes), bulk_(kBulkQueueBytes) {}

base::Result<> SendQueue::push(Priority priority, const FrameHeader& header, base::Bytes payload) {
  return (priority == Priority::urgent ? urgent_ : bulk_).push(header, payload);
}

}  // namespace holdfast::rpc
