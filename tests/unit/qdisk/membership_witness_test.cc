// Moments in which the witness is not what it was.

#include <gmock/gmock.h>

#include "tests/unit/qdisk/cluster_scene.h"

namespace holdfast::qdisk {
namespace {

using std::chrono::seconds;

Decision of_two(Epoch epoch, Uuid witness) {
  Decision decision{.epoch = epoch, .voters = NodeSet(0b11), .witness_votes = true};
  decision.witness = witness;
  decision.incarnations[0] = decision.incarnations[1] = 1;
  return decision;
}

// Epoch 2 names another LUN; epoch 3, decided by node 1 and that LUN, leaves node 0 out. Node 0 has
// asked the old LUN meanwhile, and reads there of epoch 2 for the first time.
TEST(MembershipWitness, AnOldWitnessThatNamesTheNewOneDoesNotVouchForIt) {
  base::SeededRandom random(1);
  const io::Instant now{seconds(1000)};
  const MembershipSettings settings{.self = 0, .policy = {.configured = NodeSet(0b11)}};
  Membership node(settings, {.decided = of_two(1, kWitnessUuid)}, true, 0, random, now);
  node.use_witness(kWitnessUuid);
  ASSERT_TRUE(node.on_tick(now).witness);
  ASSERT_TRUE(
      node.on_witness({.ok = true, .decided = of_two(1, kWitnessUuid)}, now).messages.empty());
  EXPECT_TRUE(node.lease_valid(now));  // the witness and itself

  const io::Instant later = now + seconds(5);
  ASSERT_TRUE(node.on_tick(later).witness);
  ASSERT_TRUE(node.on_witness({.ok = true, .decided = of_two(2, kOtherWitness)}, later).decided);
  node.on_tick(later);
  EXPECT_EQ(node.decision().epoch, 2U);
  EXPECT_FALSE(node.confirmed_at());
  EXPECT_EQ(node.lease_until(), now + Timers{}.lease);
}

// The reading took 3 s: what was read may be as old as its beginning.
TEST(MembershipWitness, ALeaseCountsFromBeforeTheTaskBegan) {
  base::SeededRandom random(1);
  const io::Instant now{seconds(1000)};
  const MembershipSettings settings{.self = 0, .policy = {.configured = NodeSet(0b11)}};
  Membership node(settings, {.decided = of_two(1, kWitnessUuid)}, true, 0, random, now);
  node.use_witness(kWitnessUuid);
  ASSERT_TRUE(node.on_tick(now).witness);
  node.on_tick(now + seconds(3));
  node.on_witness({.ok = true, .decided = of_two(1, kWitnessUuid)}, now + seconds(3));
  EXPECT_EQ(node.lease_until(), now + Timers{}.lease);
}

// The LUN was taken away and given back while a task was under way: whose answer it is is not
// known.
TEST(MembershipWitness, ATaskThatBeganBeforeAChangeOfTheWitnessTellsNothing) {
  base::SeededRandom random(1);
  const io::Instant now{seconds(1000)};
  const MembershipSettings settings{.self = 0, .policy = {.configured = NodeSet(0b11)}};
  Membership node(settings, {.decided = of_two(1, kWitnessUuid)}, true, 0, random, now);
  node.use_witness(kWitnessUuid);
  ASSERT_TRUE(node.on_tick(now).witness);
  node.use_witness(std::nullopt);
  node.use_witness(kWitnessUuid);
  node.on_witness({.ok = true, .decided = of_two(1, kWitnessUuid)}, now);
  EXPECT_FALSE(node.lease_until());
}

TEST(MembershipWitness, AnotherLunTakesOverItsVote) {
  ClusterScene scene(2, QuorumMode::node_and_disk_majority);
  scene.run(seconds(5));
  ASSERT_TRUE(scene.core(0).ask({.kind = Change::Kind::use_witness, .witness = kOtherWitness}));
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().witness == kOtherWitness; }, seconds(5)));
  scene.run(seconds(5));
  scene.crash(1);
  ASSERT_TRUE(scene.run_until([&] { return scene.newest().members().count() == 1; }, seconds(25)));
  scene.run(seconds(40));
  EXPECT_EQ(scene.leased(), std::vector<NodeId>{0});
  EXPECT_EQ(scene.breach(), "");
}

}  // namespace
}  // namespace holdfast::qdisk
