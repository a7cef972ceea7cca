#include "mpio/latency_histogram.h"

#include <algorithm>
#include <bit>

namespace holdfast::mpio {

size_t LatencyHistogram::bucket(io::Duration latency) {
  const auto us = static_cast<uint64_t>(
      std::max<int64_t>(std::chrono::duration_cast<std::chrono::microseconds>(latency).count(), 0));
  if (us < 4) return us;
  const auto power = static_cast<size_t>(std::bit_width(us)) - 1;
  const size_t part = (us >> (power - 2)) & 3;
  return std::min((power - 1) * 4 + part, kBuckets - 1);
}

io::Duration LatencyHistogram::upper_end(size_t bucket) {
  if (bucket < 4) return std::chrono::microseconds(bucket + 1);
  const size_t power = bucket / 4 + 1;
  return std::chrono::microseconds((4 + bucket % 4 + 1) << (power - 2));
}

io::Duration LatencyHistogram::percentile(uint32_t permille) const {
  if (count_ == 0) return {};
  const uint64_t wanted = std::max<uint64_t>((uint64_t{count_} * permille + 999) / 1000, 1);
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return upper_end(i);
  }
  return upper_end(kBuckets - 1);
}

}  // namespace holdfast::mpio
