#include "qdisk/acceptor.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

Decision three(Epoch epoch = 1) {
  Decision decision{.epoch = epoch, .voters = NodeSet(0b111)};
  decision.incarnations[0] = decision.incarnations[1] = decision.incarnations[2] = 1;
  return decision;
}

Acceptor second_of_three(bool remembers = true) { return {{.decided = three()}, 1, 1, remembers}; }

BallotBlock block(Ballot mbal, Ballot bal = 0, Incarnation incarnation = 1) {
  return {.epoch = 2, .mbal = mbal, .bal = bal, .incarnation = incarnation, .value = three(2)};
}

TEST(Acceptor, LearnsOnlyWhatIsNewer) {
  Acceptor acceptor = second_of_three();
  EXPECT_FALSE(acceptor.learn(three()));
  EXPECT_FALSE(acceptor.learn(Decision{}));
  EXPECT_TRUE(acceptor.learn(three(5)));
  EXPECT_EQ(acceptor.decided().epoch, 5U);
  EXPECT_FALSE(acceptor.learn(three(4)));
}

TEST(AcceptorDeathTest, TwoValuesOfOneEpochEndTheProcess) {
  Acceptor acceptor = second_of_three();
  Decision other = three();
  other.incarnations[2] = 0;
  EXPECT_DEATH(acceptor.learn(other), "");
}

TEST(Acceptor, ABlockIsReplacedByALaterOneOnly) {
  Acceptor acceptor = second_of_three();
  EXPECT_TRUE(acceptor.store(0, block(0x200)));
  EXPECT_FALSE(acceptor.store(0, block(0x200)));         // twice
  EXPECT_FALSE(acceptor.store(0, block(0x100, 0x100)));  // late
  EXPECT_TRUE(acceptor.store(0, block(0x200, 0x200)));   // the same ballot's second phase
  EXPECT_FALSE(acceptor.store(0, block(0x200)));
  EXPECT_TRUE(acceptor.store(0, block(0x300, 0x200)));
  EXPECT_TRUE(acceptor.store(2, block(0x102)));  // each node has its own
  EXPECT_EQ(acceptor.block(0), block(0x300, 0x200));
  EXPECT_EQ(acceptor.block(2), block(0x102));
}

TEST(Acceptor, ABlockOfAnEarlierLifeIsTooLate) {
  Acceptor acceptor = second_of_three();
  EXPECT_TRUE(acceptor.store(0, block(0x200, 0, 2)));
  EXPECT_FALSE(acceptor.store(0, block(0x300, 0x300, 1)));
  EXPECT_TRUE(acceptor.store(0, block(0x300, 0, 3)));
}

TEST(Acceptor, OnlyTheNextEpochIsBeingDecided) {
  Acceptor acceptor = second_of_three();
  BallotBlock other = block(0x100);
  for (const Epoch epoch : {Epoch{0}, Epoch{1}, Epoch{3}}) {
    other.epoch = epoch;
    EXPECT_FALSE(acceptor.store(0, other)) << epoch;
  }
  EXPECT_THAT(acceptor.reply({}).blocks, IsEmpty());
}

TEST(Acceptor, BlocksEndWithTheirEpoch) {
  Acceptor acceptor = second_of_three();
  ASSERT_TRUE(acceptor.store(0, block(0x900, 0x900)));
  ASSERT_TRUE(acceptor.learn(three(2)));
  EXPECT_THAT(acceptor.reply({}).blocks, IsEmpty());
  BallotBlock next = block(0x100);
  EXPECT_FALSE(acceptor.store(0, next));
  next.epoch = 3;
  EXPECT_TRUE(acceptor.store(0, next));
}

TEST(Acceptor, AReplyTellsAllThatIsKnownAndBearsItsRequest) {
  Acceptor acceptor = second_of_three();
  ASSERT_TRUE(acceptor.store(0, block(0x200, 0x200)));
  const io::Instant sent_at{std::chrono::seconds(7)};
  const Reply reply = acceptor.reply({.sent_at = sent_at, .from = 2, .incarnation = 9});
  EXPECT_EQ(reply.sent_at, sent_at);
  EXPECT_EQ(reply.incarnation, 9U);
  EXPECT_TRUE(reply.remembers);
  EXPECT_EQ(reply.decided, three());
  ASSERT_THAT(reply.blocks, SizeIs(1));
  EXPECT_EQ(reply.blocks[0], (NodeBlock{.node = 0, .block = block(0x200, 0x200)}));
}

TEST(Acceptor, RemembersAgainOnceAnEpochAdmitsThisLife) {
  Acceptor acceptor({}, 1, 2, false);
  EXPECT_FALSE(acceptor.reply({}).remembers);
  Decision admitted = three(2);
  ASSERT_TRUE(acceptor.learn(admitted));  // the life before it
  EXPECT_FALSE(acceptor.remembers());
  admitted.epoch = 3;
  admitted.incarnations[1] = 2;
  ASSERT_TRUE(acceptor.learn(admitted));
  EXPECT_TRUE(acceptor.reply({}).remembers);
}

TEST(Vouches, ForALifeThatIsAMemberOfThatEpoch) {
  const Acceptor acceptor = second_of_three();
  const Reply reply = acceptor.reply({});
  EXPECT_TRUE(vouches(reply, 1, 0, 1));
  EXPECT_FALSE(vouches(reply, 1, 0, 2));  // another life
  EXPECT_FALSE(vouches(reply, 1, 3, 1));  // no member
  EXPECT_FALSE(vouches(reply, 1, 3, 0));
  EXPECT_FALSE(vouches(reply, 2, 0, 1));  // the acceptor is behind
  EXPECT_FALSE(vouches(reply, 0, 0, 1));  // the node is
}

TEST(Vouches, NotWithoutMemory) {
  EXPECT_FALSE(vouches(second_of_three(false).reply({}), 1, 0, 1));
}

TEST(Vouches, ABallotThatHasBegunEndsNoLeaseButOneThatHasAValueDoes) {
  Acceptor acceptor = second_of_three();
  ASSERT_TRUE(acceptor.store(0, block(0x100)));
  EXPECT_TRUE(vouches(acceptor.reply({}), 1, 0, 1));
  ASSERT_TRUE(acceptor.store(0, block(0x100, 0x100)));
  EXPECT_FALSE(vouches(acceptor.reply({}), 1, 0, 1));
  ASSERT_TRUE(acceptor.store(0, block(0x200, 0x100)));
  EXPECT_FALSE(vouches(acceptor.reply({}), 1, 0, 1));
}

// The witness is read in several pieces. The decision was read, then epoch 2 was written there, and
// over the block that had decided it that of a ballot for epoch 3; then the blocks were read.
TEST(Vouches, ABlockBeyondTheNextEpochShowsThatThatOneHasBeenDecided) {
  Reply reply{.decided = three()};
  reply.blocks.push_back({.node = 2, .block = block(0x102)});
  EXPECT_TRUE(vouches(reply, 1, 0, 1));
  reply.blocks[0].block.epoch = 3;
  EXPECT_FALSE(vouches(reply, 1, 0, 1));
}

// On the witness a block stays until its writer writes another.
TEST(Vouches, ABlockOfThisEpochOrAnEarlierOneHasServed) {
  Reply reply{.decided = three(3)};
  reply.blocks.push_back({.node = 0, .block = block(0x100, 0x100)});
  reply.blocks.push_back({.node = 1, .block = block(0x100, 0x100)});
  reply.blocks[1].block.epoch = 3;
  EXPECT_TRUE(vouches(reply, 3, 0, 1));
}

}  // namespace
}  // namespace holdfast::qdisk
