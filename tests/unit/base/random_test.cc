#include "common/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace holdfast::base {
namespace {

// The first outputs of splitmix64 with seed 0, as its author publishes them: a seed must mean the
// same run on every machine and in every version.
TEST(SeededRandom, IsSplitmix64) {
  SeededRandom random(0);
  EXPECT_EQ(random.next(), 0xe220a8397b1dcdafu);
  EXPECT_EQ(random.next(), 0x6e789e6aa1b965f4u);
  EXPECT_EQ(random.next(), 0x06c45d188009454fu);
}

TEST(SeededRandom, EqualSeedsGiveEqualBytesAndOthersDoNot) {
  std::array<uint8_t, 29> a{}, b{}, c{};
  SeededRandom(7).fill(a);
  SeededRandom(7).fill(b);
  SeededRandom(8).fill(c);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST(SeededRandom, FillsExactlyWhatItIsGiven) {
  std::array<uint8_t, 24> bytes{};
  SeededRandom(1).fill(MutableBytes(bytes).subspan(4, 13));
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.begin() + 4, [](uint8_t b) { return b == 0; }));
  EXPECT_TRUE(std::all_of(bytes.begin() + 17, bytes.end(), [](uint8_t b) { return b == 0; }));
  EXPECT_GT(std::count_if(bytes.begin() + 4, bytes.begin() + 17, [](uint8_t b) { return b != 0; }),
            8);
}

TEST(Random, BelowStaysBelowAndReachesEverything) {
  SeededRandom random(3);
  std::array<int, 5> seen{};
  for (int i = 0; i < 1000; ++i) {
    const uint64_t value = random.below(seen.size());
    ASSERT_LT(value, seen.size());
    ++seen[value];
  }
  for (const int count : seen) EXPECT_GT(count, 100);
}

TEST(SystemRandom, NeverRepeats) {
  SystemRandom random;
  std::vector<uint8_t> a(1000), b(1000);
  random.fill(a);
  random.fill(b);
  EXPECT_NE(a, b);
  EXPECT_GT(std::ranges::count_if(a, [](uint8_t byte) { return byte != 0; }), 900);
  random.fill({});
}

}  // namespace
}  // namespace holdfast::base
