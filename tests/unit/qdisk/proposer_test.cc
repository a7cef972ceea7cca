#include "qdisk/proposer.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using State = Proposer::State;

Decision three(Epoch epoch = 1, uint64_t version = 0) {
  Decision decision{.epoch = epoch, .voters = NodeSet(0b111), .config = {.version = version}};
  decision.incarnations[0] = decision.incarnations[1] = decision.incarnations[2] = 1;
  return decision;
}

// Node 0 wishes version 9; what another node has proposed is version 5.
class ProposerTest : public testing::Test {
 protected:
  void begin(const BallotBlock& own = {}) { proposer_.begin(three(), own, three(2, 9)); }
  Reply shows(std::vector<NodeBlock> blocks) {
    blocks.push_back({.node = 0, .block = proposer_.block()});
    return {.decided = three(), .blocks = std::move(blocks)};
  }
  static NodeBlock other(NodeId node, Ballot mbal, Ballot bal = 0, uint64_t version = 5) {
    return {.node = node,
            .block = {.epoch = 2, .mbal = mbal, .bal = bal, .value = three(2, version)}};
  }

  Proposer proposer_{0, 1};
};

TEST_F(ProposerTest, AMajorityTwiceDecidesTheWish) {
  begin();
  EXPECT_EQ(proposer_.block().mbal, 0x100U);
  EXPECT_EQ(proposer_.block().bal, 0U);
  EXPECT_EQ(proposer_.on_reply(0, shows({})), State::phase1);
  EXPECT_EQ(proposer_.on_reply(2, shows({})), State::phase2);
  EXPECT_EQ(proposer_.block().bal, 0x100U);
  EXPECT_EQ(proposer_.value(), three(2, 9));
  EXPECT_FALSE(proposer_.has_answered(2));
  EXPECT_EQ(proposer_.on_reply(2, shows({})), State::phase2);
  EXPECT_TRUE(proposer_.has_answered(2));
  EXPECT_EQ(proposer_.on_reply(1, shows({})), State::decided);
}

TEST_F(ProposerTest, TheSameAcceptorTwiceIsNoMajority) {
  begin();
  proposer_.on_reply(1, shows({}));
  EXPECT_EQ(proposer_.on_reply(1, shows({})), State::phase1);
}

TEST_F(ProposerTest, OnlyVotersDecide) {
  begin();
  proposer_.on_reply(1, shows({}));
  EXPECT_EQ(proposer_.on_reply(5, shows({})), State::phase1);
  EXPECT_EQ(proposer_.on_reply(kWitness, shows({})), State::phase1);
}

TEST_F(ProposerTest, TheWitnessIsOneVoterMore) {
  Decision current = three();
  current.voters = NodeSet(0b11);
  current.witness_votes = true;
  proposer_.begin(current, {}, three(2, 9));
  proposer_.on_reply(kWitness, shows({}));
  EXPECT_TRUE(proposer_.has_answered(kWitness));
  EXPECT_EQ(proposer_.on_reply(0, shows({})), State::phase2);
}

TEST_F(ProposerTest, AReplyThatDoesNotShowThisVeryBlockDoesNotCount) {
  begin();
  proposer_.on_reply(0, shows({}));
  const Reply of_phase1 = shows({});
  EXPECT_EQ(proposer_.on_reply(1, {.decided = three()}), State::phase1);
  EXPECT_EQ(proposer_.on_reply(1, of_phase1), State::phase2);
  proposer_.on_reply(0, of_phase1);
  EXPECT_EQ(proposer_.on_reply(1, of_phase1), State::phase2);
  EXPECT_FALSE(proposer_.has_answered(0));
}

TEST_F(ProposerTest, WhoDoesNotRememberDoesNotCount) {
  begin();
  Reply reply = shows({});
  reply.remembers = false;
  proposer_.on_reply(1, reply);
  EXPECT_EQ(proposer_.on_reply(2, reply), State::phase1);
}

