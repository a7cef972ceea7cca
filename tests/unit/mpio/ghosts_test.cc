#include "mpio/ghosts.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "common/base/random.h"

namespace holdfast::mpio {
namespace {

using std::chrono::seconds;

constexpr SessionId kFirst{.path = 0, .incarnation = 1};
constexpr SessionId kSecond{.path = 1, .incarnation = 1};
const io::Instant kNow = io::Instant{} + seconds(100);

Ghosts::Ghost ghost(uint64_t offset, uint64_t length, SessionId session = kFirst, int hold = 15) {
  return {.range = {offset, length},
          .session = session,
          .since = kNow,
          .held_until = kNow + seconds(hold)};
}

TEST(ByteRange, OverlapsByBytesAndNeverWraps) {
  const ByteRange range{.offset = 4096, .length = 4096};
  EXPECT_TRUE(range.overlaps({0, 4097}));
  EXPECT_FALSE(range.overlaps({0, 4096}));
  EXPECT_TRUE(range.overlaps({8191, 1}));
  EXPECT_FALSE(range.overlaps({8192, 4096}));
  EXPECT_FALSE(range.overlaps({5000, 0}));
  EXPECT_TRUE(range.overlaps({4100, UINT64_MAX})) << "beyond the end of all numbers";
}

TEST(GhostRule, WhatWritesWaitsAndReadsDoNot) {
  using Kind = io::BlockRequest::Kind;
  EXPECT_TRUE(waits_for_ghosts(Kind::write));
  EXPECT_TRUE(waits_for_ghosts(Kind::discard));
  EXPECT_TRUE(waits_for_ghosts(Kind::write_zeroes));
  EXPECT_TRUE(waits_for_ghosts(Kind::compare_and_write));
  EXPECT_FALSE(waits_for_ghosts(Kind::read));
  EXPECT_FALSE(waits_for_ghosts(Kind::flush));
}

TEST(Ghosts, AreFoundByRange) {
  Ghosts ghosts;
  EXPECT_FALSE(ghosts.overlaps({0, UINT64_MAX}));
  ghosts.add(ghost(8192, 4096));
  ghosts.add(ghost(1 << 20, 4096, kSecond));
  EXPECT_TRUE(ghosts.overlaps({8192, 512}));
  EXPECT_TRUE(ghosts.overlaps({0, 1 << 21}));
  EXPECT_FALSE(ghosts.overlaps({12288, 4096})) << "between the two";
  EXPECT_FALSE(ghosts.overlaps({1 << 22, 4096}));
  ghosts.add(ghost(0, 0));
  EXPECT_EQ(ghosts.size(), 2u) << "nothing is no ghost";
}

TEST(Ghosts, OfAnEarlierProcessHoldReadsToo) {
  using Kind = io::BlockRequest::Kind;
  Ghosts ghosts;
  EXPECT_FALSE(ghosts.hold(Kind::write, {0, 512}));
  ghosts.add(ghost(8192, 4096));
  EXPECT_TRUE(ghosts.hold(Kind::write, {8192, 512}));
  EXPECT_FALSE(ghosts.hold(Kind::read, {8192, 512}));
  Ghosts::Ghost left = ghost(0, UINT64_MAX, {.path = 0, .incarnation = kLeftBehind});
  left.left_behind = true;
  ghosts.add(left);
  EXPECT_TRUE(ghosts.hold(Kind::read, {8192, 512}));
  EXPECT_TRUE(ghosts.hold(Kind::read, {uint64_t{1} << 50, 512}));
  EXPECT_FALSE(ghosts.hold(Kind::flush, {0, 0}));
  ghosts.clear_session(kFirst);
  EXPECT_TRUE(ghosts.hold(Kind::read, {8192, 512})) << "another session's";
  ghosts.clear_session(left.session);
  EXPECT_FALSE(ghosts.hold(Kind::write, {8192, 512}));
}

TEST(Ghosts, AFenceClearsItsSessionOnly) {
  Ghosts ghosts;
  ghosts.add(ghost(0, 4096));
  ghosts.add(ghost(0, 4096, kSecond));
  ghosts.add(ghost(0, 4096, {.path = 0, .incarnation = 2}));
  ghosts.clear_session(kFirst);
  EXPECT_EQ(ghosts.size(), 2u) << "a later session of the same path is another";
  EXPECT_FALSE(ghosts.has_session(kFirst));
  EXPECT_TRUE(ghosts.has_session(kSecond));
  EXPECT_TRUE(ghosts.overlaps({0, 1}));
}

TEST(Ghosts, TimeClearsWhatItMay) {
  Ghosts ghosts;
  ghosts.add(ghost(0, 4096, kFirst, 15));
  ghosts.add(ghost(4096, 4096, kSecond, 20));
  Ghosts::Ghost endless = ghost(8192, 4096);
  endless.held_until.reset();
  ghosts.add(endless);
  ghosts.clear_expired(kNow + seconds(15) - io::Duration(1), {});
  EXPECT_EQ(ghosts.size(), 3u);
  ghosts.clear_expired(kNow + seconds(15), {});
  EXPECT_FALSE(ghosts.overlaps({0, 4096}));
  ghosts.clear_expired(kNow + seconds(10000), {});
  EXPECT_EQ(ghosts.size(), 1u) << "only a fence clears this one";
}

// A disk may hang for longer than any time that was declared.
TEST(Ghosts, TimeClearsNothingOfASessionWhoseFenceHasNotEnded) {
  Ghosts ghosts(2);
  ghosts.add(ghost(0, 4096, kFirst, 15));
  ghosts.add(ghost(4096, 4096, kSecond, 15));
  const SessionId open[] = {kFirst};
  ghosts.clear_expired(kNow + seconds(100), open);
  EXPECT_TRUE(ghosts.overlaps({0, 4096}));
  EXPECT_FALSE(ghosts.overlaps({4096, 4096}));
  ghosts.add(ghost(8192, 4096, kSecond, 15));
  ghosts.add(ghost(12288, 4096, {7, 1}, 15));  // no place left: one of several sessions
  ghosts.clear_expired(kNow + seconds(100), open);
  EXPECT_TRUE(ghosts.overlaps({12288, 4096})) << "the first session may be in it";
  ghosts.clear_expired(kNow + seconds(100), {});
  EXPECT_TRUE(ghosts.empty());
}

class GhostWaitersTest : public testing::Test {
 protected:
  void wait(int name, ByteRange range) {
    waiters_.push_back({.range = range});
    names_[&waiters_.back()] = name;
    ghosts_.wait(waiters_.back());
  }
  std::vector<int> ready() {
    GhostWaiters out;
    ghosts_.take_ready(out);
    std::vector<int> names;
    while (!out.empty()) {
      names.push_back(names_[&out.front()]);
      out.pop_front();
    }
    return names;
  }

