#include "qdisk/watchdog_pet.h"

#include <gtest/gtest.h>

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using io::Duration;
using io::Instant;

class WatchdogPetterTest : public testing::Test {
 protected:
  // With these times: L = 15 s, K = 3 s, D = 10 s; the lease is ample until 7 s before its end.
  static Instant at(Duration time) { return Instant(1h) + time; }
  LeaseNow lease(Duration now, Duration until) const {
    return {.until = at(until),
            .valid = now < until,
            .ample = now + timers_.watchdog - timers_.kill < until};
  }
  // A look at `now`, at a lease that ends at `until`.
  WatchdogAdvice look(Duration now, Duration until) {
    return petter_.look(at(now), lease(now, until));
  }
  WatchdogAdvice look_without_lease(Duration now) { return petter_.look(at(now), {}); }
  void arm() {
    ASSERT_EQ(look(0s, 15s).act, WatchdogAct::arm);
    petter_.on_armed();
  }

  const Timers timers_{};
  WatchdogPetter petter_{timers_};
};

TEST_F(WatchdogPetterTest, NothingIsArmedBeforeTheFirstAmpleLease) {
  for (const auto now : {0s, 1s, 100s}) {
    const WatchdogAdvice advice = look_without_lease(now);
    EXPECT_EQ(advice.act, WatchdogAct::none);
    EXPECT_EQ(advice.look_again, at(now + 1s));
    EXPECT_FALSE(advice.must_end_by);  // nothing lives by a lease that there never was
  }
  EXPECT_EQ(look(101s, 107s).act, WatchdogAct::none);  // valid, but not ample
  EXPECT_EQ(look(101s, 109s).act, WatchdogAct::arm);
}

TEST_F(WatchdogPetterTest, AnArmThatFailedIsTriedAgain) {
  EXPECT_EQ(look(0s, 15s).act, WatchdogAct::arm);
  EXPECT_EQ(look(500ms, 15s).act, WatchdogAct::none);
  EXPECT_EQ(look(1s, 16s).act, WatchdogAct::arm);
  petter_.on_armed();
  EXPECT_EQ(look(2s, 17s).act, WatchdogAct::pet);
  petter_.on_disarmed();
  EXPECT_EQ(look(3s, 18s).act, WatchdogAct::arm);
}

TEST_F(WatchdogPetterTest, ItIsPettedAtItsIntervalHoweverOftenOneLooks) {
  arm();
  int pets = 0;
  for (Duration now = 10ms; now <= 10s; now += 10ms) {
    const WatchdogAdvice advice = look(now, now + 15s);
    if (advice.act == WatchdogAct::pet) ++pets;
    EXPECT_LE(advice.look_again, at(now + 1s));
    EXPECT_GT(advice.look_again, at(now));
  }
  EXPECT_EQ(pets, 10);
}

TEST_F(WatchdogPetterTest, ALateLookPetsOnce) {
  arm();
  EXPECT_EQ(look(5s, 20s).act, WatchdogAct::pet);
  EXPECT_EQ(look(5100ms, 20s).act, WatchdogAct::none);
  EXPECT_EQ(look(6s, 21s).act, WatchdogAct::pet);
}

TEST_F(WatchdogPetterTest, WithoutAnAmpleLeaseItIsNeverPetted) {
  arm();
  for (Duration now = 8s; now < 60s; now += 100ms) {
    EXPECT_EQ(look(now, 15s).act, WatchdogAct::none) << now.count();
  }
  EXPECT_EQ(look_without_lease(61s).act, WatchdogAct::none);
  EXPECT_EQ(look(62s, 77s).act, WatchdogAct::pet);  // what was missed is made up for at once
}

// With a D that is shorter than K a lease is called ample that has ended.
TEST_F(WatchdogPetterTest, ALeaseThatHasEndedIsNoneHoweverAmple) {
  const LeaseNow ended{.until = at(15s), .valid = false, .ample = true};
  EXPECT_EQ(petter_.look(at(15s), ended).act, WatchdogAct::none);
  arm();
  EXPECT_EQ(petter_.look(at(16s), ended).act, WatchdogAct::none);
}

// What the last pet allows: it fires D after it, that is K after the lease's end or before.
TEST_F(WatchdogPetterTest, TheLastPetFiresByTheTimeAtWhichEverythingMustHaveEnded) {
  arm();
  Duration last{};
  std::optional<Instant> must_end_by;
  for (Duration now = 10ms; now < 30s; now += 10ms) {
    const WatchdogAdvice advice = look(now, 15s);
    if (advice.act == WatchdogAct::pet) last = now;
    if (advice.must_end_by) must_end_by = advice.must_end_by;
  }
  ASSERT_TRUE(must_end_by);
  EXPECT_EQ(*must_end_by, at(18s));
  EXPECT_GT(last, 6s);
  EXPECT_LE(at(last + timers_.watchdog), *must_end_by);
}

TEST_F(WatchdogPetterTest, TheEndOfTheLeaseIsLookedAt) {
  arm();
  EXPECT_EQ(look(14'700ms, 15s).look_again, at(15s));
  EXPECT_EQ(look(15s, 15s).must_end_by, at(18s));
  EXPECT_EQ(look(15s, 15s).look_again, at(16s));
}

TEST_F(WatchdogPetterTest, TheTimeToEndCountsFromTheLeasesEndAndNotFromALateLook) {
  arm();
  EXPECT_EQ(look(100s, 15s).must_end_by, at(18s));
  EXPECT_EQ(look(101s, 15s).must_end_by, at(18s));
}

TEST_F(WatchdogPetterTest, AnEvictionEndsTheLeaseAtOnce) {
  arm();
  EXPECT_EQ(look_without_lease(2s).must_end_by, at(5s));
  EXPECT_EQ(look_without_lease(4s).must_end_by, at(5s));
}

TEST_F(WatchdogPetterTest, ALeaseThatIsRenewedAfterItsEndIsOneAgain) {
  arm();
  EXPECT_TRUE(look(15s, 15s).must_end_by);
  EXPECT_FALSE(look(16s, 30s).must_end_by);
  EXPECT_EQ(look(31s, 30s).must_end_by, at(33s));
}

TEST(WatchdogPetter, TheIntervalIsAFifthOfTheTimeoutWithinBounds) {
  const auto interval = [](Milliseconds watchdog) {
    Timers timers;
    timers.watchdog = watchdog;
    return WatchdogPetter(timers).interval();
  };
  EXPECT_EQ(interval(2s), 400ms);
  EXPECT_EQ(interval(10s), 1s);
  EXPECT_EQ(interval(60s), 1s);
  EXPECT_EQ(interval(300ms), 100ms);
}

}  // namespace
}  // namespace holdfast::qdisk
