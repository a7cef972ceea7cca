#include "bench/gaps.h"

#include <gtest/gtest.h>

namespace holdfast::bench {
namespace {

TEST(Gaps, OnlyLongOnesAreKeptAndTheLongestIsKnown) {
  Gaps gaps(100, 50);
  gaps.at(120);
  gaps.at(170);  // 50: long enough
  gaps.at(219);
  gaps.at(400);
  ASSERT_EQ(gaps.kept().size(), 2U);
  EXPECT_EQ(gaps.kept()[0].begin_ns, 120U);
  EXPECT_EQ(gaps.kept()[0].end_ns, 170U);
  EXPECT_EQ(gaps.kept()[1].begin_ns, 219U);
  EXPECT_EQ(gaps.longest_ns(), 181U);
  EXPECT_EQ(gaps.count(), 2U);
}

TEST(Gaps, TheFirstOneBeginsWithTheRunAndTheLastEndsWithIt) {
  Gaps gaps(1000, 10);
  gaps.at(1500);
  gaps.at(1501);
  gaps.at(9000);  // the end, without a completion
  ASSERT_EQ(gaps.kept().size(), 2U);
  EXPECT_EQ(gaps.kept().front().begin_ns, 1000U);
  EXPECT_EQ(gaps.longest_ns(), 7499U);
}

TEST(Gaps, ALongerOnePushesOutTheShortest) {
  Gaps gaps(0, 10);
  uint64_t now = 0;
  gaps.at(now += 11);
  for (size_t i = 1; i < Gaps::kMost; ++i) gaps.at(now += 20);
  gaps.at(now += 500);
  gaps.at(now += 12);
  EXPECT_EQ(gaps.kept().size(), Gaps::kMost);
  EXPECT_EQ(gaps.count(), Gaps::kMost + 2);
  EXPECT_EQ(gaps.kept().front().length_ns(), 20U);
  EXPECT_EQ(gaps.kept().back().length_ns(), 500U);
}

}  // namespace
}  // namespace holdfast::bench