  Ghosts ghosts_;
  std::deque<GhostWaiter> waiters_;
  std::map<const GhostWaiter*, int> names_;
};

TEST_F(GhostWaitersTest, AreWokenInTheOrderInWhichTheyCame) {
  ghosts_.add(ghost(0, 8192));
  for (int i = 0; i < 5; ++i) wait(i, {4096, 8192});
  EXPECT_TRUE(ready().empty());
  ghosts_.clear_session(kFirst);
  EXPECT_EQ(ready(), (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_FALSE(ghosts_.has_waiters());
}

TEST_F(GhostWaitersTest, WaitForAllThatOverlap) {
  ghosts_.add(ghost(0, 4096));
  ghosts_.add(ghost(4096, 4096, kSecond));
  wait(1, {0, 8192});
  wait(2, {0, 512});
  ghosts_.clear_session(kFirst);
  EXPECT_EQ(ready(), (std::vector<int>{2}));
  ghosts_.clear_expired(kNow + seconds(60), {});
  EXPECT_EQ(ready(), (std::vector<int>{1}));
}

TEST_F(GhostWaitersTest, ALaterGhostHoldsThemToo) {
  ghosts_.add(ghost(0, 4096));
  wait(1, {0, 4096});
  ghosts_.add(ghost(512, 512, kSecond));
  ghosts_.clear_session(kFirst);
  EXPECT_TRUE(ready().empty());
  ghosts_.clear_session(kSecond);
  EXPECT_EQ(ready(), (std::vector<int>{1}));
}

TEST_F(GhostWaitersTest, OneThatIsCancelledLeavesNoTrace) {
  ghosts_.add(ghost(0, 4096));
  wait(1, {0, 4096});
  wait(2, {0, 4096});
  waiters_.pop_front();
  ghosts_.clear_session(kFirst);
  EXPECT_EQ(ready(), (std::vector<int>{2}));
}

TEST(GhostsWhenFull, WidenTheOwnSession) {
  Ghosts ghosts(4);
  for (uint64_t i = 0; i < 10; ++i) ghosts.add(ghost(i * 8192, 4096));
  EXPECT_EQ(ghosts.size(), 4u);
  EXPECT_GT(ghosts.merges(), 0u);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_TRUE(ghosts.overlaps({i * 8192, 4096})) << i;
  ghosts.clear_session(kFirst);
  EXPECT_TRUE(ghosts.empty()) << "its fence clears all of it";
}

TEST(GhostsWhenFull, MakeRoomForANewSession) {
  Ghosts ghosts(4);
  for (uint64_t i = 0; i < 4; ++i) ghosts.add(ghost(i * 8192, 4096));
  ghosts.add(ghost(1 << 20, 4096, kSecond));
  EXPECT_EQ(ghosts.size(), 4u);
  ghosts.clear_session(kFirst);
  EXPECT_EQ(ghosts.size(), 1u);
  EXPECT_FALSE(ghosts.overlaps({0, 65536}));
  EXPECT_TRUE(ghosts.overlaps({1 << 20, 4096}));
}

TEST(GhostsWhenFull, OfMoreSessionsThanPlacesLeaveItToTime) {
  Ghosts ghosts(2);
  ghosts.add(ghost(0, 4096, {0, 1}, 10));
  ghosts.add(ghost(4096, 4096, {1, 1}, 11));
  ghosts.add(ghost(8192, 4096, {2, 1}, 30));
  for (uint32_t path = 0; path < 3; ++path) ghosts.clear_session({path, 1});
  EXPECT_TRUE(ghosts.overlaps({0, 4096})) << "no single fence proves it";
  EXPECT_TRUE(ghosts.overlaps({8192, 4096}));
  ghosts.clear_expired(kNow + seconds(29), {});
  EXPECT_TRUE(ghosts.overlaps({0, 4096})) << "the longest of the holds";
  ghosts.clear_expired(kNow + seconds(30), {});
  EXPECT_TRUE(ghosts.empty());
}

TEST(GhostsWhenFull, MergedOnesWithoutAHoldGoWhenAllFencesAreOver) {
  Ghosts ghosts(1);
  for (const SessionId session : {kFirst, kSecond}) {
    ghosts.add({.range = {session.path * 8192, 4096}, .session = session, .since = kNow});
  }
  ghosts.clear_session(kFirst);
  ghosts.clear_expired(kNow + seconds(1000), std::span(&kSecond, 1));
  EXPECT_TRUE(ghosts.overlaps({8192, 4096})) << "a fence is open";
  ghosts.clear_session(kSecond);
  ghosts.clear_expired(kNow + seconds(1000), {});
  EXPECT_TRUE(ghosts.empty());
}

// Against a model that forgets nothing: whatever is merged, no ghost is lost.
TEST(GhostsModel, NothingIsForgotten) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    base::SeededRandom random(seed);
    Ghosts ghosts(8);
    std::vector<Ghosts::Ghost> model;
    io::Instant now = kNow;
    for (int step = 0; step < 300; ++step) {
      now += seconds(random.below(2));
      const SessionId session{static_cast<uint32_t>(random.below(12)), 1};
      switch (random.below(8)) {
        case 0:
          ghosts.clear_session(session);
          std::erase_if(model, [&](const auto& each) { return each.session == session; });
          break;
        case 1:
          ghosts.clear_expired(now, std::span(&session, 1));  // its fence has not ended
          std::erase_if(model, [&](const auto& each) {
            return *each.held_until <= now && !(each.session == session);
          });
          break;
        default: {
          Ghosts::Ghost one = ghost(random.below(1000), 1 + random.below(20), session);
          one.held_until = now + seconds(5);
          ghosts.add(one);
          model.push_back(one);
        }
      }
      ASSERT_LE(ghosts.size(), 8u);
      for (const auto& each : model) ASSERT_TRUE(ghosts.overlaps(each.range)) << "seed " << seed;
    }
    ghosts.clear_expired(now + seconds(6), {});
    ASSERT_TRUE(ghosts.empty()) << "and nothing stays for ever, seed " << seed;
  }
}

}  // namespace
}  // namespace holdfast::mpio
