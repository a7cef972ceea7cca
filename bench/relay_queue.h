#pragma once
// One direction of the relay: bytes that are under way, each due a fixed time after it came,
// leaving no faster than a token bucket allows. Bounded: a full queue reads no more. Pure.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace holdfast::bench {

// Bytes per second with a small burst, shared by all connections of one direction. 0: no limit.
class TokenBucket {
 public:
  explicit TokenBucket(uint64_t bytes_per_second)
      : rate_(static_cast<double>(bytes_per_second)), tokens_(kBurst) {}

  // How many bytes may go now; 0 when fewer than kLeast have gathered, as each send costs a call.
  size_t allowed(uint64_t now_ns) {
    if (rate_ == 0) return SIZE_MAX;
    tokens_ = std::min(kBurst, tokens_ + static_cast<double>(now_ns - last_ns_) / 1e9 * rate_);
    last_ns_ = now_ns;
    return tokens_ < kLeast ? 0 : static_cast<size_t>(tokens_);
  }
  void take(size_t bytes) {
    if (rate_ != 0) tokens_ -= static_cast<double>(bytes);
  }
  // After allowed() was 0: when to ask again.
  uint64_t next_ns() const {
    return last_ns_ + static_cast<uint64_t>((kLeast - tokens_) / rate_ * 1e9) + 1;
  }

 private:
  static constexpr double kBurst = 64 * 1024;
  static constexpr double kLeast = 4 * 1024;
  const double rate_;
  double tokens_;
  uint64_t last_ns_ = 0;
};

class DelayQueue {
 public:
  static constexpr size_t kCapacity = 8 << 20;  // 5 ms at 1.6 GB/s

  explicit DelayQueue(uint64_t delay_ns) : delay_ns_(delay_ns) {}

  size_t room() const { return kCapacity - held_; }
  bool empty() const { return held_ == 0; }

  void push(std::vector<uint8_t> bytes, uint64_t now_ns) {
    held_ += bytes.size();
    pieces_.push_back({.due_ns = now_ns + delay_ns_, .bytes = std::move(bytes), .sent = 0});
  }
  // What may leave now of the first piece; empty: nothing is due.
  std::span<const uint8_t> front(uint64_t now_ns) const {
    if (pieces_.empty() || pieces_.front().due_ns > now_ns) return {};
    return std::span(pieces_.front().bytes).subspan(pieces_.front().sent);
  }
  void pop(size_t bytes) {
    Piece& piece = pieces_.front();
    piece.sent += bytes;
    held_ -= bytes;
    if (piece.sent == piece.bytes.size()) pieces_.pop_front();
  }
  uint64_t due_ns() const { return pieces_.empty() ? UINT64_MAX : pieces_.front().due_ns; }

 private:
  struct Piece {
    uint64_t due_ns;
    std::vector<uint8_t> bytes;
    size_t sent;
  };
  const uint64_t delay_ns_;
  std::deque<Piece> pieces_;
  size_t held_ = 0;
};

}  // namespace holdfast::bench
