// Who proposes what, and when: membership_plan.cc.

#include <gmock/gmock.h>

#include "tests/unit/qdisk/lone_member.h"

namespace holdfast::qdisk {
namespace {

using std::chrono::seconds;

constexpr auto kDisk = QuorumMode::node_and_disk_majority;

// Within one tick and one heartbeat, in which a need is seen.
void expect_about(std::optional<Milliseconds> time, Milliseconds expected) {
  ASSERT_TRUE(time);
  EXPECT_GE(*time, expected - seconds(1));
  EXPECT_LE(*time, expected + Milliseconds(400));
}

// Three nodes have run for a while; then node 2 falls silent.
std::optional<Milliseconds> evicts_after(NodeId self) {
  LoneMember node(self);
  node.start();
  for (NodeId other = 0; other < 3; ++other) {
    if (other != self) node.hear(other);
  }
  EXPECT_FALSE(node.proposes_within(seconds(30)));
  node.silence(2);
  return node.proposes_within(seconds(60));
}

TEST(MembershipPlan, ASilentMemberIsEvictedByOneAfterTheOther) {
  expect_about(evicts_after(0), seconds(10));
  expect_about(evicts_after(1), seconds(11));
}

TEST(MembershipPlan, WhatIsProposedIsTheMembershipWithoutIt) {
  LoneMember node(0);
  node.start();
  node.hear(1);
  node.run(seconds(30));
  const auto wish = node.wish();
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->epoch, 6U);
  EXPECT_EQ(wish->members(), NodeSet(0b011));
  EXPECT_EQ(wish->voters, NodeSet(0b001));  // of an even number one loses its vote
}

// All write to the witness, but the network is split: {0, 1} and {2, 3} are alike, so that the one
// with the lowest number is first, and the other waits for disk_io_to + hb_disk.
TEST(MembershipPlan, ACliqueThatIsNotTheBestWaitsForItsTurn) {
  const auto proposes = [](NodeId self) {
    LoneMember node(self, 4, kDisk);
    node.start();
    node.core().use_witness(LoneMember::kLun);
    node.on_disk = NodeSet(0b1111) - NodeSet::of(self);
    for (NodeId other = 0; other < 4; ++other) {
      if (other != self) node.hear(other).heard_disk.add(other);
    }
    EXPECT_FALSE(node.proposes_within(seconds(30)));
    const NodeSet mine(self < 2 ? 0b0011 : 0b1100);
    for (NodeId other = 0; other < 4; ++other) {
      if (other == self) continue;
      if (!mine.has(other)) node.silence(other);
    }
    node.run(seconds(9));
    for (NodeId other = 0; other < 4; ++other) {
      if (other == self) continue;
      node.said(other).heard_net[0] = mine.has(other) ? mine : NodeSet(0b1111) - mine;
    }
    return node.proposes_within(seconds(60));
  };
  for (const NodeId self : {NodeId{0}, NodeId{1}, NodeId{2}, NodeId{3}}) {
    expect_about(proposes(self), seconds(1 + self % 2 + (self < 2 ? 0 : 6)));
  }
}

TEST(MembershipPlan, WhoHasJustBegunToListenEvictsNobodyYet) {
  LoneMember node(0);
  node.start();
  node.hear(1);
  expect_about(node.proposes_within(seconds(60)), seconds(10));
}

TEST(MembershipPlan, AMemberThatHasStoppedIsOutAtOnce) {
  LoneMember node(0);
  node.start();
  node.hear(1);
  node.hear(2);
  node.run(seconds(5));
  node.hear(2, NodeState::stopped);
  expect_about(node.proposes_within(seconds(60)), seconds(1));
  ASSERT_TRUE(node.wish());
}

TEST(MembershipPlan, WhoHasStoppedProposesNothing) {
  LoneMember node(0);
  node.start();
  node.hear(1);
  node.core().stop();
  EXPECT_FALSE(node.proposes_within(seconds(60)));
}

TEST(MembershipPlan, WhoWantsToJoinIsTakenInAtOnceAsTheLifeThatItIs) {
  LoneMember node(0, 4);
  node.decision.incarnations[2] = 0;
  choose_voters(node.decision, node.decision, node.settings().policy, false);
  node.start();
  node.hear(1);
  node.hear(3);
  EXPECT_FALSE(node.proposes_within(seconds(30)));
  node.hear(2, NodeState::joining, 4);
  expect_about(node.proposes_within(seconds(60)), seconds(1));
  const auto wish = node.wish();
  ASSERT_TRUE(wish);
  EXPECT_TRUE(wish->has_member(2, 4));
  EXPECT_EQ(wish->voters, NodeSet(0b0111));
}

TEST(MembershipPlan, ANewLifeOfAMemberTakesThePlaceOfTheOld) {
  LoneMember node(0);
  node.start();
  node.hear(1);
  node.hear(2);
  node.run(seconds(5));
  node.hear(2, NodeState::joining, 2);
  expect_about(node.proposes_within(seconds(60)), seconds(1));
  const auto wish = node.wish();
  ASSERT_TRUE(wish);
  EXPECT_TRUE(wish->has_member(2, 2));
}

TEST(MembershipPlan, WhoIsNotHeardByAllOrNotConfiguredDoesNotJoin) {
  for (const bool configured : {true, false}) {
    LoneMember node(0, 4);
    node.decision.incarnations[2] = 0;
    if (!configured) node.settings().policy.configured.remove(2);
    choose_voters(node.decision, node.decision, node.settings().policy, false);
    node.start();
    node.hear(3);
    node.hear(1).heard_net[0] = NodeSet(configured ? 0b1001 : 0b1101);
    node.hear(2, NodeState::joining, 2);
    EXPECT_FALSE(node.proposes_within(seconds(60))) << configured;
  }
}

// Everybody waits for it before a volume goes on.
TEST(MembershipPlan, AMemberThatDoesNotQuiesceForALeaseIsOut) {
  LoneMember node(0);
  node.start();
  node.hear(1);
  node.hear(2).quiesced = 4;
  expect_about(node.proposes_within(seconds(60)), seconds(15));
  const auto wish = node.wish();
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->members(), NodeSet(0b011));
}

