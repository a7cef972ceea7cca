#include "qdisk/membership.h"

#include <gmock/gmock.h>

#include "tests/unit/qdisk/cluster_scene.h"

namespace holdfast::qdisk {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kNodes = QuorumMode::node_majority;
constexpr auto kDisk = QuorumMode::node_and_disk_majority;

TEST(Membership, NodesThatHearEachOtherKeepTheirLeasesAndTheirEpoch) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(60));
  EXPECT_THAT(scene.leased(), ElementsAre(0, 1, 2));
  EXPECT_EQ(scene.epochs(), 1U);
  EXPECT_EQ(scene.breach(), "");
}

TEST(Membership, ADeadNodeIsEvictedAndFencedByOneOfTheOthers) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(5));
  EXPECT_EQ(scene.node(0).fences, 1);  // of what was there before the cluster was started
  scene.crash(2);
  ASSERT_TRUE(scene.run_until([&] { return scene.core(1).decision().members().count() == 2; },
                              seconds(25)));
  EXPECT_TRUE(scene.core(0).decision().witness_votes);
  ASSERT_TRUE(scene.run_until(
      [&] { return scene.core(1).fenced() == scene.core(1).decision().epoch; }, seconds(5)));
  EXPECT_EQ(scene.node(0).fences, 2);
  EXPECT_EQ(scene.node(1).fences, 0);
  EXPECT_EQ(scene.breach(), "");
}

TEST(Membership, OfTwoNodesOneGoesOnWithTheWitness) {
  for (const NodeId dead : {NodeId{0}, NodeId{1}}) {
    ClusterScene scene(2, kDisk);
    scene.run(seconds(5));
    scene.crash(dead);
    const NodeId left = static_cast<NodeId>(1 - dead);
    ASSERT_TRUE(scene.run_until([&] { return scene.core(left).decision().members().count() == 1; },
                                seconds(25)));
    scene.run(seconds(60));
    EXPECT_THAT(scene.leased(), ElementsAre(left));
    EXPECT_TRUE(scene.core(left).decision().voters.has(dead));
    scene.start(dead, true);
    ASSERT_TRUE(scene.run_until([&] { return scene.leased().size() == 2; }, seconds(25)));
    EXPECT_EQ(scene.core(dead).decision().incarnations[dead], 2U);
    EXPECT_EQ(scene.breach(), "");
  }
}

TEST(Membership, WithTheNetworkCutOneOfTwoNodesIsEvictedAndComesBackWhenItIsHealed) {
  ClusterScene scene(2, kDisk);
  scene.run(seconds(5));
  scene.cut_both(0, 1);
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 1; }, seconds(25)));
  scene.run(seconds(40));
  EXPECT_THAT(scene.leased(), ElementsAre(0));
  scene.heal();
  ASSERT_TRUE(scene.run_until([&] { return scene.leased().size() == 2; }, seconds(25)));
  EXPECT_EQ(scene.breach(), "");
}

TEST(Membership, OneWayLossOfTheNetworkIsALoss) {
  ClusterScene scene(3, kNodes);
  scene.run(seconds(5));
  scene.cut(2, 0);
  scene.cut(2, 1);
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 2; }, seconds(25)));
  EXPECT_FALSE(scene.newest().members().has(2));
  scene.run(seconds(20));
  EXPECT_THAT(scene.leased(), ElementsAre(0, 1));
  EXPECT_EQ(scene.breach(), "");
}

// A firewall may let a node's own connections through and those of the others to it not.
TEST(Membership, ANodeThatGetsAnswersButNoHeartbeatsEvictsNobody) {
  ClusterScene scene(3, kNodes);
  scene.run(seconds(5));
  scene.deafen(0);
  scene.run(seconds(60));
  EXPECT_THAT(scene.leased(), ElementsAre(0, 1, 2));
  EXPECT_EQ(scene.epochs(), 1U);
}

TEST(Membership, ANodeThatOnlySomeHearIsOut) {
  ClusterScene scene(3, kNodes);
  scene.run(seconds(5));
  scene.cut_both(0, 2);
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 2; }, seconds(40)));
  scene.run(seconds(60));
  EXPECT_EQ(scene.leased().size(), 2U);
  EXPECT_TRUE(scene.newest().members().has(1));
  EXPECT_EQ(scene.breach(), "");
}

