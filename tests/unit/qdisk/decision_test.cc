#include "qdisk/decision.h"

#include <gmock/gmock.h>

#include <vector>

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;

TEST(NodeSet, KnowsItsNodesInAscendingOrder) {
  NodeSet set;
  set.add(63);
  set.add(0);
  set.add(7);
  std::vector<int> seen;
  for (const NodeId node : set) seen.push_back(node);
  EXPECT_THAT(seen, ElementsAre(0, 7, 63));
  EXPECT_EQ(set.count(), 3);
  EXPECT_EQ(set.lowest(), 0);
  EXPECT_FALSE(set.has(kNoNode));
  set.remove(0);
  EXPECT_EQ(set.lowest(), 7);
}

TEST(NodeSet, ComparesAndCombines) {
  const NodeSet both = NodeSet::of(1) | NodeSet::of(2);
  EXPECT_TRUE(both.contains(NodeSet::of(2)));
  EXPECT_FALSE(NodeSet::of(2).contains(both));
  EXPECT_EQ(both - NodeSet::of(2), NodeSet::of(1));
  EXPECT_EQ(both & NodeSet::of(3), NodeSet());
}

TEST(Decision, AMemberIsALifeAndNotAName) {
  Decision decision;
  decision.incarnations[3] = 5;
  EXPECT_EQ(decision.members(), NodeSet::of(3));
  EXPECT_TRUE(decision.has_member(3, 5));
  EXPECT_FALSE(decision.has_member(3, 6));
  EXPECT_FALSE(decision.has_member(4, 0));
}

TEST(Decision, AForcedEpochIsGreaterThanAllOfTheGenerationBefore) {
  const Epoch last = (Epoch{1} << kGenerationShift) | (Epoch{9} << kForcedByShift) | 0xffffffff;
  const Epoch forced = (Epoch{2} << kGenerationShift) | (Epoch{1} << kForcedByShift) | 1;
  EXPECT_GT(forced, last);
  EXPECT_EQ(generation_of(forced), 2);
  EXPECT_EQ(count_of(last), 0xffffffffU);
}

}  // namespace
}  // namespace holdfast::qdisk
