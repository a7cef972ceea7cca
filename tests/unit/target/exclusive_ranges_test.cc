#include "target/exclusive_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "common/base/random.h"

namespace holdfast::target {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ExclusiveRanges, DisjointRangesDoNotWaitForEachOther) {
  ExclusiveRanges ranges;
  EXPECT_TRUE(ranges.acquire(1, {0, 8}));
  EXPECT_TRUE(ranges.acquire(2, {8, 8}));
  EXPECT_FALSE(ranges.acquire(3, {7, 2}));  // overlaps both
  EXPECT_THAT(ranges.release(1), IsEmpty());
  EXPECT_THAT(ranges.release(2), ElementsAre(3));
}

TEST(ExclusiveRanges, NobodyIsOvertaken) {
  ExclusiveRanges ranges;
  EXPECT_TRUE(ranges.acquire(1, {0, 1}));
  EXPECT_FALSE(ranges.acquire(2, {0, 100}));
  // Free as such, but 2 came before it and would starve.
  EXPECT_FALSE(ranges.acquire(3, {50, 1}));
  EXPECT_THAT(ranges.release(1), ElementsAre(2));
  EXPECT_THAT(ranges.release(2), ElementsAre(3));
  EXPECT_THAT(ranges.release(3), IsEmpty());
  EXPECT_EQ(ranges.size(), 0u);
}

TEST(ExclusiveRanges, OneReleaseMayServeMany) {
  ExclusiveRanges ranges;
  EXPECT_TRUE(ranges.acquire(1, {0, 100}));
  EXPECT_FALSE(ranges.acquire(2, {0, 1}));
  EXPECT_FALSE(ranges.acquire(3, {1, 1}));
  EXPECT_FALSE(ranges.acquire(4, {0, 2}));
  EXPECT_THAT(ranges.release(1), ElementsAre(2, 3));
}

TEST(ExclusiveRanges, GivingUpAWaitLetsTheNextOneIn) {
  ExclusiveRanges ranges;
  EXPECT_TRUE(ranges.acquire(1, {0, 1}));
  EXPECT_FALSE(ranges.acquire(2, {0, 10}));
  EXPECT_FALSE(ranges.acquire(3, {5, 1}));
  EXPECT_THAT(ranges.release(2), ElementsAre(3));
  EXPECT_THAT(ranges.release(99), IsEmpty());
  EXPECT_TRUE(ranges.contains(1));
}

TEST(ExclusiveRanges, RandomUseNeverOverlapsAndKeepsTheOrder) {
  base::SeededRandom random(7);
  ExclusiveRanges ranges;
  struct Request {
    ExclusiveId id;
    BlockRange range;
    bool held;
  };
  std::deque<Request> live;  // in the order asked for
  const auto grant = [&](ExclusiveId id) {
    const auto request = std::ranges::find(live, id, &Request::id);
    ASSERT_NE(request, live.end());
    for (auto earlier = live.begin(); earlier != request; ++earlier) {
      ASSERT_FALSE(earlier->range.overlaps(request->range));
    }
    ASSERT_FALSE(request->held);
    request->held = true;
  };
  ExclusiveId last = 0;
  for (int step = 0; step < 5000 || !live.empty(); ++step) {
    const bool ask = step < 5000 && (live.size() < 3 || random.below(2) == 0);
    if (ask && live.size() < 40) {
      const BlockRange range{random.below(64), 1 + random.below(8)};
      live.push_back({++last, range, false});
      if (ranges.acquire(last, range)) grant(last);
      continue;
    }
    std::vector<ExclusiveId> held;
    for (const Request& request : live) {
      if (request.held) held.push_back(request.id);
    }
    ASSERT_FALSE(held.empty());  // somebody can always go on
    const ExclusiveId id = held[random.below(held.size())];
    std::erase_if(live, [&](const Request& request) { return request.id == id; });
    for (const ExclusiveId next : ranges.release(id)) grant(next);
  }
}

}  // namespace
}  // namespace holdfast::target