// It would hold up the fence of these.
TEST(MembershipPlan, WhoHasNotDroppedWhatFormerMembersHadAskedOfItIsNotAdmitted) {
  LoneMember node(0, 4);
  node.decision.incarnations[2] = 0;
  choose_voters(node.decision, node.decision, node.settings().policy, false);
  node.start();
  node.hear(1);
  node.hear(3);
  node.hear(2, NodeState::joining, 4).quiesced = 4;
  EXPECT_FALSE(node.proposes_within(seconds(60)));
  node.said(2).quiesced = node.decision.epoch;
  expect_about(node.proposes_within(seconds(60)), seconds(1));
}

TEST(MembershipPlan, TheWitnessLosesItsVoteWhenNobodyReachesIt) {
  LoneMember node(0, 4, kDisk);
  node.start();
  node.core().use_witness(LoneMember::kLun);
  for (const NodeId other : {NodeId{1}, NodeId{2}, NodeId{3}}) node.hear(other);
  node.hear(1).heard_disk.add(1);
  EXPECT_TRUE(node.decision.witness_votes);
  EXPECT_FALSE(node.proposes_within(seconds(30)));
  node.witness_answers = false;
  EXPECT_FALSE(node.proposes_within(seconds(30)));  // node 1 reaches it
  node.hear(1);
  expect_about(node.proposes_within(seconds(30)), seconds(1));
  const auto wish = node.wish();
  ASSERT_TRUE(wish);
  EXPECT_FALSE(wish->witness_votes);
  EXPECT_EQ(wish->voters, NodeSet(0b0111));
}

TEST(MembershipPlan, AChangeIsProposedAtOnceByWhomItWasAskedOf) {
  LoneMember node(1);
  node.start();
  node.hear(0);
  node.hear(2);
  node.run(seconds(20));
  const Change change{.kind = Change::Kind::config, .config = {.version = 3}};
  ASSERT_TRUE(node.core().ask(change));
  EXPECT_FALSE(node.core().ask(change));                        // one at a time
  expect_about(node.proposes_within(seconds(60)), seconds(1));  // after node 0's turn
  const auto wish = node.wish();
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->config.version, 3U);
  EXPECT_EQ(wish->members(), NodeSet(0b111));
}

