#include "mpio/path_selector.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <vector>

#include "mpio/path_selector_failover.h"
#include "mpio/path_selector_least_queue_depth.h"
#include "mpio/path_selector_round_robin.h"
#include "tests/unit/mpio/path_simulation.h"

namespace holdfast::mpio {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

const io::Instant kNow = io::Instant{} + seconds(1);

std::vector<PathLoad> loads(size_t count) {
  std::vector<PathLoad> result(count);
  for (size_t i = 0; i < count; ++i) {
    result[i].tier = PathTier::optimized;
    result[i].order = static_cast<uint16_t>(i);
  }
  return result;
}

void occupy(PathLoad& load, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) load.on_submitted(SizeClass::small, kNow);
}

std::vector<size_t> picks(PathSelector& selector, std::vector<PathLoad>& paths, int count,
                          uint64_t bytes = 4096) {
  std::vector<size_t> result;
  for (int i = 0; i < count; ++i) {
    result.push_back(selector.select(paths, {.bytes = bytes, .now = kNow}));
  }
  return result;
}

TEST(Policies, HaveTheNamesOfTheConfiguration) {
  for (const char* name : {"failover", "round-robin", "least-queue-depth", "adaptive"}) {
    const auto policy = parse_policy(name);
    ASSERT_TRUE(policy) << name;
    EXPECT_EQ(to_string(*policy), name);
    EXPECT_EQ(make_selector(*policy, 1)->name(), name);
  }
  EXPECT_FALSE(parse_policy("rr"));
}

// What every policy owes.
class AnyPolicy : public testing::TestWithParam<Policy> {
 protected:
  std::unique_ptr<PathSelector> selector_ = make_selector(GetParam(), 3);
  size_t select(const std::vector<PathLoad>& paths) {
    return selector_->select(paths, {.bytes = 4096, .now = kNow});
  }
};

TEST_P(AnyPolicy, WithoutAUsablePathTheRequestWaits) {
  auto paths = loads(3);
  EXPECT_EQ(select({}), kNoPath);
  for (auto& path : paths) path.tier = PathTier::unusable;
  EXPECT_EQ(select(paths), kNoPath);
  paths[1].tier = PathTier::marginal;
  EXPECT_EQ(select(paths), 1u) << "the last path is used, marginal or not";
}

TEST_P(AnyPolicy, StaysInTheBestTierEvenWhenItIsFull) {
  auto paths = loads(4);
  paths[0].tier = PathTier::non_optimized;
  paths[1].tier = PathTier::marginal;
  paths[2].tier = PathTier::non_optimized;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(select(paths), 3u);
  paths[3].limit = 5;
  occupy(paths[3], 5);
  EXPECT_EQ(select(paths), kNoPath);
}

TEST_P(AnyPolicy, TheLimitOfAPathIsKept) {
  auto paths = loads(1);
  paths[0].limit = 2;
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(select(paths), 0u);
    paths[0].on_submitted(SizeClass::small, kNow);
  }
  EXPECT_EQ(select(paths), kNoPath);
}

TEST_P(AnyPolicy, TakesSixtyFourPathsAndReachesTheOneThatWorks) {
  auto paths = loads(kMaxPaths);
  for (auto& path : paths) path.tier = PathTier::unusable;
  for (size_t i = 0; i < kMaxPaths; ++i) {
    paths[i].tier = PathTier::optimized;
    EXPECT_EQ(select(paths), i);
    paths[i].tier = PathTier::unusable;
  }
}

TEST_P(AnyPolicy, AChangeOfThePathsNeedsNoMoreThanAReset) {
  auto paths = loads(5);
  for (int i = 0; i < 5; ++i) select(paths);
  paths.resize(2);
  selector_->reset();
  EXPECT_LT(select(paths), 2u);
}

INSTANTIATE_TEST_SUITE_P(All, AnyPolicy,
                         testing::Values(Policy::failover, Policy::round_robin,
                                         Policy::least_queue_depth, Policy::adaptive));

TEST(FailoverSelector, GoesByTheOrderOfTheConfigurationNotOfTheArray) {
  auto paths = loads(3);
  paths[0].order = 2;
  paths[1].order = 0;
  paths[2].order = 1;
  FailoverSelector selector;
  EXPECT_EQ(picks(selector, paths, 5), (std::vector<size_t>(5, 1)));
  paths[1].tier = PathTier::unusable;
  EXPECT_EQ(picks(selector, paths, 1).front(), 2u);
}