TEST_F(ProposerTest, AGreaterBallotBeatsAndTheNextOneIsAboveIt) {
  begin();
  EXPECT_EQ(proposer_.on_reply(1, shows({other(2, 0x702)})), State::beaten);
  EXPECT_FALSE(proposer_.running());
  begin(proposer_.block());
  EXPECT_EQ(proposer_.block().mbal, 0x800U);
}

TEST_F(ProposerTest, AGreaterBallotBeatsInTheSecondPhaseToo) {
  begin();
  proposer_.on_reply(0, shows({}));
  proposer_.on_reply(1, shows({}));
  EXPECT_EQ(proposer_.on_reply(1, shows({other(1, 0x101)})), State::beaten);
}

TEST_F(ProposerTest, ASmallerBallotWithoutAValueHindersNothing) {
  begin({.epoch = 2, .mbal = 0x200});
  proposer_.on_reply(0, shows({other(2, 0x102)}));
  EXPECT_EQ(proposer_.on_reply(1, shows({other(2, 0x102)})), State::phase2);
  EXPECT_EQ(proposer_.value(), three(2, 9));
}

TEST_F(ProposerTest, OfValuesThatMayBeChosenTheOneOfTheGreatestBallotIsProposed) {
  begin({.epoch = 2, .mbal = 0x600});
  proposer_.on_reply(0, shows({other(1, 0x501, 0x301, 5)}));
  proposer_.on_reply(2, shows({other(2, 0x402, 0x402, 6), other(1, 0x201, 0x201, 7)}));
  EXPECT_EQ(proposer_.state(), State::phase2);
  EXPECT_EQ(proposer_.value(), three(2, 6));
  EXPECT_EQ(proposer_.block().bal, 0x700U);
}

TEST_F(ProposerTest, WhatItOnceProposedItselfIsNotForgotten) {
  begin({.epoch = 2, .mbal = 0x400, .bal = 0x300, .value = three(2, 4)});
  EXPECT_EQ(proposer_.block().mbal, 0x500U);
  EXPECT_EQ(proposer_.block().bal, 0x300U);  // until a new value is proposed
  proposer_.on_reply(0, shows({other(1, 0x201, 0x201)}));
  proposer_.on_reply(1, shows({}));
  EXPECT_EQ(proposer_.value(), three(2, 4));
}

TEST_F(ProposerTest, ItsBlockOfAnotherEpochIsEmpty) {
  begin({.epoch = 1, .mbal = 0x400, .bal = 0x400, .value = three(1, 4)});
  EXPECT_EQ(proposer_.block().mbal, 0x100U);
  EXPECT_EQ(proposer_.block().bal, 0U);
}

TEST_F(ProposerTest, BlocksOfEarlierEpochsAreEmpty) {
  begin();
  NodeBlock old = other(1, 0x901, 0x901);
  old.block.epoch = 1;
  proposer_.on_reply(0, shows({old}));
  EXPECT_EQ(proposer_.on_reply(1, shows({old})), State::phase2);
  EXPECT_EQ(proposer_.value(), three(2, 9));
}

// The value that node 1 had proposed here, and that a majority may have taken, is not to be seen
// any more where its block of the epoch after this one is.
TEST_F(ProposerTest, WhereABlockOfALaterEpochIsThisOneHasBeenDecided) {
  begin();
  proposer_.on_reply(0, shows({}));
  NodeBlock later = other(1, 0x101);
  later.block.epoch = 3;
  EXPECT_EQ(proposer_.on_reply(kWitness, shows({later})), State::phase1);
  EXPECT_EQ(proposer_.on_reply(2, shows({later})), State::phase1);
  EXPECT_FALSE(proposer_.has_answered(2));
  EXPECT_EQ(proposer_.on_reply(2, shows({})), State::phase2);
}

TEST_F(ProposerTest, WhatComesAfterItHasGivenUpChangesNothing) {
  begin();
  proposer_.give_up();
  EXPECT_EQ(proposer_.on_reply(1, shows({})), State::idle);
  EXPECT_EQ(proposer_.on_reply(2, shows({})), State::idle);
}

}  // namespace
}  // namespace holdfast::qdisk
