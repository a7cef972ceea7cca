#include "mpio/latency_histogram.h"

#include <gtest/gtest.h>

namespace holdfast::mpio {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;

TEST(LatencyHistogram, BucketsAreOrderedAndAQuarterWide) {
  size_t last = 0;
  for (int64_t us = 1; us < 100'000'000; us += 1 + us / 50) {
    const size_t bucket = LatencyHistogram::bucket(microseconds(us));
    EXPECT_GE(bucket, last);
    EXPECT_GT(LatencyHistogram::upper_end(bucket), microseconds(us)) << us;
    EXPECT_LE(LatencyHistogram::upper_end(bucket), microseconds(us + 1 + us / 4)) << us;
    last = bucket;
  }
  EXPECT_LT(LatencyHistogram::bucket(hours(1000)), LatencyHistogram::kBuckets);
  EXPECT_EQ(LatencyHistogram::bucket(microseconds(-5)), 0u);
}

TEST(LatencyHistogram, PercentilesCountSamples) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.percentile(990), io::Duration{});
  for (int i = 0; i < 98; ++i) histogram.add(microseconds(100));
  for (int i = 0; i < 2; ++i) histogram.add(milliseconds(50));
  EXPECT_LE(histogram.percentile(500), microseconds(126));
  EXPECT_LE(histogram.percentile(980), microseconds(126));
  EXPECT_GE(histogram.percentile(990), milliseconds(50));
  histogram.clear();
  EXPECT_EQ(histogram.count(), 0u);
}

}  // namespace
}  // namespace holdfast::mpio
