#include "target/login_backoff.h"

#include <gtest/gtest.h>

namespace holdfast::target {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

io::Endpoint endpoint(const std::string& text) { return *io::Endpoint::parse(text); }

class LoginBackoffTest : public testing::Test {
 protected:
  void fail(int times, const char* peer = "10.1.0.1:1000", const char* user = "hv1") {
    for (int i = 0; i < times; ++i) backoff_.failed(endpoint(peer), user, now_);
  }
  bool waits(const char* peer = "10.1.0.1:1000", const char* user = "hv1") {
    return backoff_.waits(endpoint(peer), user, now_);
  }
  io::Duration wait() {
    io::Duration longest{};
    const io::Instant began = now_;
    while (waits()) {
      now_ += milliseconds(100);
      longest = now_ - began;
    }
    return longest;
  }

  LoginBackoff backoff_;
  io::Instant now_ = io::Instant{} + seconds(1000);
};

TEST_F(LoginBackoffTest, AMistypedSecretHasNoConsequence) {
  fail(LoginBackoff::kFreeFailures - 1);
  EXPECT_FALSE(waits());
}

TEST_F(LoginBackoffTest, WaitsGrowUpToABound) {
  fail(LoginBackoff::kFreeFailures);
  std::vector<io::Duration> waits;
  for (int i = 0; i < 6; ++i) {
    waits.push_back(wait());
    fail(1);
  }
  EXPECT_EQ(waits, (std::vector<io::Duration>{seconds(1), seconds(2), seconds(4), seconds(8),
                                              seconds(8), seconds(8)}));
}

TEST_F(LoginBackoffTest, NeitherOtherHostsNorOtherAccountsAreKeptOut) {
  fail(10);
  EXPECT_TRUE(waits());
  EXPECT_TRUE(waits("10.1.0.1:2000")) << "another port is the same host";
  EXPECT_FALSE(waits("10.1.0.2:1000"));
  EXPECT_FALSE(waits("10.1.0.1:1000", "hv2"));
  EXPECT_FALSE(waits("[::a01:1]:1000"));
}

TEST_F(LoginBackoffTest, SuccessAndTimeForget) {
  fail(10);
  backoff_.succeeded(endpoint("10.1.0.1:5"), "hv1");
  EXPECT_FALSE(waits());
  fail(10);
  now_ += LoginBackoff::kMemory + seconds(1);
  fail(1);
  EXPECT_FALSE(waits()) << "counted anew";
  EXPECT_EQ(backoff_.size(), 1u);
}

TEST_F(LoginBackoffTest, ManyAddressesAreBounded) {
  fail(10, "10.1.0.1:1");
  for (unsigned host = 0; host < 3 * LoginBackoff::kMaxEntries; ++host) {
    now_ += milliseconds(1);
    const std::string peer =
        "10.2." + std::to_string(host / 250) + "." + std::to_string(1 + host % 250) + ":1";
    fail(1, peer.c_str());
    fail(1, "10.1.0.1:1");  // still at it
  }
  EXPECT_EQ(backoff_.size(), LoginBackoff::kMaxEntries);
  EXPECT_TRUE(waits("10.1.0.1:1")) << "the busiest attacker is not forgotten for others";
}

}  // namespace
}  // namespace holdfast::target
