#include "common/base/units.h"

#include <gtest/gtest.h>

namespace holdfast::base {
namespace {

using namespace std::chrono_literals;

TEST(Units, ParsesSizes) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("512"), 512u);
  EXPECT_EQ(parse_size("512B"), 512u);
  EXPECT_EQ(parse_size("4K"), 4096u);
  EXPECT_EQ(parse_size("64MiB"), 64ull << 20);
  EXPECT_EQ(parse_size("2 GiB"), 2ull << 30);
  EXPECT_EQ(parse_size("1TiB"), 1ull << 40);
  EXPECT_EQ(parse_size("18446744073709551615"), ~0ull);
  EXPECT_EQ(parse_size("16777215TiB"), 16777215ull << 40);
}

TEST(Units, RefusesWrongSizes) {
  for (const char* text :
       {"", " 1", "-1", "+1", "1.5GiB", "GiB", "1MB", "1KB", "1Kib", "1kiB", "1PiB", "1GiBx",
        "1GiB ", "0x10", "18446744073709551616", "16777216TiB", "99999999999999999999"}) {
    const auto parsed = parse_size(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, Errc::invalid_argument) << text;
  }
}

TEST(Units, FormatsSizesInTheLargestUnitThatFits) {
  EXPECT_EQ(format_size(0), "0B");
  EXPECT_EQ(format_size(1023), "1023B");
  EXPECT_EQ(format_size(1024), "1KiB");
  EXPECT_EQ(format_size(1536), "1536B");
  EXPECT_EQ(format_size(64ull << 30), "64GiB");
  EXPECT_EQ(format_size(2048ull << 40), "2048TiB");
}

TEST(Units, FormattedSizesAreParsedBack) {
  for (const uint64_t bytes : {1ull, 512ull, 1ull << 20, (1ull << 20) + 512, 3ull << 40, ~0ull}) {
    EXPECT_EQ(parse_size(format_size(bytes)), bytes);
  }
}

TEST(Units, ParsesDurations) {
  EXPECT_EQ(parse_duration("250ms"), 250ms);
  EXPECT_EQ(parse_duration("10s"), 10s);
  EXPECT_EQ(parse_duration("5 m"), 5min);
  EXPECT_EQ(parse_duration("0s"), 0ms);
  EXPECT_EQ(parse_duration("525600m"), 525600min);
  for (const char* text :
       {"", "10", "s", "1h", "1S", "-1s", "1.5s", "10ss", "525601m", "18446744073709551615m"}) {
    EXPECT_FALSE(parse_duration(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace holdfast::base
