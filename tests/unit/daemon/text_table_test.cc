#include "common/daemon/text_table.h"

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

TEST(TextTable, ColumnsAreAsWideAsTheirLongestCell) {
  EXPECT_EQ(table({{"A", "LONG"}, {"value", "x"}}), "A      LONG\nvalue  x\n");
}

TEST(TextTable, WhatATerminalObeysIsReplaced) {
  EXPECT_EQ(printable("a\x1b[2Jb\n"), "a?[2Jb?");
  EXPECT_EQ(table({{"a\tb"}}), "a?b\n");
}

TEST(TextTable, HumanNumbers) {
  EXPECT_EQ(human_size(0), "0 B");
  EXPECT_EQ(human_size(1023), "1023 B");
  EXPECT_EQ(human_size(1536), "1.5 KiB");
  EXPECT_EQ(human_size(uint64_t{64} << 30), "64 GiB");
  EXPECT_EQ(human_size(~uint64_t{0}), "16 EiB");
  EXPECT_EQ(human_time(59'999), "59s");
  EXPECT_EQ(human_time(60'000), "1m 0s");
  EXPECT_EQ(human_time(86'400'000ull * 3 + 3'600'000), "3d 1h");
  EXPECT_EQ(human_latency(999), "999us");
  EXPECT_EQ(human_latency(1500), "1.5ms");
  EXPECT_EQ(human_latency(2'000'000), "2.0s");
}

}  // namespace
}  // namespace holdfast::daemon
