#include "qdisk/lab_watchdog_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using base::Errc;
using testing::HasSubstr;

constexpr uint64_t kSecond = 1'000'000'000;

class LabWatchdogClientTest : public testing::Test {
 protected:
  LabWatchdogClientTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-lab-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    double_ = LabWatchdogFile::create(path()).value();
    double_->set_watched_at(now_);
  }
  ~LabWatchdogClientTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/deadline"; }
  LabWatchdogClient client() const {
    return LabWatchdogClient(path(), [this] { return now_; });
  }
  static Errc error(const base::Result<>& result) { return result ? Errc{} : result.error().code; }

  std::string directory_;
  uint64_t now_ = 500 * kSecond;
  std::optional<LabWatchdogFile> double_;
};

TEST_F(LabWatchdogClientTest, ItKeepsTheDeadlineInTheFile) {
  auto daemon = client();
  EXPECT_FALSE(daemon.real());
  EXPECT_FALSE(daemon.armed());
  EXPECT_THAT(daemon.describe(), HasSubstr("NOT a watchdog"));
  EXPECT_TRUE(daemon.disarm().has_value());
  daemon.pet();
  EXPECT_EQ(double_->deadline(), kLabDisarmed);

  ASSERT_TRUE(daemon.arm(2s).has_value());
  EXPECT_TRUE(daemon.armed());
  EXPECT_EQ(double_->deadline(), 502 * kSecond);
  EXPECT_THAT(daemon.describe(), HasSubstr("test double (lab): NOT a watchdog"));
  EXPECT_THAT(daemon.describe(), HasSubstr(path() + ", 2000ms"));
  now_ += kSecond;
  daemon.pet();
  EXPECT_EQ(double_->deadline(), 503 * kSecond);
  ASSERT_TRUE(daemon.disarm().has_value());
  EXPECT_FALSE(daemon.armed());
  EXPECT_EQ(double_->deadline(), kLabDisarmed);
  daemon.pet();
  EXPECT_EQ(double_->deadline(), kLabDisarmed);
  EXPECT_FALSE(daemon.problem());
}

TEST_F(LabWatchdogClientTest, ItCannotBeArmedWhereNobodyWatches) {
  auto daemon = client();
  now_ += kLabWatchedWithinNs;
  EXPECT_EQ(error(daemon.arm(2s)), Errc::not_found);
  EXPECT_FALSE(daemon.armed());
  EXPECT_EQ(double_->deadline(), kLabDisarmed);
  double_->set_watched_at(now_);
  EXPECT_EQ(error(daemon.arm(0s)), Errc::invalid_argument);
  ASSERT_TRUE(daemon.arm(2s).has_value());
  EXPECT_FALSE(daemon.problem());
  now_ += kLabWatchedWithinNs;
  EXPECT_THAT(daemon.problem().value_or(""), HasSubstr("watches the file any more"));
  LabWatchdogClient absent(directory_ + "/absent");
  EXPECT_EQ(error(absent.arm(2s)), Errc::not_found);
}

TEST_F(LabWatchdogClientTest, TheDeadlineStaysWhenTheDaemonDies) {
  {
    auto daemon = client();
    ASSERT_TRUE(daemon.arm(2s).has_value());
  }
  EXPECT_EQ(double_->deadline(), 502 * kSecond);
}

TEST_F(LabWatchdogClientTest, ADaemonThatIsRestartedTakesOver) {
  auto before = client();
  ASSERT_TRUE(before.arm(2s).has_value());
  now_ += kSecond;
  double_->set_watched_at(now_);
  auto after = client();
  ASSERT_TRUE(after.arm(3s).has_value());
  EXPECT_EQ(double_->deadline(), 504 * kSecond);
  // The one before, should it live still, has no say any more.
  now_ += kSecond;
  before.pet();
  EXPECT_EQ(double_->deadline(), 504 * kSecond);
  EXPECT_FALSE(before.armed());
  EXPECT_THAT(before.problem().value_or(""), HasSubstr("another process has armed"));
  EXPECT_EQ(error(before.disarm()), Errc::busy);
  after.pet();
  EXPECT_EQ(double_->deadline(), 505 * kSecond);
  EXPECT_TRUE(after.armed());
  ASSERT_TRUE(after.disarm().has_value());
  EXPECT_THAT(before.problem().value_or(""), HasSubstr("another process has disarmed"));
}

TEST_F(LabWatchdogClientTest, APetAfterItHasFiredChangesNothing) {
  auto daemon = client();
  ASSERT_TRUE(daemon.arm(2s).has_value());
  ASSERT_TRUE(double_->replace_deadline(502 * kSecond, kLabFired));
  daemon.pet();
  EXPECT_EQ(double_->deadline(), kLabFired);
  EXPECT_FALSE(daemon.armed());
  EXPECT_THAT(daemon.problem().value_or(""), HasSubstr("has fired"));
  EXPECT_EQ(error(daemon.disarm()), Errc::closed);
  EXPECT_EQ(double_->deadline(), kLabFired);
  auto next = client();
  ASSERT_TRUE(next.arm(2s).has_value());
  EXPECT_TRUE(next.armed());
}

TEST_F(LabWatchdogClientTest, TheClockIsThatOfAllProcesses) {
  const uint64_t before = lab_now_ns();
  double_->set_watched_at(before);
  LabWatchdogClient daemon(path());
  ASSERT_TRUE(daemon.arm(60s).has_value());
  EXPECT_GE(double_->deadline(), before + 60 * kSecond);
  EXPECT_LE(double_->deadline(), lab_now_ns() + 60 * kSecond);
}

}  // namespace
}  // namespace holdfast::qdisk
