// A change of the configuration, from propose() to the decision.

#include "tests/unit/qdisk/config_scene.h"

namespace holdfast::qdisk {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Outcome = std::shared_ptr<ConfigScene::Outcome>;

bool ended(ConfigScene& scene, const Outcome& outcome) {
  return scene.until([&] { return !outcome->waits(); });
}

// --- what happens

TEST(ConfigPropose, AllHaveWhatIsDecidedAlsoTheirDisksAndTheWitness) {
  ConfigScene scene(2);
  EXPECT_EQ(scene.store(0).document(), nullptr);
  EXPECT_EQ(scene.store(0).missing(), "");
  const std::string text(100'000, 'x');
  const ConfigTag tag = scene.set(text);
  EXPECT_EQ(tag, make_document(1, text).tag);
  const ConfigDocument document = make_document(1, text);
  for (NodeId id = 0; id < 2; ++id) {
    ASSERT_NE(scene.store(id).document(), nullptr);
    EXPECT_EQ(*scene.store(id).document(), document);
    EXPECT_EQ(scene.node(id).disk.copies[0], document);
    EXPECT_EQ(scene.node(id).disk.saves, 1U);
    EXPECT_EQ(scene.node(id).documents, 1);
  }
  EXPECT_EQ(scene.witness[0], document);
  EXPECT_THAT(scene.node(0).asked,
              testing::ElementsAre(Change{.kind = Change::Kind::config, .config = tag}));
}

TEST(ConfigPropose, OneAfterTheOtherTakesTheCopiesInTurn) {
  ConfigScene scene(3);
  for (int version = 1; version <= 5; ++version) {
    scene.set(std::string(static_cast<size_t>(version) * 40'000, 'x'));
    const auto copy = static_cast<size_t>(version - 1) % 2;
    EXPECT_EQ(scene.witness[copy]->tag, scene.decision.config);
    for (NodeId id = 0; id < 3; ++id) {
      EXPECT_EQ(scene.node(id).disk.copies[copy]->tag, scene.decision.config);
      EXPECT_EQ(scene.store(id).version(), static_cast<uint64_t>(version));
    }
  }
}

TEST(ConfigPropose, ALoneMemberAsksAtOnce) {
  ConfigScene scene(1);
  const io::Instant before = scene.now;
  scene.set("alone");
  EXPECT_LT(scene.now - before, 1s);
  EXPECT_EQ(scene.witness[0]->bytes, "alone");
}

TEST(ConfigPropose, WithoutAWitnessTheNodesAreEnough) {
  ConfigScene scene(3, false);
  scene.set("three");
  EXPECT_EQ(scene.node(2).text(), "three");
  EXPECT_THAT(scene.witness_writes, IsEmpty());
}

// --- when it may ask for the decision

TEST(ConfigPropose, ItAsksOnlyWhenAMajorityOfTheVotersHasIt) {
  ConfigScene scene(5, false);
  scene.isolate(2);
  scene.isolate(3);
  scene.isolate(4);
  const Outcome outcome = scene.propose(0, "five", 0);
  scene.run(9s);
  EXPECT_THAT(scene.node(0).asked, IsEmpty()) << "two of five have it";
  scene.isolate(4, false);
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_EQ(outcome->text, "done");
  EXPECT_EQ(scene.node(0).asked.size(), 1U);
}

TEST(ConfigPropose, ANodeThatDoesNotVoteIsNotCounted) {
  ConfigScene scene(3, false);
  scene.decision.voters = NodeSet(0b011);
  ++scene.decision.epoch;
  scene.tell();
  scene.isolate(1);
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.run(9s);
  EXPECT_EQ(scene.node(2).disk.copies[0]->bytes, "x") << "it is offered to all members";
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_THAT(outcome->text, HasSubstr("not decided within 10 s; without it: node 1"));
}

TEST(ConfigPropose, AVoterThatIsNoMemberCountsAndIsOfferedIt) {
  ConfigScene scene(2, false);
  scene.decision.incarnations[1] = 0;
  ++scene.decision.epoch;
  scene.tell();
  const Outcome outcome = scene.propose(0, "x", 0);
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_EQ(outcome->text, "done");
  EXPECT_EQ(scene.node(1).text(), "x");
}

// A Have that comes twice, or from a stranger.
TEST(ConfigPropose, EachVoteCountsOnce) {
  ConfigScene scene(5, false);
  for (NodeId id = 2; id < 5; ++id) scene.kill(id);
  scene.propose(0, "x", 0);
  scene.run(4s);
  const ConfigTag tag = make_document(1, "x").tag;
  for (const NodeId from : {NodeId{1}, NodeId{1}, NodeId{0}, NodeId{9}, NodeId{63}}) {
    scene.store(0).on_message(from, ConfigHave{tag});
  }
  scene.store(0).on_message(2, ConfigHave{make_document(1, "y").tag});
  scene.run(1s);
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  scene.store(0).on_message(2, ConfigHave{tag});
  EXPECT_EQ(scene.node(0).asked.size(), 1U);
  scene.run(1s);
}

TEST(ConfigPropose, TheWitnessCountsWhenItVotesAndItsWriteHasEnded) {
  ConfigScene scene(2);
  scene.kill(1);
  scene.witness_fails = true;
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.run(5s);
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  scene.witness_fails = false;
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_EQ(outcome->text, "done");
}

TEST(ConfigPropose, AWitnessThatDoesNotVoteIsWrittenToButNotCounted) {
  ConfigScene scene(3);
  scene.kill(1);
  scene.kill(2);
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.run(9s);
  EXPECT_EQ(scene.witness[0]->bytes, "x");
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_THAT(outcome->text, HasSubstr("without it: node 1, node 2"));
}

TEST(ConfigPropose, AnotherWitnessHasToHaveItToo) {
  ConfigScene scene(2);
  scene.kill(1);
  const Outcome outcome = scene.propose(0, "x", 0);
  ASSERT_TRUE(scene.until([&] { return scene.witness_reads > 0; }));
  scene.store(0).use_witness(nullptr);
  scene.run(2s);
  EXPECT_THAT(scene.witness_writes, IsEmpty());
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  scene.store(0).use_witness(&scene.node(0));
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_EQ(outcome->text, "done");
}

TEST(ConfigPropose, AMemberThatIsHeardIsWaitedForAndNotForLong) {
  ConfigScene scene(3, false);
  scene.node(2).disk.hangs = true;
  const io::Instant before = scene.now;
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.run(ConfigStore::kMemberLimit - 200ms);
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_EQ(outcome->text, "done");
  EXPECT_LT(scene.now - before, ConfigStore::kMemberLimit + 500ms);
  EXPECT_EQ(scene.node(2).text(), "x") << "it has it in memory";
}

TEST(ConfigPropose, ItsOwnCopyIsDurableBeforeItAsks) {
  ConfigScene scene(3, false);
  scene.node(0).disk.hangs = true;
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.run(9s);
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  ASSERT_TRUE(ended(scene, outcome));
}

TEST(ConfigPropose, AFullDiskEndsIt) {
  ConfigScene scene(3, false);
  scene.set("one");
  scene.node(0).disk.full = true;
  const Outcome outcome = scene.propose(0, "two", 1);
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_EQ(outcome->text, "the disk is full");
  EXPECT_EQ(scene.node(0).text(), "one");
  scene.node(0).disk.full = false;
  const Outcome again = scene.propose(0, "three", 1);
  ASSERT_TRUE(ended(scene, again));
  EXPECT_EQ(again->text, "done");
}

TEST(ConfigPropose, AFullDiskOfAnotherIsNoVote) {
  ConfigScene scene(3, false);
  scene.node(1).disk.full = scene.node(2).disk.full = true;
  const Outcome outcome = scene.propose(0, "x", 0);
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_THAT(outcome->text, HasSubstr("without it: node 1, node 2"));
}

TEST(ConfigPropose, WhileAnotherChangeWaitsItAsksAgain) {
  ConfigScene scene(3);
  scene.node(0).ask_error = base::fail(base::Errc::busy, "another waits").error();
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.run(5s);
  EXPECT_TRUE(outcome->waits());
  scene.node(0).ask_error.reset();
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_EQ(outcome->text, "done");
  scene.node(0).ask_error = base::fail(base::Errc::invalid_argument, "impossible").error();
  const Outcome refused = scene.propose(0, "y", 1);
  ASSERT_TRUE(ended(scene, refused));
  EXPECT_EQ(refused->text, "impossible");
}

// --- what is refused

TEST(ConfigPropose, OnlyByAMemberWithALease) {
  ConfigScene scene(2);
  scene.node(0).lease = false;
  EXPECT_THAT(scene.propose(0, "x", 0)->text, HasSubstr("refused: this node is not in the quorum"));
}

TEST(ConfigPropose, ALeaseThatEndsMeanwhileEndsIt) {
  ConfigScene scene(3);
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.node(0).lease = false;
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_THAT(outcome->text, HasSubstr("not in the quorum any more"));
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
}

TEST(ConfigPropose, AnotherVersionThanTheDecidedIsAnError) {
  ConfigScene scene(2);
  scene.set("one");
  for (const uint64_t expected : {0U, 2U}) {
    EXPECT_THAT(scene.propose(0, "x", expected)->text,
                HasSubstr("the configuration is at version 1 by now"));
  }
}

TEST(ConfigPropose, LengthsThatNoDocumentHas) {
  ConfigScene scene(1);
  EXPECT_THAT(scene.propose(0, "", 0)->text, HasSubstr("1 to 1048576 bytes"));
  EXPECT_THAT(scene.propose(0, std::string(kMaxDocumentBytes + 1, 'x'), 0)->text,
              HasSubstr("1 to 1048576 bytes"));
  scene.set(std::string(kMaxDocumentBytes, 'x'));
}

TEST(ConfigPropose, OneAtATime) {
  ConfigScene scene(3);
  const Outcome first = scene.propose(0, "first", 0);
  EXPECT_THAT(scene.propose(0, "second", 0)->text, HasSubstr("another change"));
  ASSERT_TRUE(ended(scene, first));
  EXPECT_EQ(first->text, "done");
}

// --- two at once

TEST(ConfigPropose, OfTwoAtTheSameTimeOneGetsTheError) {
  for (const size_t count : {2U, 3U}) {
    ConfigScene scene(count);
    const Outcome a = scene.propose(0, "of a", 0);
    const Outcome b = scene.propose(1, "of b", 0);
    ASSERT_TRUE(ended(scene, a) && ended(scene, b));
    scene.run(5s);
    EXPECT_EQ(a->text, "done");
    EXPECT_THAT(b->text, HasSubstr("node 0 changes the configuration at the same time"));
    for (NodeId id = 0; id < count; ++id) EXPECT_EQ(scene.node(id).text(), "of a");
    for (const auto& [node, copy] : scene.witness_writes) EXPECT_EQ(node, 0);
    EXPECT_EQ(scene.witness[0]->bytes, "of a");
  }
}

TEST(ConfigPropose, WhoHasSaidToHaveOneTakesNoOtherOfThatVersion) {
  ConfigScene scene(3);
  scene.decides = false;
  const Outcome b = scene.propose(1, "of b", 0);
  scene.run(500ms);
  EXPECT_THAT(scene.propose(0, "of a", 0)->text,
              HasSubstr("refused: node 1 changes the configuration at the same time"));
  // One that does not hear of it.
  scene.sent.clear();
  scene.store(2).on_message(0, ConfigOffer{make_document(1, "of a").tag, 4});
  EXPECT_THAT(scene.sent, IsEmpty());
  scene.run(1s);
  EXPECT_EQ(scene.node(2).disk.copies[0]->bytes, "of b");
  scene.decide(make_document(1, "of b").tag);
  ASSERT_TRUE(ended(scene, b));
  EXPECT_EQ(b->text, "done");
}

TEST(ConfigPropose, OneWhoseBallotHasBegunMakesNoWay) {
  ConfigScene scene(3);
  scene.decides = false;
  const Outcome b = scene.propose(1, "of b", 0);
  scene.run(500ms);
  EXPECT_EQ(scene.node(1).asked.size(), 1U);
  scene.store(1).on_message(0, ConfigOffer{make_document(1, "of a").tag, 4});
  EXPECT_TRUE(b->waits());
  scene.decide(make_document(1, "of b").tag);
  EXPECT_EQ(b->text, "done");
}

TEST(ConfigPropose, WhoHasItIsNotOfferedItAgain) {
  ConfigScene scene(3);
  scene.decides = false;
  size_t offers = 0;
  scene.on_message = [&](const ConfigScene::Sent& each) {
    if (std::holds_alternative<ConfigOffer>(each.message)) ++offers;
  };
  scene.propose(0, "x", 0);
  scene.run(9s);
  EXPECT_EQ(offers, 2U);
}

// Its ballot may be finished by others: the document must be there then.
TEST(ConfigPropose, WhatWasOfferedIsKeptForAWhileAfterItsProposerHasDied) {
  ConfigScene scene(3);
  scene.decides = false;
  scene.propose(0, "of a", 0);
  scene.run(500ms);
  scene.kill(0);
  EXPECT_THAT(scene.propose(1, "of b", 0)->text, HasSubstr("node 0 changes"));
  scene.run(ConfigStore::kHold - 2s);
  EXPECT_THAT(scene.propose(1, "of b", 0)->text, HasSubstr("node 0 changes"));
  scene.run(3s);
  scene.decides = true;
  const Outcome b = scene.propose(1, "of b", 0);
  ASSERT_TRUE(ended(scene, b));
  EXPECT_EQ(b->text, "done");
  EXPECT_EQ(scene.node(2).text(), "of b");
}

TEST(ConfigPropose, AlsoWhenTheHoldersDaemonWasRestartedMeanwhile) {
  ConfigScene scene(3);
  scene.decides = false;
  scene.propose(0, "of a", 0);
  scene.run(500ms);
  scene.kill(0);
  scene.kill(1);
  scene.start(1);
  scene.run(1s);
  EXPECT_THAT(scene.propose(1, "of b", 0)->text, HasSubstr("may still be decided"));
  scene.store(1).on_message(2, ConfigOffer{make_document(1, "of a").tag, 4});
  EXPECT_THAT(scene.propose(1, "of b", 0)->text, HasSubstr("node 2 changes"));
  scene.decide(make_document(1, "of a").tag);
  EXPECT_EQ(scene.node(1).text(), "of a");
}

TEST(ConfigPropose, ADecisionOnAnotherOneEndsIt) {
  ConfigScene scene(3);
  scene.decides = false;
  const Outcome outcome = scene.propose(0, "of a", 0);
  scene.run(500ms);
  EXPECT_EQ(scene.node(0).asked.size(), 1U);
  scene.decide(make_document(1, "of another").tag);
  EXPECT_THAT(outcome->text, HasSubstr("the configuration is at version 1 by now"));
  EXPECT_EQ(scene.node(0).forgotten, 1);
  EXPECT_EQ(scene.node(0).text(), "none");
  EXPECT_THAT(scene.store(0).missing(), HasSubstr("version 1"));
}

TEST(ConfigPropose, ADecisionAboutSomethingElseDoesNotEndIt) {
  ConfigScene scene(3);
  scene.decides = false;
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.run(500ms);
  scene.decide(scene.decision.config);
  EXPECT_TRUE(outcome->waits());
  scene.decide(make_document(1, "x").tag);
  EXPECT_EQ(outcome->text, "done");
}

// --- its end

TEST(ConfigPropose, ItsDeadlineSaysThatItMayStillBeDecided) {
  ConfigScene scene(3);
  scene.decides = false;
  const io::Instant before = scene.now;
  const Outcome outcome = scene.propose(0, "x", 0);
  ASSERT_TRUE(ended(scene, outcome));
  EXPECT_GE(scene.now - before, ConfigStore::kProposeLimit);
  EXPECT_LE(scene.now - before, ConfigStore::kProposeLimit + 200ms);
  EXPECT_THAT(outcome->text, HasSubstr("may still be decided"));
  EXPECT_EQ(scene.node(0).forgotten, 1);
  EXPECT_THAT(scene.propose(0, "y", 0)->text, HasSubstr("may still be decided: try again in"));
  // It was.
  scene.decide(make_document(1, "x").tag);
  EXPECT_EQ(scene.node(0).text(), "x");
  scene.decides = true;
  scene.set("two");
}

TEST(ConfigPropose, TheEndOfThisLifeAnswersIt) {
  ConfigScene scene(3);
  const Outcome outcome = scene.propose(0, "x", 0);
  scene.store(0).end();
  EXPECT_THAT(outcome->text, HasSubstr("has left the cluster"));
  scene.run(2s);
  EXPECT_THAT(scene.node(0).asked, IsEmpty());
  EXPECT_THAT(scene.propose(0, "x", 0)->text, HasSubstr("not running"));
}

// What answers after its end finds nobody.
TEST(ConfigPropose, AStoreThatIsGoneHearsNothing) {
  ConfigScene scene(2);
  scene.propose(0, "x", 0);
  scene.run(30ms);
  scene.kill(0);
  scene.run(5s);
}

}  // namespace
}  // namespace holdfast::qdisk
