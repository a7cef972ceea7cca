#pragma once
// Latencies in log-linear buckets: 64 to each power of two, so a percentile is within 1.6 % of the
// true one. Fixed size and trivially copyable: it lives in memory shared between processes.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace holdfast::bench {

class LatencyHistogram {
 public:
  void add(uint64_t nanoseconds) {
    ++counts_[bucket(nanoseconds)];
    ++total_;
  }

  void merge(const LatencyHistogram& other) {
    for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
  }

  uint64_t count() const { return total_; }

  // The upper end of the bucket that holds the value of that rank; 0 when nothing was added.
  uint64_t percentile(double percent) const {
    if (total_ == 0) return 0;
    const double rank = percent / 100.0 * static_cast<double>(total_);
    uint64_t seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (seen > 0 && static_cast<double>(seen) >= rank) return upper(i);
    }
    return upper(kBuckets - 1);
  }

 private:
  static constexpr unsigned kBits = 6;
  static constexpr uint64_t kSteps = uint64_t{1} << kBits;
  static constexpr unsigned kMaxWidth = 40;  // 2^40 ns, 18 minutes: no exchange lasts longer
  static constexpr size_t kBuckets = (kMaxWidth - kBits + 1) * kSteps;

  static size_t bucket(uint64_t value) {
    constexpr uint64_t kLargest = (uint64_t{1} << kMaxWidth) - 1;
    if (value > kLargest) value = kLargest;
    if (value < kSteps) return static_cast<size_t>(value);
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kBits - 1;
    return static_cast<size_t>((shift + 1) * kSteps + ((value >> shift) - kSteps));
  }
  static uint64_t upper(size_t index) {
    if (index < kSteps) return index;
    const uint64_t shift = index / kSteps - 1;
    return ((kSteps + index % kSteps + 1) << shift) - 1;
  }

  std::array<uint64_t, kBuckets> counts_{};
  uint64_t total_ = 0;
};
static_assert(std::is_trivially_copyable_v<LatencyHistogram>);

}  // namespace holdfast::bench
