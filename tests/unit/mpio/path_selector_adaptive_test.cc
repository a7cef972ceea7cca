#include "mpio/path_selector_adaptive.h"

#include <gtest/gtest.h>

#include "tests/unit/mpio/path_simulation.h"

namespace holdfast::mpio {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Path = PathSimulation::Path;

constexpr Path kGood{.server = microseconds(20), .delay = microseconds(200)};
constexpr Path kFarther{.server = microseconds(20), .delay = microseconds(5200)};
constexpr Path kNarrow{.server = microseconds(400), .delay = microseconds(200)};

uint64_t alone(Path path, uint32_t depth) {
  PathSimulation simulation({path});
  simulation.add_host(Policy::adaptive, depth);
  simulation.run(milliseconds(500));
  return simulation.completed();
}

TEST(AdaptiveSelector, TwoEqualPathsShareEvenly) {
  for (const uint32_t depth : {1u, 2u, 8u, 32u, 128u}) {
    PathSimulation simulation({kGood, kGood}, depth);
    simulation.add_host(Policy::adaptive, depth);
    simulation.run(milliseconds(500));
    EXPECT_NEAR(simulation.share(0), 0.5, 0.03) << "depth " << depth;
  }
}

TEST(AdaptiveSelector, TwoPathsThatAreTheBottleneckCarryTwice) {
  PathSimulation simulation({kGood, kGood});
  simulation.add_host(Policy::adaptive, 64);
  simulation.run(milliseconds(500));
  EXPECT_GE(simulation.completed(), alone(kGood, 64) * 18 / 10);
}

TEST(AdaptiveSelector, APathFartherAwayDoesNotPullThroughputDown) {
  for (const uint32_t depth : {1u, 4u, 32u, 128u}) {
    PathSimulation simulation({kGood, kFarther});
    simulation.add_host(Policy::adaptive, depth);
    simulation.run(seconds(1));
    EXPECT_GE(simulation.completed() / 2, alone(kGood, depth) * 90 / 100) << "depth " << depth;
    EXPECT_GT(simulation.completed(1), 0u) << "it is looked at now and then";
  }
}

TEST(AdaptiveSelector, APathFartherAwayLeavesThePercentilesAlone) {
  PathSimulation one({kGood});
  one.add_host(Policy::adaptive, 32);
  one.run(milliseconds(500));
  PathSimulation two({kGood, kFarther});
  two.add_host(Policy::adaptive, 32);
  two.run(milliseconds(500));
  EXPECT_LE(two.percentile(99), one.percentile(99) * 13 / 10);
}

TEST(AdaptiveSelector, ANarrowPathGetsItsPart) {
  PathSimulation simulation({kGood, kNarrow});
  simulation.add_host(Policy::adaptive, 64);
  simulation.run(seconds(1));
  EXPECT_GE(simulation.completed() / 2, alone(kGood, 64));
  EXPECT_LT(simulation.share(1), 0.1);
}

TEST(AdaptiveSelector, RoundRobinWouldCollapse) {
  // The control of the two tests above: the model does punish a policy that does not look.
  PathSimulation simulation({kGood, kFarther});
  simulation.add_host(Policy::round_robin, 32);
  simulation.run(seconds(1));
  EXPECT_LT(simulation.completed() / 2, alone(kGood, 32) / 2);
}

TEST(AdaptiveSelector, APathStalledFromTheStartGetsItsProbeOnly) {
  PathSimulation simulation({kGood, {.stalled = true}});
  simulation.add_host(Policy::adaptive, 32);
  simulation.run(seconds(1));
  EXPECT_EQ(simulation.submitted(1), 1u);
  EXPECT_GE(simulation.completed() / 2, alone(kGood, 31) * 98 / 100);
}

TEST(AdaptiveSelector, APathThatStallsGetsNothingMoreOnceItIsSeen) {
  PathSimulation simulation({kGood, kGood, kGood});
  simulation.add_host(Policy::adaptive, 32);
  simulation.run(milliseconds(500));
  simulation.path(1).stalled = true;
  simulation.run(milliseconds(10));  // several service times: seen before anything completes
  const uint64_t caught = simulation.submitted(1);
  EXPECT_LT(caught, 32u);
  simulation.run(milliseconds(700));
  EXPECT_EQ(simulation.submitted(1), 0u);
  EXPECT_GT(simulation.completed(0) + simulation.completed(2), 0u);
}

TEST(AdaptiveSelector, TheLotNeverFallsBetweenTwoStalledPaths) {
  PathSimulation simulation({kGood, kGood, kGood, kGood});
  simulation.add_host(Policy::adaptive, 64);
  simulation.run(milliseconds(100));
  simulation.path(1).stalled = true;
  simulation.path(2).stalled = true;
  simulation.run(milliseconds(10));
  simulation.run(milliseconds(500));
  EXPECT_EQ(simulation.submitted(1) + simulation.submitted(2), 0u);
  EXPECT_GT(simulation.completed(), 1000u);
}

TEST(AdaptiveSelector, AnIdlePathThatStalledIsFoundWithOneRequest) {
  PathSimulation simulation({kGood, kFarther});
  simulation.add_host(Policy::adaptive, 1);
  simulation.run(milliseconds(500));
  simulation.path(1).stalled = true;
  simulation.run(seconds(3));
  EXPECT_LE(simulation.submitted(1), 1u);
}

TEST(AdaptiveSelector, ARecoveredPathIsTakenUpAgain) {
  PathSimulation simulation({kGood, kFarther});
  simulation.add_host(Policy::adaptive, 64);
  simulation.run(milliseconds(500));
  simulation.path(1) = kGood;
  simulation.run(milliseconds(500));
  simulation.run(milliseconds(500));
  EXPECT_NEAR(simulation.share(1), 0.5, 0.05);
}

TEST(AdaptiveSelector, HostsDoNotRunTogetherFromPathToPath) {
  // Eight hosts on the same four paths, one of them half as fast: the queues stay level.
  PathSimulation simulation(
      {kGood, kGood, {.server = microseconds(40), .delay = microseconds(200)}, kGood});
  for (int host = 0; host < 8; ++host) simulation.add_host(Policy::adaptive, 16);
  simulation.run(milliseconds(200));
  for (int round = 0; round < 10; ++round) {
    simulation.run(milliseconds(50));
    for (const size_t path : {0u, 1u, 3u}) {
      EXPECT_NEAR(simulation.share(path), 2.0 / 7, 0.08) << "round " << round;
    }
  }
}

TEST(AdaptiveSelector, TheOrderOfThePathsDoesNotMatter) {
  PathSimulation one({kGood, kNarrow, kFarther});
  one.add_host(Policy::adaptive, 32);
  one.run(seconds(1));
  PathSimulation other({kFarther, kGood, kNarrow});
  other.add_host(Policy::adaptive, 32);
  other.run(seconds(1));
  EXPECT_NEAR(one.share(0), other.share(1), 0.02);
  EXPECT_NEAR(one.share(1), other.share(2), 0.02);
  EXPECT_NEAR(one.share(2), other.share(0), 0.02);
}

TEST(AdaptiveSelector, WeightsShiftTheShare) {
  PathSimulation simulation({kGood, kGood});
  simulation.add_host(Policy::adaptive, 8);  // few: more would keep both busy whatever the weight
  simulation.load(0).weight = 3 * kFullWeight;
  simulation.run(milliseconds(500));
  EXPECT_GT(simulation.share(0), 0.65);
}

TEST(AdaptiveSelector, AnySmallNumberOfPathsIsUsedEvenly) {
  for (const size_t count : {1u, 2u, 3u, 5u, 8u, 17u, 32u, 64u}) {
    PathSimulation simulation(std::vector<Path>(count, kGood), count);
    simulation.add_host(Policy::adaptive, static_cast<uint32_t>(4 * count));
    simulation.run(milliseconds(20));
    simulation.run(milliseconds(20));
    const double fair = 1.0 / static_cast<double>(count);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_NEAR(simulation.share(i), fair, fair * 0.5) << i << " of " << count;
    }
  }
}

TEST(AdaptiveSelector, ASlowPathDoesNotOwnTheQueue) {
  // All of them so slow that the cap of 75 ms bites: the slowest is held to its part.
  PathSimulation simulation({{.server = milliseconds(1)}, {.server = milliseconds(20)}});
  simulation.add_host(Policy::adaptive, 256);
  simulation.run(seconds(4));
  EXPECT_LE(simulation.most_in_flight(1), 256u / 10);
}

}  // namespace
}  // namespace holdfast::mpio
