#include "qdisk/plan.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using base::Errc;
using Kind = Change::Kind;

// Three nodes of which each is in its first life, and two volumes, both at node 0.
Situation three() {
  Situation situation;
  situation.policy.configured = NodeSet(0b111);
  situation.witness_usable = true;
  Decision& current = situation.current;
  current = {.epoch = 7, .voters = NodeSet(0b111), .witness = {1}};
  for (NodeId node = 0; node < 3; ++node) {
    current.incarnations[node] = situation.members[node] = 1;
    situation.volumes_ok[node] = 0xffff;
  }
  current.volumes[0] = current.volumes[1] = {.coordinator = 0, .term = 1};
  return situation;
}

TEST(Plan, NothingIsToBeSaidTwice) {
  Situation situation = three();
  EXPECT_FALSE(plan(situation));
  situation.current.forced = true;  // that alone is no need
  EXPECT_FALSE(plan(situation));
}

TEST(Plan, TheNextEpochSaysWhoIsAMemberAndWhoVotes) {
  Situation situation = three();
  situation.current.forced = true;
  situation.members[1] = 0;
  const auto next = plan(situation);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->epoch, 8U);
  EXPECT_FALSE(next->forced);
  EXPECT_EQ(next->members(), NodeSet(0b101));
  EXPECT_EQ(next->voters, NodeSet(0b101));
  EXPECT_TRUE(next->witness_votes);
  EXPECT_EQ(next->volumes, situation.current.volumes);
}

TEST(Plan, AnotherStateOfTheWitnessAloneIsANeed) {
  Situation situation = three();
  situation.members[3] = 1;
  situation.policy.configured.add(3);
  situation.current = *plan(situation);
  EXPECT_TRUE(situation.current.witness_votes);
  EXPECT_FALSE(plan(situation));
  situation.witness_usable = false;
  ASSERT_TRUE(plan(situation));
  EXPECT_FALSE(plan(situation)->witness_votes);
}

TEST(Plan, VolumesOfWhoHasLeftGoToWhoeverReachesThemAndCoordinatesTheFewest) {
  Situation situation = three();
  situation.current.volumes[2] = {.coordinator = 1, .term = 4};
  situation.members[0] = 0;
  auto next = plan(situation);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->volumes[0], (VolumeOwner{.coordinator = 2, .term = 2}));
  EXPECT_EQ(next->volumes[1], (VolumeOwner{.coordinator = 1, .term = 2}));  // both had one
  EXPECT_EQ(next->volumes[2], (VolumeOwner{.coordinator = 1, .term = 4}));

  situation.volumes_ok[2] = 0xffff - 1;  // not volume 0
  next = plan(situation);
  EXPECT_EQ(next->volumes[0].coordinator, 1);
  EXPECT_EQ(next->volumes[1].coordinator, 2);

  situation.volumes_ok = {};  // whom none reaches is coordinated all the same
  EXPECT_EQ(plan(situation)->volumes[0].coordinator, 2);
}

// It knows nothing of what the life before it did.
TEST(Plan, ANewLifeOfACoordinatorBeginsANewTerm) {
  Situation situation = three();
  situation.members = {};
  situation.members[0] = 2;
  const auto next = plan(situation);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->volumes[0], (VolumeOwner{.coordinator = 0, .term = 2}));
  EXPECT_EQ(next->volumes[1], (VolumeOwner{.coordinator = 0, .term = 2}));
}

std::optional<Decision> changed(Situation situation, const Change& change) {
  situation.change = change;
  return plan(situation);
}

TEST(PlanChange, ANewerConfigurationCounts) {
  Situation situation = three();
  situation.current.config = {.version = 5};
  const Change newer{.kind = Kind::config, .config = {.version = 6, .digest = {9}}};
  ASSERT_TRUE(changed(situation, newer));
  EXPECT_EQ(changed(situation, newer)->config, newer.config);
  EXPECT_TRUE(pending(newer, situation.current));
  EXPECT_FALSE(pending(newer, *changed(situation, newer)));
  EXPECT_FALSE(changed(situation, {.kind = Kind::config, .config = {.version = 5}}));
}

TEST(PlanChange, AVolumeIsAddedOnceAndItsPlaceNeverSeesATermTwice) {
  Situation situation = three();
  const Change add{.kind = Kind::add_volume, .volume = 4};
  const Change remove{.kind = Kind::remove_volume, .volume = 4};
  EXPECT_TRUE(pending(add, situation.current));
  EXPECT_FALSE(changed(situation, remove));
  situation.current = *changed(situation, add);
  EXPECT_EQ(situation.current.volumes[4], (VolumeOwner{.coordinator = 1, .term = 1}));
  EXPECT_FALSE(pending(add, situation.current));
  EXPECT_FALSE(changed(situation, add));
  situation.current = *changed(situation, remove);
  EXPECT_EQ(situation.current.volumes[4], (VolumeOwner{.coordinator = kNoNode, .term = 1}));
  EXPECT_FALSE(pending(remove, situation.current));
  situation.current =
      *changed(situation, {.kind = Kind::add_volume, .volume = 4, .coordinator = 2});
  EXPECT_EQ(situation.current.volumes[4], (VolumeOwner{.coordinator = 2, .term = 2}));
}