// It was alone, and its ballot found no majority; the others come back as new lives and answer it.
TEST(MembershipPlan, ABallotThatNobodyAnswersDoesNotBringAnOldWish) {
  LoneMember node(0);
  node.start();
  ASSERT_TRUE(node.proposes_within(seconds(60)));
  node.run(seconds(30));
  node.hear(1, NodeState::joining, 2);
  node.hear(2, NodeState::joining, 2);
  node.run(seconds(5));
  const auto wish = node.wish();
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->members(), NodeSet(0b111));
}

TEST(MembershipPlan, ABallotEndsWhenItsNeedIsGone) {
  LoneMember node(0);
  node.start();
  ASSERT_TRUE(node.proposes_within(seconds(60)));
  node.hear(1);
  node.hear(2);
  node.run(seconds(2));
  EXPECT_FALSE(node.proposes_within(seconds(60)));
}

// Such a value keeps all from renewing their leases, and its proposer may be gone.
TEST(MembershipPlan, AValueThatNobodyFinishesIsFinishedByOneAfterTheOther) {
  LoneMember node(1);
  node.start();
  node.hear(0);
  node.hear(2);
  node.run(seconds(20));
  BallotBlock block{.epoch = 6, .mbal = 0x002, .bal = 0x002, .incarnation = 1};
  block.value = node.core().decision();
  block.value.epoch = 6;
  node.core().on_request(
      {.from = 2, .incarnation = 1, .decided = node.core().decision(), .store = block}, node.now());
  expect_about(node.proposes_within(seconds(60)), seconds(3));
  EXPECT_EQ(node.wish(), block.value);
}

// All of the last members are new lives.
class FoundingTest : public testing::Test {
 protected:
  static void begin(LoneMember& node, bool remembers = true) {
    node.settings().incarnation = 2;
    node.start(remembers);
  }
};

TEST_F(FoundingTest, AloneAfterTheOthersHaveHadTheTimeToAppear) {
  LoneMember node(1);
  begin(node);
  expect_about(node.proposes_within(seconds(60)), seconds(10));
  ASSERT_TRUE(node.wish());
  EXPECT_EQ(node.wish()->members(), NodeSet(0b010));
}

TEST_F(FoundingTest, SoonWhenAllAreThereAndOneAfterTheOther) {
  for (const NodeId self : {NodeId{0}, NodeId{2}}) {
    LoneMember node(self);
    begin(node);
    for (NodeId other = 0; other < 3; ++other) {
      if (other != self) node.hear(other, NodeState::joining, 2);
    }
    expect_about(node.proposes_within(seconds(60)), seconds(1 + self));
    EXPECT_EQ(node.wish()->members(), NodeSet(0b111));
  }
}

TEST_F(FoundingTest, WhoHasLostItsStateHasNoTurnButIsTakenIn) {
  LoneMember node(2);
  begin(node);
  node.hear(0, NodeState::joining, 2).remembers = false;
  node.hear(1, NodeState::joining, 2);
  expect_about(node.proposes_within(seconds(60)), seconds(2));
  EXPECT_EQ(node.wish()->members(), NodeSet(0b111));
}

TEST_F(FoundingTest, NotByWhoHasLostItsStateOrIsNotConfigured) {
  LoneMember forgetful(0);
  begin(forgetful, false);
  EXPECT_FALSE(forgetful.proposes_within(seconds(60)));
  LoneMember stranger(0);
  stranger.settings().policy.configured.remove(0);
  begin(stranger);
  EXPECT_FALSE(stranger.proposes_within(seconds(60)));
}

TEST_F(FoundingTest, NotWhileAMemberIsThereOrOneThatKnowsMore) {
  LoneMember node(0);
  begin(node);
  node.hear(1);
  EXPECT_FALSE(node.proposes_within(seconds(60)));
  node.hear(1, NodeState::joining, 2).epoch = 6;
  EXPECT_FALSE(node.proposes_within(seconds(60)));
  node.hear(1, NodeState::joining, 2).remembers = false;
  EXPECT_TRUE(node.proposes_within(seconds(60)));
}

}  // namespace
}  // namespace holdfast::qdisk
