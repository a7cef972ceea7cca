#include "common/iscsi/additional_headers.h"

#include <gtest/gtest.h>

#include <vector>

namespace holdfast::iscsi {
namespace {

using Segments = std::vector<uint8_t>;

// A CDB of 20 bytes: AHSLength is 20 - 15; the reserved byte, four more of the CDB.
const Segments kExtendedCdb = {0, 5, 1, 0, 0xa, 0xb, 0xc, 0xd};
const Segments kReadLength = {0, 5, 2, 0, 0x00, 0x01, 0x02, 0x03};

Segments operator+(Segments left, const Segments& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

TEST(AdditionalHeaders, AreOptional) {
  const auto none = parse_additional_headers({});
  ASSERT_TRUE(none.has_value());
  EXPECT_FALSE(none->extended_cdb);
  EXPECT_EQ(none->bidirectional_read_length, 0u);
}

TEST(AdditionalHeaders, BothKindsInAnyOrder) {
  for (const Segments& segments : {kExtendedCdb + kReadLength, kReadLength + kExtendedCdb}) {
    const auto both = parse_additional_headers(segments);
    ASSERT_TRUE(both.has_value());
    EXPECT_TRUE(both->extended_cdb);
    EXPECT_EQ(both->bidirectional_read_length, 0x00010203u);
  }
}

TEST(AdditionalHeaders, ACdbOfOddLengthIsPadded) {
  const Segments seventeen = {0, 2, 1, 0, 0xa, 0, 0, 0};
  const auto padded = parse_additional_headers(seventeen + kReadLength);
  ASSERT_TRUE(padded.has_value());
  EXPECT_TRUE(padded->extended_cdb);
  EXPECT_EQ(padded->bidirectional_read_length, 0x00010203u);
}

TEST(AdditionalHeaders, WhatMakesNoSense) {
  const Segments wrong[] = {
      {0, 5, 1},                         // less than a header
      {0, 6, 1, 0, 0xa, 0xb, 0xc, 0xd},  // beyond the end
      {0xff, 0xff, 1, 0, 0xa, 0xb, 0xc, 0xd},
      {0, 1, 1, 0},  // a CDB of 16 bytes
      {0, 0, 1, 0},
      {0, 4, 2, 0, 0, 1, 2, 0},  // not a length
      {0, 9, 2, 0, 0, 1, 2, 3, 4, 5, 6, 7},
      {0, 5, 0, 0, 0, 0, 0, 0},  // reserved kinds
      {0, 5, 3, 0, 0, 0, 0, 0},
      kExtendedCdb + kExtendedCdb,
      kReadLength + kReadLength,
      kReadLength + Segments{0, 0, 0, 0},
  };
  for (const Segments& segments : wrong) {
    EXPECT_FALSE(parse_additional_headers(segments).has_value())
        << ::testing::PrintToString(segments);
  }
}

}  // namespace
}  // namespace holdfast::iscsi
