#pragma once
// Frames that wait to be sent: urgent ones before bulk, each in its order. Pure.

#include <cstdint>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/rpc/frame.h"

namespace holdfast::rpc {

enum class Priority : uint8_t { urgent, bulk };

// Whole frames in one piece of memory, which grows to twice the bound at most and is kept.
class FrameBuffer {
 public:
  explicit FrameBuffer(size_t max_bytes) : max_bytes_(max_bytes) {}
  // Errc::limit: there is no room, and nothing has changed.
  base::Result<> push(const FrameHeader& header, base::Bytes payload);
  bool empty() const { return head_ == bytes_.size(); }
  size_t size_bytes() const { return bytes_.size() - head_; }
  // The first frame; valid until the next push() or pop(). Precondition: not empty.
  base::Bytes front() const;
  void pop();

 private:
  const size_t max_bytes_;
  std::vector<uint8_t> bytes_;
  size_t head_ = 0;
};

class SendQueue {
 public:
  SendQueue();
  base::Result<> push(Priority priority, const FrameHeader& header, base::Bytes payload);
  bool empty() const { return urgent_.empty() && bulk_.empty(); }
  // The frame to be sent next, which stays until pop(). Precondition: not empty.
  base::Bytes front() const { return urgent_.empty() ? bulk_.front() : urgent_.front(); }
  void pop() { urgent_.empty() ? bulk_.pop() : urgent_.pop(); }
  size_t size_bytes() const { return urgent_.size_bytes() + bulk_.size_bytes(); }
  size_t size_bytes(Priority priority) const {
    return (priority == Priority::urgent ? urgent_ : bulk_).size_bytes();
  }

 private:
  FrameBuffer urgent_;
  FrameBuffer bulk_;
};

}  // namespace holdfast::rpc
