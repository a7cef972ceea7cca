#include "qdisk/lease.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using std::chrono::seconds;

constexpr io::Instant at(int second) { return io::Instant(seconds(second)); }

const Decision kThree{.epoch = 1, .voters = NodeSet(0b111)};
const Decision kTwoAndWitness{.epoch = 1, .voters = NodeSet(0b11), .witness_votes = true};

TEST(Lease, NoneWithoutAMajority) {
  Lease lease(seconds(15));
  lease.renew(kThree);
  EXPECT_FALSE(lease.until());
  lease.on_vouched(0, at(10));
  lease.renew(kThree);
  EXPECT_FALSE(lease.confirmed_at(kThree));
  EXPECT_FALSE(lease.valid(at(10)));
}

// Of three the second latest: at that moment two of them had not yet taken anything later.
TEST(Lease, CountsFromTheMomentThatAMajorityHasReached) {
  Lease lease(seconds(15));
  lease.on_vouched(2, at(30));
  lease.on_vouched(0, at(10));
  lease.on_vouched(1, at(20));
  lease.renew(kThree);
  EXPECT_EQ(lease.confirmed_at(kThree), at(20));
  EXPECT_EQ(lease.until(), at(35));
  EXPECT_TRUE(lease.valid(at(34)));
  EXPECT_FALSE(lease.valid(at(35)));
}

TEST(Lease, OfFiveVotersTheThirdLatestCounts) {
  const Decision five{.epoch = 1, .voters = NodeSet(0b1111), .witness_votes = true};
  Lease lease(seconds(15));
  for (const NodeId node : five.voters) lease.on_vouched(node, at(10 + node));
  EXPECT_EQ(lease.confirmed_at(five), at(11));
  lease.on_vouched(kWitness, at(99));
  EXPECT_EQ(lease.confirmed_at(five), at(12));
}

TEST(Lease, WhoDoesNotVoteDoesNotCount) {
  Lease lease(seconds(15));
  lease.on_vouched(0, at(10));
  lease.on_vouched(5, at(10));
  lease.on_vouched(kWitness, at(10));
  EXPECT_FALSE(lease.confirmed_at(kThree));
  EXPECT_EQ(lease.confirmed_at(kTwoAndWitness), at(10));
}

TEST(Lease, ALateReplyToAnOldRequestTakesNothingBack) {
  Lease lease(seconds(15));
  lease.on_vouched(0, at(20));
  lease.on_vouched(1, at(20));
  lease.on_vouched(1, at(5));
  EXPECT_EQ(lease.confirmed_at(kThree), at(20));
}

// One acceptor that knows the old epoch and one that knows the new are no majority of either.
TEST(Lease, EpochsAreNotCountedTogetherButWhatWasProvedStays) {
  Lease lease(seconds(15));
  lease.on_vouched(0, at(10));
  lease.on_vouched(1, at(10));
  lease.renew(kThree);
  lease.begin_epoch();
  lease.on_vouched(2, at(12));
  lease.renew(kThree);
  EXPECT_FALSE(lease.confirmed_at(kThree));
  EXPECT_EQ(lease.until(), at(25));
  lease.on_vouched(1, at(12));
  lease.renew(kThree);
  EXPECT_EQ(lease.until(), at(27));
}

// More voters than before, of whom the earlier moment counts.
TEST(Lease, IsNeverShorterThanItWas) {
  Lease lease(seconds(15));
  lease.on_vouched(0, at(30));
  lease.on_vouched(1, at(30));
  lease.renew(kThree);
  lease.begin_epoch();
  lease.on_vouched(0, at(20));
  lease.on_vouched(1, at(20));
  lease.renew(kThree);
  EXPECT_EQ(lease.confirmed_at(kThree), at(20));
  EXPECT_EQ(lease.until(), at(45));
}

TEST(Lease, AnEvictedLifeHasNone) {
  Lease lease(seconds(15));
  lease.on_vouched(0, at(10));
  lease.on_vouched(1, at(10));
  lease.renew(kThree);
  lease.end();
  EXPECT_FALSE(lease.until());
  lease.renew(kThree);
  EXPECT_FALSE(lease.valid(at(11)));
}

}  // namespace
}  // namespace holdfast::qdisk
