// What must be durable before anything leaves the node: Effects::persist.

#include <gmock/gmock.h>

#include "qdisk/membership.h"

namespace holdfast::qdisk {
namespace {

using std::chrono::seconds;

class DurableTest : public testing::Test {
 protected:
  static Decision of_three(Epoch epoch) {
    Decision decision{.epoch = epoch, .voters = NodeSet(0b111)};
    decision.incarnations[0] = decision.incarnations[1] = decision.incarnations[2] = 1;
    return decision;
  }
  Membership make(bool remembers = true) {
    return {{.self = 0, .policy = {.configured = NodeSet(0b111)}},
            {.decided = of_three(1)},
            remembers,
            0,
            random_,
            now_};
  }
  static Request store(Ballot mbal) {
    return {.from = 1,
            .incarnation = 1,
            .decided = of_three(1),
            .store = BallotBlock{.epoch = 2, .mbal = mbal, .incarnation = 1}};
  }

  base::SeededRandom random_{1};
  io::Instant now_{seconds(1000)};
};

TEST_F(DurableTest, ABlockThatAnotherHasStored) {
  Membership node = make();
  Effects effects = node.on_request(store(0x101), now_);
  EXPECT_TRUE(effects.persist);
  ASSERT_EQ(effects.messages.size(), 1U);
  EXPECT_EQ(std::get<Reply>(effects.messages[0].body).blocks.size(), 1U);
  effects = node.on_request(store(0x101), now_);
  EXPECT_FALSE(effects.persist);  // it is already
  EXPECT_EQ(effects.messages.size(), 1U);
}

TEST_F(DurableTest, WithoutMemoryNothingIsPromised) {
  Membership node = make(false);
  const Effects effects = node.on_request(store(0x101), now_);
  EXPECT_FALSE(effects.persist);
  EXPECT_TRUE(effects.messages.empty());
  EXPECT_EQ(node.acceptor_state().blocks[1], BallotBlock{});
}

TEST_F(DurableTest, WhatItProposesItself) {
  Membership node = make();
  for (;; now_ += node.tick_length()) {
    ASSERT_LT(now_, io::Instant(seconds(1030)));
    const Effects effects = node.on_tick(now_);
    const bool proposes = std::ranges::any_of(effects.messages, [](const Envelope& each) {
      return std::get<Request>(each.body).store.has_value();
    });
    if (!proposes) continue;
    EXPECT_TRUE(effects.persist);
    EXPECT_EQ(node.acceptor_state().blocks[0].mbal, 0x100U);
    return;
  }
}

TEST_F(DurableTest, WhatHasBeenDecided) {
  Membership node = make();
  Request request{.from = 1, .incarnation = 1, .decided = of_three(2)};
  EXPECT_TRUE(node.on_request(request, now_).persist);
  EXPECT_FALSE(node.on_request(request, now_).persist);
  EXPECT_EQ(node.acceptor_state().decided.epoch, 2U);
}

TEST_F(DurableTest, ARequestToAnEarlierLifeIsNotAnsweredByThisOne) {
  Membership node = make();
  Reply reply{.sent_at = now_, .incarnation = 2, .decided = of_three(1)};
  node.on_tick(now_);  // its own vote
  node.on_reply(1, reply, now_);
  EXPECT_FALSE(node.confirmed_at());
  reply.incarnation = 1;
  node.on_reply(1, reply, now_);
  EXPECT_EQ(node.confirmed_at(), now_);
}

}  // namespace
}  // namespace holdfast::qdisk
