#include "bench/histogram.h"

#include <gtest/gtest.h>

#include <memory>

namespace holdfast::bench {
namespace {

TEST(LatencyHistogram, EmptyHasNoPercentiles) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  EXPECT_EQ(histogram->count(), 0U);
  EXPECT_EQ(histogram->percentile(50), 0U);
}

TEST(LatencyHistogram, SmallValuesAreExact) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  for (uint64_t value = 1; value <= 50; ++value) histogram->add(value);
  EXPECT_EQ(histogram->percentile(50), 25U);
  EXPECT_EQ(histogram->percentile(100), 50U);
  EXPECT_EQ(histogram->percentile(0), 1U);
}

TEST(LatencyHistogram, EveryMagnitudeIsWithinOneBucket) {
  for (uint64_t value = 64; value < (uint64_t{1} << 39); value = value * 3 / 2 + 1) {
    const auto histogram = std::make_unique<LatencyHistogram>();
    histogram->add(value);
    const uint64_t read = histogram->percentile(50);
    EXPECT_GE(read, value);
    EXPECT_LE(read - value, value / 64) << value;
  }
}

TEST(LatencyHistogram, BucketEdgesDoNotMix) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  histogram->add(127);
  histogram->add(128);
  EXPECT_EQ(histogram->percentile(50), 127U);
  EXPECT_EQ(histogram->percentile(100), 129U);  // [128, 130) share a bucket
}

TEST(LatencyHistogram, TailIsNotTheMedian) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  for (int i = 0; i < 990; ++i) histogram->add(1000);
  for (int i = 0; i < 10; ++i) histogram->add(1'000'000);
  EXPECT_LT(histogram->percentile(99), 1100U);
  EXPECT_GE(histogram->percentile(99.5), 1'000'000U);
}

TEST(LatencyHistogram, ValuesBeyondTheLastBucketStayInIt) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  histogram->add(UINT64_MAX);
  EXPECT_EQ(histogram->count(), 1U);
  EXPECT_EQ(histogram->percentile(50), (uint64_t{1} << 40) - 1);
}

TEST(LatencyHistogram, MergeAddsCounts) {
  const auto left = std::make_unique<LatencyHistogram>();
  const auto right = std::make_unique<LatencyHistogram>();
  left->add(10);
  right->add(20);
  right->add(30);
  left->merge(*right);
  EXPECT_EQ(left->count(), 3U);
  EXPECT_EQ(left->percentile(50), 20U);
  EXPECT_EQ(left->percentile(100), 30U);
}

}  // namespace
}  // namespace holdfast::bench
