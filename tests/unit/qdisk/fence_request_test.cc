#include "qdisk/fence_request.h"

#include <gmock/gmock.h>

#include "tests/unit/qdisk/cluster_scene.h"

namespace holdfast::qdisk {
namespace {

using State = FenceAnswer::State;
using Act = FenceAnswer::Act;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr FenceAgentNow kNoAgent{};

class FenceRequestTest : public testing::Test {
 protected:
  FenceRequestTest() : scene_(3, QuorumMode::node_and_disk_majority) {}

  void settle(WatchdogKind watchdog) {
    scene_.core(2).set_watchdog(watchdog);
    scene_.run(seconds(40));
  }
  // Asked of node 0.
  FenceAnswer look(bool strict, const FenceAgentNow& agent = kNoAgent) {
    return judge_fence(scene_.core(0), 0, scene_.now(),
                       {.life = {2, 1}, .name = "hv3", .strict = strict}, agent);
  }
  void evict() {
    ASSERT_TRUE(scene_.core(0).ask({.kind = Change::Kind::evict, .life = {2, 1}}));
    ASSERT_TRUE(
        scene_.run_until([&] { return !scene_.core(0).decision().has_member(2, 1); }, seconds(2)));
  }
  // Nothing is heard of it again.
  void evict_silently() {
    scene_.crash(2);
    ASSERT_TRUE(
        scene_.run_until([&] { return !scene_.core(0).decision().has_member(2, 1); }, seconds(25)));
  }
  void fence(bool timed) {
    scene_.core(0).on_devices_fenced(scene_.core(0).decision().epoch, timed);
    ASSERT_TRUE(
        scene_.run_until([&] { return scene_.core(0).departure_of({2, 1}).fenced; }, seconds(5)));
  }

  ClusterScene scene_;
};

TEST_F(FenceRequestTest, AMemberIsEvictedFirstThenItsDevicesAreFenced) {
  scene_.node(0).answers_fences = scene_.node(1).answers_fences = false;
  settle(WatchdogKind::none);
  EXPECT_EQ(look(false).act, Act::evict);
  EXPECT_EQ(look(false).state, State::pending);
  evict();
  EXPECT_EQ(look(false).act, Act::none);
  EXPECT_EQ(look(false).state, State::pending);
  EXPECT_THAT(look(false).why, HasSubstr("being ended"));
  fence(false);
  EXPECT_EQ(look(false), FenceAnswer{.state = State::drained});
}

TEST_F(FenceRequestTest, ThatTimeIsTheOnlyProofIsSaidAndNotEnoughForStrict) {
  scene_.node(0).answers_fences = scene_.node(1).answers_fences = false;
  settle(WatchdogKind::real);
  evict_silently();
  fence(true);
  EXPECT_EQ(look(false).state, State::timed);
  EXPECT_EQ(look(true).state, State::refused);
  EXPECT_THAT(look(true).why, HasSubstr("only known by the time"));
}

TEST_F(FenceRequestTest, StrictIsRefusedWhereNothingBoundsHowLongItRuns) {
  settle(WatchdogKind::none);
  EXPECT_EQ(look(true).state, State::refused);  // before anything is done to it
  EXPECT_EQ(look(true).act, Act::none);
  EXPECT_THAT(look(true).why, HasSubstr("hv3 has neither a watchdog that runs nor a fence agent"));
  evict_silently();
  EXPECT_EQ(look(true).state, State::refused);
  EXPECT_NE(look(false).state, State::refused);
}

TEST_F(FenceRequestTest, StrictWaitsForTheWatchdogAndLabelsTheLabs) {
  settle(WatchdogKind::lab);
  evict_silently();
  ASSERT_TRUE(
      scene_.run_until([&] { return scene_.core(0).departure_of({2, 1}).fenced; }, seconds(5)));
  EXPECT_EQ(look(false).state, State::drained);
  EXPECT_EQ(look(true).state, State::pending);
  EXPECT_THAT(look(true).why, HasSubstr("watchdog of hv3"));
  scene_.run(Timers{}.takeover - seconds(6));
  EXPECT_EQ(look(true).state, State::pending);
  scene_.run(seconds(6));
  EXPECT_EQ(look(true), (FenceAnswer{.state = State::drained, .lab = true}));
}

TEST_F(FenceRequestTest, TheFenceAgentsWordEndsTheWait) {
  settle(WatchdogKind::none);
  evict_silently();
  EXPECT_EQ(look(true, {.exists = true}).act, Act::switch_off);
  EXPECT_EQ(look(false, {.exists = true}).act, Act::none);  // only where strict is asked for
  ASSERT_TRUE(
      scene_.run_until([&] { return scene_.core(0).departure_of({2, 1}).fenced; }, seconds(5)));
  const FenceAnswer running = look(true, {.exists = true, .running = true});
  EXPECT_EQ(running.act, Act::none);
  EXPECT_EQ(running.state, State::pending);
  // Without a watchdog no time is enough.
  scene_.run(seconds(600));
  const FenceAnswer failed = look(true, {.exists = true, .failure = "status 1"});
  EXPECT_EQ(failed.state, State::pending);
  EXPECT_THAT(failed.why, HasSubstr("has failed: status 1"));
  scene_.core(0).on_switched_off({2, 1}, scene_.now());
  EXPECT_EQ(look(true, {.exists = true}), FenceAnswer{.state = State::drained});
}

TEST_F(FenceRequestTest, WhoSaysItselfThatItHasStoppedNeedsNeither) {
  settle(WatchdogKind::none);
  scene_.core(2).stop();
  ASSERT_TRUE(
      scene_.run_until([&] { return !scene_.core(0).decision().has_member(2, 1); }, seconds(4)));
  ASSERT_TRUE(
      scene_.run_until([&] { return scene_.core(0).departure_of({2, 1}).fenced; }, seconds(5)));
  EXPECT_EQ(look(true), FenceAnswer{.state = State::drained});
}

TEST_F(FenceRequestTest, ANodeWithoutALeasePromisesNothingAndNobodyFencesItself) {
  settle(WatchdogKind::real);
  EXPECT_EQ(judge_fence(scene_.core(0), 0, scene_.now(), {.life = {0, 1}}, kNoAgent).state,
            State::refused);
  evict_silently();
  ASSERT_TRUE(
      scene_.run_until([&] { return scene_.core(0).departure_of({2, 1}).fenced; }, seconds(5)));
  ASSERT_EQ(look(false).state, State::drained);
  scene_.core(0).stop();
  EXPECT_EQ(look(false).state, State::pending);
  EXPECT_THAT(look(false).why, HasSubstr("no lease"));
}

}  // namespace
}  // namespace holdfast::qdisk