TEST(FailoverSelector, ReturnsOnlyToAStablePath) {
  auto paths = loads(2);
  FailoverSelector selector;
  paths[0].tier = PathTier::unusable;
  EXPECT_EQ(picks(selector, paths, 1).front(), 1u);
  paths[0].tier = PathTier::optimized;
  paths[0].failback_ready = false;
  EXPECT_EQ(picks(selector, paths, 1).front(), 1u);
  paths[0].failback_ready = true;
  EXPECT_EQ(picks(selector, paths, 1).front(), 0u);
}

TEST(FailoverSelector, TakesAnUnstablePathWhenTheCurrentIsGone) {
  auto paths = loads(2);
  FailoverSelector selector;
  picks(selector, paths, 1);
  paths[0].tier = PathTier::unusable;
  paths[1].failback_ready = false;
  EXPECT_EQ(picks(selector, paths, 1).front(), 1u);
}

TEST(FailoverSelector, AFullPathDoesNotSpillOver) {
  auto paths = loads(2);
  paths[0].limit = 1;
  occupy(paths[0], 1);
  FailoverSelector selector;
  EXPECT_EQ(picks(selector, paths, 1).front(), kNoPath);
}

TEST(RoundRobinSelector, TakesTurns) {
  auto paths = loads(3);
  RoundRobinSelector selector;
  EXPECT_EQ(picks(selector, paths, 7), (std::vector<size_t>{0, 1, 2, 0, 1, 2, 0}));
  paths[1].tier = PathTier::unusable;
  EXPECT_EQ(picks(selector, paths, 4), (std::vector<size_t>{2, 0, 2, 0}));
}

TEST(RoundRobinSelector, TurnsCanBeLonger) {
  auto paths = loads(2);
  RoundRobinSelector by_requests({.requests = 3});
  EXPECT_EQ(picks(by_requests, paths, 7), (std::vector<size_t>{0, 0, 0, 1, 1, 1, 0}));
  RoundRobinSelector by_bytes({.requests = 1000, .bytes = 64 * 1024});
  EXPECT_EQ(picks(by_bytes, paths, 5, 32 * 1024), (std::vector<size_t>{0, 0, 1, 1, 0}));
}

TEST(RoundRobinSelector, PassesOverAFullPath) {
  auto paths = loads(3);
  paths[1].limit = 1;
  occupy(paths[1], 1);
  RoundRobinSelector selector;
  EXPECT_EQ(picks(selector, paths, 4), (std::vector<size_t>{0, 2, 0, 2}));
}

TEST(LeastQueueDepthSelector, TakesTheShortestQueueAndEqualsInTurn) {
  auto paths = loads(3);
  occupy(paths[0], 3);
  occupy(paths[1], 1);
  occupy(paths[2], 2);
  LeastQueueDepthSelector selector;
  EXPECT_EQ(picks(selector, paths, 2), (std::vector<size_t>{1, 1}));
  occupy(paths[1], 2);
  occupy(paths[2], 1);
  std::map<size_t, int> counts;
  for (const size_t pick : picks(selector, paths, 9)) ++counts[pick];
  EXPECT_EQ(counts, (std::map<size_t, int>{{0, 3}, {1, 3}, {2, 3}}));
}

TEST(LeastQueueDepthSelector, CountsForTheWeight) {
  auto paths = loads(2);
  paths[0].weight = 3 * kFullWeight;
  LeastQueueDepthSelector selector;
  for (int i = 0; i < 40; ++i) {
    const size_t pick = selector.select(paths, {.now = kNow});
    paths[pick].on_submitted(SizeClass::small, kNow);
  }
  EXPECT_NEAR(paths[0].in_flight(), 30, 1);
}

TEST(LeastQueueDepthSelector, SharesEvenlyInTheModel) {
  PathSimulation simulation({{.server = microseconds(20), .delay = microseconds(100)},
                             {.server = microseconds(20), .delay = microseconds(100)}});
  simulation.add_host(Policy::least_queue_depth, 32);
  simulation.run(milliseconds(500));
  EXPECT_NEAR(simulation.share(0), 0.5, 0.02);
}

TEST(CandidateSet, AWeightOfNothingCountsOnlyBesidesOthers) {
  auto paths = loads(3);
  paths[0].weight = 0;
  EXPECT_EQ(Candidates(paths).count(), 2u);
  paths[1].weight = 0;
  paths[2].weight = 0;
  EXPECT_EQ(Candidates(paths).count(), 3u) << "a path in its failback hold is better than none";
}

}  // namespace
}  // namespace holdfast::mpio
