#include "mpio/path_load.h"

#include <gtest/gtest.h>

namespace holdfast::mpio {
namespace {

using scsi::AluaState;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

class PathLoadTest : public testing::Test {
 protected:
  void sample(SizeClass size, io::Duration latency, io::Duration apart = milliseconds(1)) {
    now_ += apart;
    const uint32_t depth = load_.on_submitted(size, now_ - latency);
    load_.on_completed({.size = size, .depth = depth, .latency = latency}, now_);
  }

  io::Instant now_ = io::Instant{} + seconds(100);
  PathLoad load_;
};

TEST_F(PathLoadTest, SizesFallIntoClasses) {
  EXPECT_EQ(size_class(0), SizeClass::small);
  EXPECT_EQ(size_class(16 * 1024), SizeClass::small);
  EXPECT_EQ(size_class(16 * 1024 + 1), SizeClass::medium);
  EXPECT_EQ(size_class(128 * 1024), SizeClass::medium);
  EXPECT_EQ(size_class(128 * 1024 + 1), SizeClass::large);
}

TEST_F(PathLoadTest, TheFirstSampleIsBelievedWholeAndLaterOnesSmoothed) {
  EXPECT_FALSE(load_.measured());
  sample(SizeClass::small, microseconds(200));
  EXPECT_EQ(load_.latency(SizeClass::small), 200'000);
  sample(SizeClass::small, milliseconds(10));
  EXPECT_LT(load_.latency(SizeClass::small), 300'000) << "one outlier";
  for (int i = 0; i < 1000; ++i) sample(SizeClass::small, milliseconds(10));
  EXPECT_NEAR(static_cast<double>(load_.latency(SizeClass::small)), 10e6, 0.2e6);
}

TEST_F(PathLoadTest, ServiceIsLatencyPerRequestInFlight) {
  load_.on_submitted(SizeClass::small, now_);
  EXPECT_EQ(load_.on_submitted(SizeClass::small, now_), 2u);
  load_.on_completed({.depth = 2, .latency = microseconds(400)}, now_);
  EXPECT_EQ(load_.latency(SizeClass::small), 400'000);
  EXPECT_EQ(load_.service(SizeClass::small), 200'000);
  EXPECT_EQ(load_.in_flight(), 1u);
}

TEST_F(PathLoadTest, ClassesAreApartAndAnUnmeasuredOneBorrows) {
  sample(SizeClass::small, microseconds(100));
  EXPECT_EQ(load_.latency(SizeClass::large), 100'000);
  sample(SizeClass::large, milliseconds(8));
  EXPECT_EQ(load_.latency(SizeClass::small), 100'000);
  EXPECT_EQ(load_.latency(SizeClass::large), 8'000'000);
}

TEST_F(PathLoadTest, OldTimesAreReplacedNotSmoothed) {
  sample(SizeClass::small, seconds(3));
  sample(SizeClass::small, microseconds(200), seconds(2));
  EXPECT_EQ(load_.latency(SizeClass::small), 200'000) << "a stall long ago";
}

TEST_F(PathLoadTest, ARequestThatTakesTooLongSpeaksForThePath) {
  for (int i = 0; i < 50; ++i) sample(SizeClass::small, microseconds(200));
  load_.on_submitted(SizeClass::small, now_);
  now_ += microseconds(799);
  EXPECT_FALSE(load_.lags(now_));
  EXPECT_EQ(load_.service_now(SizeClass::small, now_), 200'000);
  now_ += milliseconds(50);
  EXPECT_TRUE(load_.lags(now_));
  EXPECT_GE(load_.service_now(SizeClass::small, now_), 50'000'000);
}

TEST_F(PathLoadTest, ADeepQueueIsNoLag) {
  for (int i = 0; i < 50; ++i) sample(SizeClass::small, microseconds(200));
  for (int i = 0; i < 100; ++i) load_.on_submitted(SizeClass::small, now_);
  now_ += milliseconds(20);
  EXPECT_FALSE(load_.lags(now_)) << "a hundred at 200 us take 20 ms";
}

TEST_F(PathLoadTest, AnIdlePathGoesStaleByItsOwnTimes) {
  for (int i = 0; i < 50; ++i) sample(SizeClass::small, milliseconds(5));
  EXPECT_FALSE(load_.stale(SizeClass::small, 2, now_ + milliseconds(5 * kStaleFactor * 2)));
  EXPECT_TRUE(load_.stale(SizeClass::small, 2, now_ + milliseconds(5 * kStaleFactor * 2 + 1)));
  EXPECT_TRUE(
      load_.stale(SizeClass::small, 64, now_ + io::Duration(kStaleLongest) + milliseconds(1)));
  load_.on_submitted(SizeClass::small, now_);
  EXPECT_FALSE(load_.stale(SizeClass::small, 2, now_ + seconds(100))) << "one probe at a time";
}

TEST_F(PathLoadTest, TheShareFollowsTheRateOfLate) {
  for (uint32_t i = 0; i <= kShareFloor; ++i) {
    EXPECT_FALSE(load_.over_share(now_));
    load_.on_submitted(SizeClass::small, now_);
  }
  EXPECT_TRUE(load_.over_share(now_)) << "it has completed nothing yet";
  // 20 in 50 ms: room for 30 more than the floor.
  for (int i = 0; i < 20; ++i) {
    load_.on_submitted(SizeClass::small, now_);
    load_.on_completed({.depth = 1, .latency = milliseconds(1)}, now_);
  }
  for (int i = 0; i < 29; ++i) load_.on_submitted(SizeClass::small, now_);
  EXPECT_FALSE(load_.over_share(now_));
  load_.on_submitted(SizeClass::small, now_);
  EXPECT_TRUE(load_.over_share(now_));
}

TEST_F(PathLoadTest, AStalledPathsShareShrinks) {
  for (int i = 0; i < 100; ++i) sample(SizeClass::small, microseconds(100), microseconds(100));
  for (int i = 0; i < 50; ++i) load_.on_submitted(SizeClass::small, now_);
  EXPECT_FALSE(load_.over_share(now_));
  EXPECT_TRUE(load_.over_share(now_ + 3 * kShareWindow));
}

TEST_F(PathLoadTest, ANewSessionBeginsUnknown) {
  sample(SizeClass::small, seconds(3));
  load_.on_submitted(SizeClass::small, now_);
  load_.restart();
  EXPECT_EQ(load_.in_flight(), 0u);
  EXPECT_FALSE(load_.measured());
  EXPECT_FALSE(load_.oldest_in_flight);
}

TEST_F(PathLoadTest, ErrorsSayNothingAboutSpeed) {
  load_.on_submitted(SizeClass::small, now_);
  load_.on_abandoned(SizeClass::small);
  EXPECT_FALSE(load_.measured());
  EXPECT_EQ(load_.in_flight(), 0u);
}

TEST(Ramp, HoldsThenGrowsFromATenth) {
  constexpr io::Duration kHold = kFailbackHold;
  EXPECT_EQ(ramp_weight(1000, kHold - milliseconds(1), kHold), 0u);
  EXPECT_EQ(ramp_weight(1000, kHold, kHold), 100u);
  EXPECT_EQ(ramp_weight(1000, kHold + io::Duration(kRamp) / 2, kHold), 550u);
  EXPECT_EQ(ramp_weight(1000, kHold + kRamp, kHold), 1000u);
  EXPECT_EQ(ramp_weight(500, kHold, kHold), 50u);
  EXPECT_EQ(ramp_weight(kGreatestWeight, seconds(3600), kHold), kGreatestWeight);
}

TEST(Tiers, FollowStateAndAccessState) {
  using State = PathState;
  EXPECT_EQ(tier_of(State::active, std::nullopt, false), PathTier::optimized);
  EXPECT_EQ(tier_of(State::active, AluaState::active_optimized, true), PathTier::preferred);
  EXPECT_EQ(tier_of(State::active, AluaState::active_optimized, false), PathTier::optimized);
  EXPECT_EQ(tier_of(State::active, AluaState::active_non_optimized, true), PathTier::non_optimized);
  EXPECT_EQ(tier_of(State::marginal, AluaState::active_optimized, true), PathTier::marginal);
  for (const AluaState alua :
       {AluaState::standby, AluaState::unavailable, AluaState::transitioning}) {
    EXPECT_EQ(tier_of(State::active, alua, true), PathTier::unusable);
  }
  for (size_t i = 0; i < kPathStates; ++i) {
    const auto state = static_cast<State>(i);
    if (state == State::active || state == State::marginal) continue;
    EXPECT_EQ(tier_of(state, AluaState::active_optimized, true), PathTier::unusable)
        << to_string(state);
  }
}

}  // namespace
}  // namespace holdfast::mpio