TEST(Membership, TheWitnessLostByAllEvictsNobody) {
  ClusterScene scene(4, kDisk);
  scene.run(seconds(5));
  EXPECT_TRUE(scene.newest().witness_votes);
  for (NodeId id = 0; id < 4; ++id) scene.see_witness(id, false);
  ASSERT_TRUE(scene.run_until([&] { return !scene.newest().witness_votes; }, seconds(30)));
  scene.run(seconds(60));
  EXPECT_THAT(scene.leased(), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(scene.newest().voters.count(), 3);
  scene.heal();
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().witness_votes; }, seconds(30)));
  EXPECT_EQ(scene.breach(), "");
}

TEST(Membership, OfTwoNodesWithoutWitnessAndNetworkBothStop) {
  ClusterScene scene(2, kDisk);
  scene.run(seconds(5));
  scene.see_witness(0, false);
  scene.see_witness(1, false);
  scene.run(seconds(60));
  EXPECT_THAT(scene.leased(), ElementsAre(0, 1));
  scene.cut_both(0, 1);
  scene.run(seconds(20));
  EXPECT_THAT(scene.leased(), IsEmpty());
  EXPECT_EQ(scene.epochs(), 1U);
}

TEST(Membership, AfterAPowerCutTheNodesFoundTheClusterAgain) {
  for (const int count : {2, 3}) {
    ClusterScene scene(count, kDisk);
    scene.run(seconds(5));
    for (NodeId id = 0; id < count; ++id) scene.crash(id);
    scene.run(seconds(100));
    for (NodeId id = 0; id < count; ++id) scene.start(id, true);
    ASSERT_TRUE(scene.run_until([&] { return scene.leased().size() == static_cast<size_t>(count); },
                                seconds(30)));
    EXPECT_EQ(scene.breach(), "");
  }
}

// Whoever decided last is gone; the witness knows what it decided.
TEST(Membership, ThereIsNoPartitionInTime) {
  ClusterScene scene(2, kDisk);
  scene.run(seconds(5));
  scene.crash(1);
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 1; }, seconds(25)));
  ASSERT_TRUE(scene.core(0).ask({.kind = Change::Kind::config, .config = {.version = 9}}));
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().config.version == 9; }, seconds(5)));
  scene.crash(0);
  scene.start(1, true);
  ASSERT_TRUE(scene.run_until([&] { return !scene.leased().empty(); }, seconds(60)));
  EXPECT_THAT(scene.leased(), ElementsAre(1));
  EXPECT_EQ(scene.core(1).decision().config.version, 9U);
  EXPECT_EQ(scene.breach(), "");
}

TEST(Membership, ANodeThatHasLostItsStateNeitherVotesNorFoundsUntilItIsAdmitted) {
  ClusterScene scene(2, kDisk);
  scene.run(seconds(5));
  scene.crash(0);
  scene.crash(1);
  scene.lose_state(1);
  scene.start(1, true);
  scene.run(seconds(90));
  EXPECT_THAT(scene.leased(), IsEmpty());
  scene.start(0, true);
  ASSERT_TRUE(scene.run_until([&] { return scene.leased().size() == 2; }, seconds(60)));
  EXPECT_EQ(scene.breach(), "");
}

TEST(Membership, AForcedQuorumOfOneNodeCountsAndTheOthersJoinIt) {
  ClusterScene scene(3, kNodes);
  scene.run(seconds(5));
  scene.crash(0);
  scene.crash(1);
  scene.run(seconds(60));
  EXPECT_THAT(scene.leased(), IsEmpty());
  scene.handle(2, scene.core(2).force(scene.now()));
  scene.run(seconds(5));
  EXPECT_THAT(scene.leased(), ElementsAre(2));
  EXPECT_EQ(generation_of(scene.newest().epoch), 2);
  scene.start(0);
  scene.start(1, true);
  ASSERT_TRUE(scene.run_until([&] { return scene.leased().size() == 3; }, seconds(60)));
  EXPECT_EQ(scene.breach(), "");
}

