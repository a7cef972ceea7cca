#include "qdisk/arbitration.h"

#include <gmock/gmock.h>

#include <vector>

#include "common/base/random.h"

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;

using Weights = std::array<Candidate, kMaxNodes>;

NodeSet first(int count) {
  return count == 64 ? NodeSet(~uint64_t{0}) : NodeSet((uint64_t{1} << count) - 1);
}

Graph complete(int count) {
  Graph graph{};
  for (const NodeId node : first(count)) graph[node] = first(count) - NodeSet::of(node);
  return graph;
}

void cut(Graph& graph, NodeId a, NodeId b) {
  graph[a].remove(b);
  graph[b].remove(a);
}

void split(Graph& graph, NodeSet one, NodeSet other) {
  for (const NodeId a : one) {
    for (const NodeId b : other) cut(graph, a, b);
  }
}

Weights all_vote(int count) {
  Weights weights{};
  for (const NodeId node : first(count)) weights[node] = {.votes = true, .volumes_ok = 0xffff};
  return weights;
}

TEST(BestClique, AllOfThemWhileNoLinkIsBroken) {
  for (const int count : {1, 2, 5, 64}) {
    EXPECT_EQ(best_clique(complete(count), first(count), all_vote(count)), first(count));
  }
}

TEST(BestClique, OnlyCandidatesCount) {
  EXPECT_EQ(best_clique(complete(5), NodeSet(0b10110), all_vote(5)), NodeSet(0b10110));
  EXPECT_EQ(best_clique(complete(5), NodeSet(), all_vote(5)), NodeSet());
}

// 0 - 1 - 2, and 0 does not hear 2: the two pairs are alike but for their numbers.
TEST(BestClique, OfAChainThePairWithTheLowestNumber) {
  Graph graph = complete(3);
  cut(graph, 0, 2);
  EXPECT_EQ(best_clique(graph, first(3), all_vote(3)), NodeSet(0b011));
}

TEST(BestClique, TheLargerSideOfASplit) {
  Graph graph = complete(5);
  split(graph, NodeSet(0b00011), NodeSet(0b11100));
  EXPECT_EQ(best_clique(graph, first(5), all_vote(5)), NodeSet(0b11100));
}

// Two sides of two; each line outweighs all that stand below it on the other side.
TEST(BestClique, VotesThenNodesThenWitnessThenVolumesThenRolesThenTheLowestNumber) {
  Graph graph = complete(4);
  const NodeSet low(0b0011);
  const NodeSet high(0b1100);
  split(graph, low, high);
  Weights weights = all_vote(4);
  EXPECT_EQ(best_clique(graph, first(4), weights), low);
  weights[2].coordinates = 1;
  EXPECT_EQ(best_clique(graph, first(4), weights), high);
  weights[3].volumes_ok = 0xfffe;  // one volume is not reached by all of that side
  EXPECT_EQ(best_clique(graph, first(4), weights), low);
  weights[2].reaches_witness = true;
  EXPECT_EQ(best_clique(graph, first(4), weights), high);
  EXPECT_EQ(best_clique(graph, NodeSet(0b0111), weights), low);
  weights[0].votes = false;
  weights[0].reaches_witness = true;
  EXPECT_EQ(best_clique(graph, first(4), weights), high);
  weights[2].votes = weights[3].votes = false;
  EXPECT_EQ(best_clique(graph, first(4), weights), low);
}

TEST(RankOf, EachCliqueHasItsTurn) {
  Graph graph = complete(6);  // 0 1 2 | 3 4 | 5
  split(graph, NodeSet(0b000111), NodeSet(0b111000));
  split(graph, NodeSet(0b011000), NodeSet(0b100000));
  std::vector<int> ranks;
  std::vector<uint64_t> cliques;
  for (const NodeId node : first(6)) {
    NodeSet own;
    ranks.push_back(rank_of(node, graph, first(6), all_vote(6), own));
    cliques.push_back(own.bits());
  }
  EXPECT_THAT(ranks, ElementsAre(0, 0, 0, 1, 1, 2));
  EXPECT_THAT(cliques, ElementsAre(0b111, 0b111, 0b111, 0b11000, 0b11000, 0b100000));
}

// All networks are down, and 64 nodes see each other's heartbeats on the witness.
TEST(RankOf, WhereNobodyHearsAnybodyOnlyTheFirstHaveATurnOfTheirOwn) {
  std::vector<int> ranks;
  for (const NodeId node : first(64)) {
    NodeSet own;
    ranks.push_back(rank_of(node, Graph{}, first(64), all_vote(64), own));
    ASSERT_EQ(own, NodeSet::of(node));
  }
  EXPECT_EQ(std::vector<int>(ranks.begin(), ranks.begin() + 7),
            (std::vector<int>{0, 1, 2, 3, 4, 5, 5}));
  EXPECT_EQ(ranks.back(), 5);
}

// 2^32 cliques, each as good as the others: one of them, after a bounded number of steps.
TEST(RankOf, ManyCliquesAreNotAllLookedAt) {
  Graph graph = complete(64);
  for (NodeId node = 0; node < 64; node += 2) cut(graph, node, static_cast<NodeId>(node + 1));
  NodeSet own;
  const int rank = rank_of(63, graph, first(64), all_vote(64), own);
  EXPECT_LE(rank, 1);
  EXPECT_EQ(own.count(), 32);
  EXPECT_EQ(best_clique(graph, first(64), all_vote(64)).count(), 32);
}

bool is_clique(const Graph& graph, NodeSet set) {
  for (const NodeId node : set) {
    if (!(graph[node] | NodeSet::of(node)).contains(set)) return false;
  }
  return true;
}

// Against all subsets: 200 graphs of 7 nodes with a third of the links broken.
TEST(BestClique, NoSubsetHasMoreVotesOrNodes) {
  base::SeededRandom random(1);
  for (int round = 0; round < 200; ++round) {
    Graph graph = complete(7);
    for (NodeId a = 0; a < 7; ++a) {
      for (NodeId b = 0; b < a; ++b) {
        if (random.below(3) == 0) cut(graph, a, b);
      }
    }
    Weights weights = all_vote(7);
    for (Candidate& each : weights) each.votes = random.below(4) != 0;
    const auto value = [&](NodeSet set) {
      int votes = 0;
      for (const NodeId node : set) votes += weights[node].votes ? 1 : 0;
      return std::pair(votes, set.count());
    };
    const NodeSet best = best_clique(graph, first(7), weights);
    ASSERT_TRUE(is_clique(graph, best));
    for (uint64_t bits = 0; bits < 128; ++bits) {
      if (!is_clique(graph, NodeSet(bits))) continue;
      ASSERT_GE(value(best), value(NodeSet(bits)));
    }
  }
}

}  // namespace
}  // namespace holdfast::qdisk