TEST(PlanChange, WhoIsWantedAsCoordinatorAndIsNoMemberIsReplaced) {
  const Change add{.kind = Kind::add_volume, .volume = 4, .coordinator = 9};
  EXPECT_EQ(changed(three(), add)->volumes[4].coordinator, 1);
}

TEST(PlanChange, AVolumeIsMovedFromWhoHandsItOver) {
  Change move{.kind = Kind::move_volume, .volume = 0, .coordinator = 2, .from = 0};
  EXPECT_EQ(changed(three(), move)->volumes[0], (VolumeOwner{.coordinator = 2, .term = 2}));
  EXPECT_TRUE(pending(move, three().current));
  EXPECT_FALSE(pending(move, *changed(three(), move)));
  move.coordinator = kNoNode;  // whoever suits, but another
  EXPECT_EQ(changed(three(), move)->volumes[0].coordinator, 1);
  move.from = 1;  // which does not coordinate it any more
  EXPECT_FALSE(changed(three(), move));
  EXPECT_FALSE(pending(move, three().current));
}

// A change is asked for until it is fulfilled: each of these epochs would be followed by the next.
TEST(PlanChange, AVolumeIsNotMovedToWhereItIs) {
  Change move{.kind = Kind::move_volume, .volume = 0, .coordinator = 0, .from = 0};
  EXPECT_FALSE(changed(three(), move));
  EXPECT_FALSE(possible(move, three().current));
  Situation alone = three();
  alone.current.incarnations = alone.members = {1};
  alone.policy.configured = alone.current.voters = NodeSet(1);
  move.coordinator = kNoNode;
  EXPECT_FALSE(changed(alone, move));
  EXPECT_TRUE(possible(move, alone.current));  // as soon as there is another member
}

TEST(PlanChange, AnotherWitnessIsNamed) {
  const Change use{.kind = Kind::use_witness, .witness = {2}};
  EXPECT_TRUE(pending(use, three().current));
  const auto next = changed(three(), use);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->witness, Uuid{2});
  EXPECT_FALSE(pending(use, *next));
}

TEST(PlanChange, AnEvictedLifeIsLeftOutAndItsVolumesAreGivenAway) {
  const Change evict{.kind = Kind::evict, .life = {0, 1}};
  EXPECT_TRUE(pending(evict, three().current));
  const auto next = changed(three(), evict);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->members(), NodeSet(0b110));
  EXPECT_EQ(next->voters, NodeSet(0b110));
  EXPECT_EQ(next->volumes[0].coordinator, 1U);
  EXPECT_EQ(next->volumes[0].term, 2U);
  EXPECT_FALSE(pending(evict, *next));
  EXPECT_FALSE(pending({.kind = Kind::evict, .life = {0, 2}}, three().current));
}

TEST(PlanChange, WhatCannotBeIsRefused) {
  const Decision current = three().current;
  const auto code = [&](const Change& change) {
    const auto result = possible(change, current);
    return result ? Errc{} : result.error().code;
  };
  EXPECT_EQ(code({.kind = Kind::add_volume, .volume = 2}), Errc{});
  EXPECT_EQ(code({.kind = Kind::add_volume, .volume = 0}), Errc::exists);
  EXPECT_EQ(code({.kind = Kind::add_volume, .volume = 16}), Errc::invalid_argument);
  EXPECT_EQ(code({.kind = Kind::add_volume, .volume = 2, .coordinator = 3}),
            Errc::invalid_argument);
  EXPECT_EQ(code({.kind = Kind::remove_volume, .volume = 2}), Errc::not_found);
  EXPECT_EQ(code({.kind = Kind::remove_volume, .volume = 16}), Errc::invalid_argument);
  EXPECT_EQ(code({.kind = Kind::move_volume, .volume = 2, .from = 0}), Errc::not_found);
  EXPECT_EQ(code({.kind = Kind::config, .config = {.version = 0}}), Errc::invalid_argument);
  EXPECT_EQ(code({.kind = Kind::use_witness, .witness = {2}}), Errc{});
  EXPECT_EQ(code({.kind = Kind::evict, .life = {2, 1}}), Errc{});
  EXPECT_EQ(code({.kind = Kind::evict, .life = {2, 2}}), Errc::not_found);
  EXPECT_EQ(code({.kind = Kind::evict, .life = {64, 1}}), Errc::not_found);
}

}  // namespace
}  // namespace holdfast::qdisk