// Another cluster that was made under the same uuid, or a state that was put back from elsewhere.
TEST(Membership, AnotherValueOfTheSameEpochIsNeitherTakenNorAVote) {
  ClusterScene scene(3, kNodes);
  scene.run(seconds(40));
  Membership& core = scene.core(0);
  EXPECT_FALSE(core.contradicted());
  const Decision known = core.decision();
  Decision other = known;
  other.config.version += 1;
  const Request request{.from = 1, .incarnation = 1, .decided = other};
  EXPECT_TRUE(core.on_request(request, scene.now()).messages.empty());
  EXPECT_TRUE(core.contradicted());
  EXPECT_EQ(core.decision(), known);
  const auto before = core.lease_until();
  const Reply reply{.sent_at = scene.now(), .incarnation = 1, .decided = other};
  core.on_reply(1, reply, scene.now());
  core.on_reply(2, reply, scene.now());
  EXPECT_EQ(core.lease_until(), before);
  EXPECT_EQ(core.decision(), known);
}

TEST(Membership, ANodeThatStopsIsOutAtOnceAndNobodyWaitsForIt) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(40));
  scene.core(2).stop();
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 2; }, seconds(4)));
  EXPECT_LE(scene.core(0).evicted_stopped_at(), scene.now());
}

TEST(Membership, AfterAnEvictionTheTimeToStopCountsFromTheDecision) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(40));
  scene.crash(2);
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 2; }, seconds(25)));
  scene.run(milliseconds(100));
  EXPECT_GE(scene.core(1).evicted_stopped_at(),
            scene.now() + Timers{}.takeover - milliseconds(200));
}

TEST(Membership, ACoordinatorHasATokenOnlyOnceTheOneBeforeItIsFenced) {
  ClusterScene scene(3, kDisk);
  scene.run(seconds(5));
  ASSERT_TRUE(scene.core(0).ask({.kind = Change::Kind::add_volume, .volume = 4, .coordinator = 2}));
  ASSERT_TRUE(scene.run_until([&] { return scene.core(2).token(4, scene.now()).has_value(); },
                              seconds(10)));
  const Token first = *scene.core(2).token(4, scene.now());
  EXPECT_EQ(first.term, 1U);
  scene.node(0).answers_fences = scene.node(1).answers_fences = false;
  scene.crash(2);
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 2; }, seconds(25)));
  const NodeId next = scene.newest().volumes[4].coordinator;
  scene.run(seconds(10));
  EXPECT_FALSE(scene.core(next).token(4, scene.now()));
  scene.core(0).on_devices_fenced(scene.newest().epoch, false);
  ASSERT_TRUE(scene.run_until([&] { return scene.core(next).token(4, scene.now()).has_value(); },
                              seconds(5)));
  EXPECT_GT(*scene.core(next).token(4, scene.now()), first);
  EXPECT_EQ(scene.core(next).token(4, scene.now())->term, 2U);
}

TEST(Membership, AVolumeIsHandedOverByItsCoordinatorOnly) {
  ClusterScene scene(2, kDisk);
  scene.run(seconds(5));
  ASSERT_TRUE(scene.core(0).ask({.kind = Change::Kind::add_volume, .coordinator = 0}));
  ASSERT_TRUE(scene.run_until([&] { return scene.core(0).token(0, scene.now()).has_value(); },
                              seconds(10)));
  const Change move{.kind = Change::Kind::move_volume, .coordinator = 1, .from = 0};
  scene.run(seconds(2));
  EXPECT_FALSE(scene.core(1).ask(move));
  ASSERT_TRUE(scene.core(0).ask(move));
  ASSERT_TRUE(scene.run_until([&] { return scene.core(1).token(0, scene.now()).has_value(); },
                              seconds(10)));
  EXPECT_FALSE(scene.core(0).token(0, scene.now()));
}

// Epoch 2 keeps node 2, which took its phase-2 block, and drops node 1; epoch 3, decided by node 0
// and the witness, drops node 2. Nodes 1 and 2 know nothing of it, and were a majority once.
// `Membership.RandomFaultsBreakNothingAndHeal` found it with seed 38.
TEST(Membership, ABlockOfTheNextEpochEndsRenewalsAlsoOfThoseWhomItKeeps) {
  Decision first{.epoch = 1, .voters = NodeSet(7)};
  first.incarnations[0] = first.incarnations[1] = first.incarnations[2] = 1;
  Acceptor acceptor({.decided = first}, 2, 1, true);
  EXPECT_TRUE(vouches(acceptor.reply({}), 1, 2, 1));
  Decision second = first;
  second.epoch = 2;
  second.incarnations[1] = 0;
  ASSERT_TRUE(acceptor.store(0, {.epoch = 2, .mbal = 256, .incarnation = 1}));
  EXPECT_TRUE(vouches(acceptor.reply({}), 1, 2, 1));
  ASSERT_TRUE(
      acceptor.store(0, {.epoch = 2, .mbal = 256, .bal = 256, .incarnation = 1, .value = second}));
  EXPECT_FALSE(vouches(acceptor.reply({}), 1, 2, 1));
}

