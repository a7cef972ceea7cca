#include "qdisk/config_store.h"

#include "tests/unit/qdisk/config_scene.h"

namespace holdfast::qdisk {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

ConfigTag tag_of(uint64_t version, const std::string& bytes) {
  return make_document(version, bytes).tag;
}

// --- a node that was away

TEST(ConfigStore, ANodeThatWasAwayGetsTheNewestFromTheWitness) {
  ConfigScene scene(3);
  scene.set("one");
  scene.kill(2);
  scene.set(std::string(200'000, '2'));
  scene.isolate(2);
  scene.start(2);
  EXPECT_EQ(scene.node(2).text(), "none") << "it would use an older one";
  scene.run(1s);
  EXPECT_EQ(scene.node(2).text(), std::string(200'000, '2'));
  EXPECT_EQ(scene.node(2).disk.copies[1]->tag, scene.decision.config);
}

TEST(ConfigStore, WithoutAWitnessFromAMember) {
  ConfigScene scene(3, false);
  scene.set("one");
  scene.kill(2);
  scene.set(std::string(kMaxDocumentBytes, '2'));
  scene.start(2);
  scene.run(2s);
  EXPECT_EQ(scene.node(2).text(), std::string(kMaxDocumentBytes, '2'));
  EXPECT_EQ(scene.node(2).disk.copies[1]->tag, scene.decision.config);
}

TEST(ConfigStore, WhoHasItFromBeforeReadsItsOwnFile) {
  ConfigScene scene(2);
  scene.set("one");
  scene.kill(1);
  scene.isolate(1);
  const size_t reads = scene.witness_reads;
  scene.start(1);
  scene.run(100ms);
  EXPECT_EQ(scene.node(1).text(), "one");
  EXPECT_EQ(scene.witness_reads, reads);
}

// As it learns of the decision: the old one is not used from that moment on.
TEST(ConfigStore, ADecisionOnADocumentThatItLacksTakesTheOldOneAway) {
  ConfigScene scene(3, false);
  scene.set("one");
  const ConfigTag next = tag_of(2, "two");
  scene.decide(next);
  EXPECT_EQ(scene.store(1).document(), nullptr);
  EXPECT_EQ(scene.store(1).version(), 2U);
  EXPECT_NE(scene.store(1).missing(), "");
  scene.run(10s);
  EXPECT_EQ(scene.node(1).text(), "none");
  EXPECT_THAT(scene.store(1).missing(), HasSubstr("version 2 is decided"));
  // And then a node comes that has it.
  scene.kill(2);
  scene.node(2).disk.copies[1] = make_document(2, "two");
  scene.start(2);
  scene.run(10s);
  for (NodeId id = 0; id < 3; ++id) EXPECT_EQ(scene.node(id).text(), "two");
  EXPECT_EQ(scene.store(1).missing(), "");
}

TEST(ConfigStore, ANodeThatDoesNotAnswerIsFollowedByTheNext) {
  ConfigScene scene(4, false);
  scene.set("one");
  scene.kill(3);
  scene.set("two");
  scene.isolate(0);
  scene.isolate(1);
  scene.start(3);
  scene.run(2 * ConfigStore::kChunkTries * ConfigStore::kChunkLimit + 1s);
  EXPECT_EQ(scene.node(3).text(), "two");
}

TEST(ConfigStore, ThoseThatAreHeardAreAskedFirst) {
  ConfigScene scene(4, false);
  scene.set("one");
  scene.kill(3);
  scene.set("two");
  scene.kill(0);
  scene.kill(1);
  scene.start(3);
  scene.run(500ms);
  EXPECT_EQ(scene.node(3).text(), "two");
}

TEST(ConfigStore, APartThatWasLostIsAskedForAgain) {
  ConfigScene scene(3, false);
  scene.kill(2);
  const std::string text(kMaxChunkBytes * 3, 'x');
  scene.set(text);
  scene.kill(1);
  scene.start(2);
  bool lost = false;
  size_t parts = 0;
  scene.on_message = [&](const ConfigScene::Sent& each) {
    if (!std::holds_alternative<ConfigFetch>(each.message)) return;
    ++parts;
    if (std::get<ConfigFetch>(each.message).offset != kMaxChunkBytes) return;
    if (!std::exchange(lost, true)) {
      scene.cut.insert({0, 2});
    } else {
      scene.cut.clear();
    }
  };
  scene.run(ConfigStore::kChunkLimit + 1s);
  EXPECT_EQ(scene.node(2).text(), text);
  EXPECT_EQ(parts, 4U) << "only the one that was lost";
}

// --- partition in time: b is away, a changes it and dies, b comes alone

struct PartitionInTime : ConfigScene {
  PartitionInTime() : ConfigScene(2) {
    set("one");
    kill(1);
    set("two");
    kill(0);
    // Alone with the witness it is decided that b goes on.
    decision.incarnations = {};
    decision.incarnations[1] = 2;
    ++decision.epoch;
  }
};

TEST(ConfigStore, WhoComesAloneFindsTheNewestOnTheWitness) {
  PartitionInTime scene;
  scene.start(1);
  scene.run(1s);
  EXPECT_EQ(scene.node(1).text(), "two");
  EXPECT_EQ(scene.set("three", 1).version, 3U);
}

TEST(ConfigStore, WhereItIsGoneTheNodeSaysSoAndProposesNothing) {
  PartitionInTime scene;
  scene.witness[1]->bytes[0] ^= 1;
  scene.start(1);
  scene.run(30s);
  EXPECT_EQ(scene.node(1).text(), "none");
  EXPECT_THAT(scene.store(1).missing(),
              HasSubstr("version 2 is decided, and this node does not have it"));
  EXPECT_THAT(scene.propose(1, "another two", 1)->text, HasSubstr("at version 2 by now"));
  EXPECT_THAT(scene.propose(1, "three", 2)->text, HasSubstr("this node does not have it"));
  EXPECT_EQ(scene.witness[0]->bytes, "one") << "nothing older is written over anything";
  EXPECT_EQ(scene.node(1).disk.copies[0]->bytes, "one");
  // a comes back.
  scene.start(0);
  scene.run(20s);
  EXPECT_EQ(scene.node(1).text(), "two");
  EXPECT_EQ(scene.witness[1]->bytes, "two") << "and the witness was healed";
}

// The decision itself is what b learns late, from the witness' ring.
TEST(ConfigStore, ANodeThatLearnsLateGivesTheOldOneUp) {
  ConfigScene scene(2);
  const ConfigTag one = scene.set("one");
  Decision old = scene.decision;
  scene.kill(1);
  scene.set("two");
  scene.start(1, old);
  scene.node(1).lease = false;
  scene.run(200ms);
  EXPECT_EQ(scene.store(1).document()->tag, one);
  EXPECT_THAT(scene.propose(1, "other two", 1)->text, HasSubstr("not in the quorum"));
  scene.tell();
  scene.run(1s);
  EXPECT_EQ(scene.node(1).text(), "two");
}

// A forced quorum may go back to an earlier one.
TEST(ConfigStore, OnlyWhatIsDecidedCountsNotWhatIsNewer) {
  ConfigScene scene(2);
  scene.set("one");
  scene.set("two");
  scene.decide(tag_of(1, "one"));
  scene.run(1s);
  for (NodeId id = 0; id < 2; ++id) EXPECT_EQ(scene.node(id).text(), "one");
  scene.run(ConfigStore::kHold);
  scene.set("another two");
  EXPECT_EQ(scene.decision.config, tag_of(2, "another two"));
}

TEST(ConfigStore, AnOlderDecisionChangesNothing) {
  ConfigScene scene(2);
  scene.set("one");
  const Decision old = scene.decision;
  scene.set("two");
  scene.store(0).on_decision(old);
  EXPECT_EQ(scene.node(0).text(), "two");
  EXPECT_EQ(scene.store(0).version(), 2U);
}

// What was on its way, or kept for the case that it is decided.
TEST(ConfigStore, WhatCanNotBeDecidedAnyMoreIsDropped) {
  ConfigScene scene(3, false);
  scene.store(2).on_message(0, ConfigOffer{tag_of(1, "x"), 1});
  scene.node(2).disk.copies[1] = make_document(1, "another");
  scene.decide(tag_of(1, "another"));
  scene.store(2).on_message(0, ConfigChunk{tag_of(1, "x"), 1, 0, "x"});
  EXPECT_EQ(scene.node(2).text(), "none");
  scene.run(100ms);
  EXPECT_FALSE(scene.node(2).disk.copies[0].has_value());
  EXPECT_EQ(scene.node(2).text(), "another");

  ConfigScene other(3, false);
  other.decides = false;
  other.propose(0, std::string(100'000, 'x'), 0);
  other.run(500ms);
  EXPECT_GE(other.store(2).bytes_held(), 100'000U);
  other.decide(tag_of(1, "another"));
  EXPECT_LT(other.store(2).bytes_held(), 100U);
}

TEST(ConfigStore, WhatWasNotDecidedLeavesMemoryAfterAWhile) {
  ConfigScene scene(3, false);
  scene.decides = false;
  scene.propose(0, std::string(100'000, 'x'), 0);
  scene.run(ConfigStore::kProposeLimit + ConfigStore::kHold + 1s);
  for (NodeId id = 0; id < 3; ++id) EXPECT_LT(scene.store(id).bytes_held(), 100U);
  // It is decided after all.
  scene.decide(tag_of(1, std::string(100'000, 'x')));
  scene.run(100ms);
  for (NodeId id = 0; id < 3; ++id) EXPECT_EQ(scene.node(id).text(), std::string(100'000, 'x'));
}

TEST(ConfigStore, AfterItsEndNothingComes) {
  ConfigScene scene(2);
  scene.set("one");
  scene.kill(1);
  const int before = scene.node(1).documents;
  scene.start(1);
  scene.store(1).end();
  scene.tell();
  scene.run(1s);
  EXPECT_EQ(scene.node(1).documents, before);
  EXPECT_EQ(scene.node(1).text(), "none");
}

// --- damage and loss

TEST(ConfigStore, ADamagedFileIsReplaced) {
  ConfigScene scene(2);
  scene.set("one");
  scene.kill(1);
  scene.node(1).disk.copies[0]->bytes = "eno";
  scene.node(1).disk.copies[1] = make_document(7, "of a lost minority");
  scene.start(1);
  scene.run(1s);
  EXPECT_EQ(scene.node(1).text(), "one");
}

TEST(ConfigStore, LostCopiesOfAMinorityDoNotMatter) {
  ConfigScene scene(3, false);
  scene.set("one");
  for (const NodeId lost : {NodeId{0}, NodeId{2}}) {
    scene.kill(lost);
    scene.node(lost).disk = {};
    scene.start(lost);
    scene.run(1s);
    EXPECT_EQ(scene.node(lost).text(), "one");
    EXPECT_EQ(scene.node(lost).disk.copies[0]->bytes, "one");
  }
}

TEST(ConfigStore, WhatCannotBeSavedIsUsedAndSaid) {
  ConfigScene scene(2);
  scene.set("one");
  scene.kill(1);
  scene.node(1).disk = {};
  scene.node(1).disk.full = true;
  scene.start(1);
  scene.run(1s);
  EXPECT_EQ(scene.node(1).text(), "one");
  EXPECT_EQ(scene.store(1).problem(), "the disk is full");
  EXPECT_EQ(scene.node(1).disk.saves, 1U) << "it is tried again later";
  scene.node(1).disk.full = false;
  scene.run(ConfigStore::kSavePause + 1s);
  EXPECT_EQ(scene.store(1).problem(), "");
  EXPECT_EQ(scene.node(1).disk.copies[0]->bytes, "one");
}

// --- the witness

TEST(ConfigStore, TheLowestMemberWithALeaseHealsTheWitness) {
  ConfigScene scene(3);
  scene.set("one");
  scene.set("two");
  scene.witness_writes.clear();
  scene.run(11s);
  EXPECT_THAT(scene.witness_writes, IsEmpty()) << "nothing is to be healed";
  scene.witness[1]->bytes = "owt";
  scene.run(11s);
  EXPECT_THAT(scene.witness_writes, testing::ElementsAre(std::pair(NodeId{0}, 1U)));
  EXPECT_EQ(scene.witness[1]->bytes, "two");
  EXPECT_EQ(scene.witness[0]->bytes, "one");
  // Another does it where that one cannot be heard.
  scene.kill(0);
  scene.witness = {};
  scene.run(11s);
  EXPECT_EQ(scene.witness_writes.back().first, 1);
  EXPECT_EQ(scene.witness[0]->bytes, "two");
}

TEST(ConfigStore, WithoutALeaseNothingIsWrittenThere) {
  ConfigScene scene(2);
  scene.set("one");
  scene.witness = {};
  scene.witness_writes.clear();
  scene.node(0).lease = scene.node(1).lease = false;
  scene.run(30s);
  EXPECT_THAT(scene.witness_writes, IsEmpty());
}

TEST(ConfigStore, AWitnessThatCannotBeHealedIsSaid) {
  ConfigScene scene(2);
  scene.set("one");
  scene.witness = {};
  scene.witness_fails = true;
  scene.run(11s);
  EXPECT_THAT(scene.store(0).problem(), HasSubstr("not on the witness: it does not answer"));
  EXPECT_EQ(scene.store(1).problem(), "") << "one of them says so";
  scene.witness_fails = false;
  scene.run(11s);
  EXPECT_EQ(scene.store(0).problem(), "");
}

// Both would go to the copy that is of no use.
TEST(ConfigStore, NothingIsHealedWhileAnotherDocumentIsOnItsWayThere) {
  ConfigScene scene(2);
  scene.set("one");
  scene.decides = false;
  scene.witness = {};
  scene.propose(1, "two", 1);
  scene.run(500ms);
  EXPECT_EQ(scene.witness[0]->bytes, "two");
  scene.witness = {};
  scene.witness_writes.clear();
  scene.run(11s);
  EXPECT_THAT(scene.witness_writes, IsEmpty());
}

TEST(ConfigStore, NothingIsHealedWithWhatIsNotDecidedAnyMore) {
  ConfigScene scene(2);
  scene.set("one");
  scene.witness = {};
  scene.witness_writes.clear();
  const size_t reads = scene.witness_reads;
  ASSERT_TRUE(scene.until([&] { return scene.witness_reads > reads; }));
  scene.decide(tag_of(2, "two"));
  scene.run(1s);
  EXPECT_THAT(scene.witness_writes, IsEmpty());
}

// While it heals, it takes no offer: whoever offers waits for it, and does not write meanwhile.
TEST(ConfigStore, WhileItHealsItTakesNoOffer) {
  ConfigScene scene(2);
  scene.set("one");
  scene.witness = {};
  scene.witness_hangs = true;
  scene.witness_writes.clear();
  ASSERT_TRUE(scene.until([&] { return !scene.witness_writes.empty(); }));
  scene.propose(1, "two", 1);
  scene.run(ConfigStore::kMemberLimit - 100ms);
  EXPECT_FALSE(scene.node(0).disk.copies[1].has_value());
  EXPECT_EQ(scene.witness_writes.size(), 1U);
}

}  // namespace
}  // namespace holdfast::qdisk
