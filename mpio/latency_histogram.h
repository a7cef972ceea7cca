#pragma once
// Latencies in buckets: a power of two in four parts, so a percentile is at most a quarter too
// high.

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/io/loop.h"

namespace holdfast::mpio {

class LatencyHistogram {
 public:
  static constexpr size_t kBuckets = 128;  // 1 us to more than an hour

  void add(io::Duration latency) {
    ++buckets_[bucket(latency)];
    ++count_;
  }
  void clear() { *this = {}; }
  uint32_t count() const { return count_; }
  // The upper end of the bucket of that sample; 0 without samples. `permille` of 1000.
  io::Duration percentile(uint32_t permille) const;

  static size_t bucket(io::Duration latency);
  static io::Duration upper_end(size_t bucket);

 private:
  std::array<uint32_t, kBuckets> buckets_{};
  uint32_t count_ = 0;
};

}  // namespace holdfast::mpio
