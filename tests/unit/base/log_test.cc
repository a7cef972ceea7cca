#include "common/base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace holdfast::base {
namespace {

class Log : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::info);
    set_log_sink([this](LogLevel level, std::string_view component, std::string_view message) {
      lines_.push_back(std::to_string(static_cast<int>(level)) + ' ' + std::string(component) +
                       ": " + std::string(message));
    });
  }
  void TearDown() override {
    set_log_sink(nullptr);
    set_log_level(LogLevel::info);
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, FormatsWithLevelAndComponent) {
  LOG_INFO("iscsi", "login: isid={:012x} user={}", 0x23d000001, "hv1");
  LOG_ERROR("disk", "plain");
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_EQ(lines_[0], "1 iscsi: login: isid=00023d000001 user=hv1");
  EXPECT_EQ(lines_[1], "3 disk: plain");
}

TEST_F(Log, LinesBelowTheLevelAreNotWritten) {
  LOG_DEBUG("x", "hidden");
  EXPECT_TRUE(lines_.empty());
  EXPECT_FALSE(log_enabled(LogLevel::debug));
  set_log_level(LogLevel::error);
  LOG_WARNING("x", "hidden");
  LOG_ERROR("x", "shown");
  EXPECT_EQ(lines_.size(), 1u);
  set_log_level(LogLevel::debug);
  LOG_DEBUG("x", "shown");
  EXPECT_EQ(lines_.size(), 2u);
}

// What a peer sends must not look like another line, or drive a terminal.
TEST_F(Log, ALineStaysOneLine) {
  LOG_INFO("iscsi", "initiator={}", std::string("a\nERROR b\r\t\x1b[2J\x7f\0c", 18));
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0], "1 iscsi: initiator=a?ERROR b???[2J??c");
}

TEST_F(Log, TextOfAPeerIsNoFormat) {
  LOG_INFO("iscsi", "{}", "{} {:n} %s");
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0], "1 iscsi: {} {:n} %s");
}

TEST_F(Log, ASiteIsLimitedAndCountsWhatItDrops) {
  LogLimiter limiter;
  uint64_t suppressed = 0;
  uint64_t allowed = 0;
  constexpr uint64_t kTries = 10'000;
  for (uint64_t i = 0; i < kTries; ++i) allowed += limiter.allow(&suppressed) ? 1u : 0u;
  EXPECT_GE(allowed, LogLimiter::kBurst);
  EXPECT_LE(allowed, 3 * LogLimiter::kBurst);  // the second may change on the way, twice at worst

  for (int i = 0; i < 1000; ++i) LOG_LIMITED(info, "x", "again");
  EXPECT_GE(lines_.size(), LogLimiter::kBurst);
  EXPECT_LE(lines_.size(), 3 * LogLimiter::kBurst + 2);
}

}  // namespace
}  // namespace holdfast::base
