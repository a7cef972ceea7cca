// A member that is evicted because somebody asks for it, and from when on it has stopped.

#include <gmock/gmock.h>

#include "tests/unit/qdisk/cluster_scene.h"

namespace holdfast::qdisk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

constexpr QuorumMode kDisk = QuorumMode::node_and_disk_majority;

Change evict(NodeId node, Incarnation incarnation) {
  return {.kind = Change::Kind::evict, .life = {node, incarnation}};
}

TEST(MembershipFence, AHealthyMemberIsOutAtOnceAndComesBackAsANewLife) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(40));
  ASSERT_TRUE(scene.core(0).ask(evict(2, 1)));
  ASSERT_TRUE(scene.run_until([&] { return !scene.newest().has_member(2, 1); }, seconds(2)));
  ASSERT_TRUE(scene.run_until([&] { return scene.node(2).core == nullptr; }, seconds(2)));
  ASSERT_TRUE(
      scene.run_until([&] { return scene.core(0).departure_of({2, 1}).fenced; }, seconds(10)));
  EXPECT_FALSE(scene.core(0).departure_of({2, 1}).timed);
  EXPECT_FALSE(scene.core(0).asked());
  // It begins anew by itself.
  ASSERT_TRUE(scene.run_until([&] { return scene.leased().size() == 3; }, seconds(60)));
  EXPECT_EQ(scene.newest().incarnations[2], 2U);
  EXPECT_TRUE(scene.core(0).departure_of({2, 1}).stopped);
  EXPECT_EQ(scene.breach(), "");
}

TEST(MembershipFence, ItIsFencedOnceItsOwnEpochIsAndStaysSo) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(40));
  scene.node(0).answers_fences = scene.node(1).answers_fences = false;
  ASSERT_TRUE(scene.core(0).ask(evict(2, 1)));
  ASSERT_TRUE(
      scene.run_until([&] { return !scene.core(0).decision().has_member(2, 1); }, seconds(2)));
  EXPECT_EQ(scene.core(0).life_of(2), (Life{2, 1}));
  scene.run(seconds(5));
  EXPECT_FALSE(scene.core(0).departure_of({2, 1}).fenced);
  EXPECT_FALSE(scene.core(0).departure_of({2, 7}).fenced);  // one that was not seen
  scene.core(0).on_devices_fenced(scene.newest().epoch, true);
  ASSERT_TRUE(
      scene.run_until([&] { return scene.core(0).departure_of({2, 1}).fenced; }, seconds(5)));
  EXPECT_TRUE(scene.core(0).departure_of({2, 1}).timed);
}

// Somebody on its host is slow to drop what the evicted one had asked of it, and the daemon is
// restarted meanwhile.
TEST(MembershipFence, ARestartedDaemonDoesNotSayForOthersThatTheyHaveDroppedAnything) {
  const MembershipSettings settings{.has_users = true};
  base::SeededRandom random(1);
  const AcceptorState state{.decided = {.epoch = 9, .voters = NodeSet(1)}};
  EXPECT_EQ(Membership(settings, state, true, 8, random, {}).heartbeat({}).quiesced, 0U);
  EXPECT_EQ(Membership(settings, state, true, 9, random, {}).heartbeat({}).quiesced, 9U);
  EXPECT_EQ(Membership({}, state, true, 8, random, {}).heartbeat({}).quiesced, 9U);
}

TEST(MembershipFence, NobodyEvictsItselfNorWhoIsNoMember) {
  ClusterScene scene(2, kDisk);
  scene.run(seconds(40));
  EXPECT_EQ(scene.core(0).ask(evict(0, 1)).error().code, base::Errc::invalid_argument);
  EXPECT_EQ(scene.core(0).ask(evict(1, 2)).error().code, base::Errc::not_found);
  EXPECT_EQ(scene.core(0).ask(evict(7, 1)).error().code, base::Errc::not_found);
  scene.run(seconds(5));
  EXPECT_THAT(scene.leased(), ElementsAre(0, 1));
}

// --- from when on it has stopped ---

TEST(MembershipFence, AnEvictedLifeHasTheWholeTimeToStopAndItsWatchdogIsKnown) {
  ClusterScene scene(3, kDisk);
  scene.core(2).set_watchdog(WatchdogKind::real);
  scene.run(seconds(40));
  ASSERT_TRUE(scene.core(0).ask(evict(2, 1)));
  ASSERT_TRUE(
      scene.run_until([&] { return !scene.core(0).decision().has_member(2, 1); }, seconds(2)));
  const Departure left = scene.core(0).departure_of({2, 1});
  EXPECT_GE(left.stops_at, scene.now() + Timers{}.takeover - milliseconds(200));
  EXPECT_EQ(left.watchdog, WatchdogKind::real);
  EXPECT_FALSE(left.stopped);
  // What is not known has no watchdog, and no shorter time.
  EXPECT_EQ(scene.core(0).departure_of({5, 1}).watchdog, WatchdogKind::none);
  EXPECT_GE(scene.core(0).departure_of({2, 9}).stops_at, left.stops_at);
}

TEST(MembershipFence, AHostThatIsSwitchedOffHasStopped) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(40));
  scene.core(0).on_switched_off({2, 1}, scene.now());  // a member: it says nothing
  scene.crash(2);
  ASSERT_TRUE(
      scene.run_until([&] { return !scene.core(0).decision().has_member(2, 1); }, seconds(25)));
  EXPECT_FALSE(scene.core(0).departure_of({2, 1}).stopped);
  EXPECT_GT(scene.core(0).departure_of({2, 1}).stops_at, scene.now());
  scene.core(0).on_switched_off({2, 1}, scene.now());
  EXPECT_TRUE(scene.core(0).departure_of({2, 1}).stopped);
  EXPECT_LE(scene.core(0).departure_of({2, 1}).stops_at, scene.now());
  // Of the same node's later life it is no proof.
  EXPECT_FALSE(scene.core(0).departure_of({2, 2}).stopped);
}

TEST(MembershipFence, WhoSaysThatItHasStoppedOrLivesAnewHasStopped) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(40));
  scene.core(2).stop();
  ASSERT_TRUE(
      scene.run_until([&] { return !scene.core(0).decision().has_member(2, 1); }, seconds(4)));
  EXPECT_TRUE(scene.core(0).departure_of({2, 1}).stopped);
  scene.start(1, true);
  ASSERT_TRUE(
      scene.run_until([&] { return !scene.core(0).decision().has_member(1, 1); }, seconds(30)));
  EXPECT_TRUE(scene.core(0).departure_of({1, 1}).stopped);
}

}  // namespace
}  // namespace holdfast::qdisk
