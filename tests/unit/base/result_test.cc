#include "common/base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "common/base/assert.h"

namespace holdfast::base {
namespace {

Result<int> positive(int value) {
  if (value <= 0) return fail(Errc::invalid_argument, "must be positive", 22);
  return value;
}

Result<std::unique_ptr<int>> twice(int value) {
  TRY_ASSIGN(const int known, positive(value));
  TRY_ASSIGN(auto made, Result<std::unique_ptr<int>>(std::make_unique<int>(2 * known)));
  return made;
}

Result<> check(int value, int* reached) {
  TRY(positive(value));
  *reached = value;
  return {};
}

TEST(Result, TryPassesTheErrorOnAndKeepsTheValue) {
  auto good = twice(21);
  ASSERT_TRUE(good.has_value());
  EXPECT_EQ(**good, 42);
  const auto bad = twice(0);
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().code, Errc::invalid_argument);
  EXPECT_EQ(bad.error().sys, 22);
  EXPECT_STREQ(bad.error().what, "must be positive");
  int reached = 0;
  EXPECT_FALSE(check(-1, &reached).has_value());
  EXPECT_EQ(reached, 0);
  EXPECT_TRUE(check(3, &reached).has_value());
  EXPECT_EQ(reached, 3);
}

TEST(Result, EveryCodeHasItsOwnWord) {
  std::set<std::string> words;
  for (uint16_t code = 1; code <= static_cast<uint16_t>(Errc::unsupported); ++code) {
    words.insert(to_string(static_cast<Errc>(code)));
  }
  EXPECT_EQ(words.size(), static_cast<size_t>(Errc::unsupported));
  EXPECT_FALSE(words.contains("unknown error"));
  EXPECT_STREQ(to_string(static_cast<Errc>(9999)), "unknown error");
}

using AssertDeathTest = ::testing::Test;

TEST_F(AssertDeathTest, SaysWhatAndWhere) {
  EXPECT_DEATH(ASSERT(1 + 1 == 3), "1 \\+ 1 == 3.*result_test.cc|result_test.cc.*1 \\+ 1 == 3");
  ASSERT(1 + 1 == 2);
}

}  // namespace
}  // namespace holdfast::base