TEST(Membership, ANodeThatHasStoppedHasNeitherLeaseNorToken) {
  ClusterScene scene(2, kDisk);
  scene.run(seconds(5));
  ASSERT_TRUE(scene.core(0).ask({.kind = Change::Kind::add_volume, .coordinator = 0}));
  ASSERT_TRUE(scene.run_until([&] { return scene.core(0).token(0, scene.now()).has_value(); },
                              seconds(10)));
  scene.core(0).stop();
  EXPECT_FALSE(scene.core(0).lease_valid(scene.now()));
  EXPECT_FALSE(scene.core(0).token(0, scene.now()));
}

// It would begin the first generation anew, with another value for its first epoch.
TEST(Membership, WhoKnowsNoDecisionIsNotForced) {
  ClusterScene scene(1, kDisk);
  scene.run(seconds(5));
  scene.crash(0);
  scene.lose_state(0);
  scene.start(0, true);
  scene.force(0);
  scene.run(seconds(5));
  EXPECT_EQ(scene.core(0).decision().epoch, 0U);
  EXPECT_EQ(scene.breach(), "");
}

// It has learnt what was decided, and made that durable; what it had promised it does not know.
TEST(Membership, ANodeThatHasLostItsStateStillHasAfterALaterStart) {
  ClusterScene scene(3, kNodes);
  scene.run(seconds(5));
  scene.crash(0);
  scene.crash(1);
  scene.crash(2);
  scene.lose_state(2);
  scene.start(2, true);
  scene.start(0, true);
  ASSERT_TRUE(scene.run_until([&] { return scene.core(2).decision().epoch != 0; }, seconds(5)));
  EXPECT_FALSE(scene.core(2).remembers());
  scene.start(2, true);
  EXPECT_FALSE(scene.core(2).remembers());
  scene.run(seconds(60));
  EXPECT_THAT(scene.leased(), IsEmpty());  // one of three that remembers
  scene.start(1, true);
  ASSERT_TRUE(scene.run_until([&] { return scene.leased().size() == 3; }, seconds(60)));
  EXPECT_TRUE(scene.core(2).remembers());
}

// Everything at once, for many seeds: nothing of what check() looks for, and when the faults have
// ended all nodes are members again.
TEST(Membership, RandomFaultsBreakNothingAndHeal) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    const int count = 2 + static_cast<int>(seed % 4);
    ClusterScene scene(count, seed % 3 == 0 ? kNodes : kDisk, seed);
    auto& random = scene.random();
    const auto any = [&] {
      return static_cast<NodeId>(random.below(static_cast<uint64_t>(count)));
    };
    for (int step = 0; step < 30; ++step) {
      switch (random.below(8)) {
        case 0:
          scene.crash(any());
          break;
        case 1:
        case 2: {
          const NodeId id = any();
          scene.start(id, random.below(2) == 0);
          break;
        }
        case 3:
          scene.cut(any(), any());
          break;
        case 4:
          scene.cut_both(any(), any());
          break;
        case 5:
          scene.see_witness(any(), random.below(2) == 0);
          break;
        case 6:
          scene.lose_messages(random.below(40));
          break;
        default:
          scene.heal();
      }
      scene.run(milliseconds(100 + random.below(15'000)));
      ASSERT_EQ(scene.breach(), "");
    }
    scene.heal();
    for (NodeId id = 0; id < count; ++id) {
      if (!scene.node(id).core) scene.start(id, true);
    }
    EXPECT_TRUE(scene.run_until(
        [&] { return scene.leased().size() == scene.size() && scene.agree(); }, seconds(90)));
    ASSERT_EQ(scene.breach(), "");
  }
}

}  // namespace
}  // namespace holdfast::qdisk
