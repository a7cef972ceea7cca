#include "qdisk/arbitration.h"

#include <tuple>

namespace holdfast::qdisk {

namespace {

using Weights = std::array<Candidate, kMaxNodes>;

// This is done at each tick: with so many, 64 nodes and links broken at random take 0.1 ms, where
// all branches would take 30 ms. A few broken links need less.
constexpr int kMaxBranches = 200;
// Whoever comes later than that has half a minute to wait anyhow.
constexpr int kMaxRank = 5;

auto weight_of(NodeSet clique, const Weights& weights) {
  int votes = 0;
  int coordinates = 0;
  bool witness = false;
  uint16_t volumes = 0xffff;
  for (const NodeId node : clique) {
    votes += weights[node].votes ? 1 : 0;
    coordinates += weights[node].coordinates;
    witness = witness || weights[node].reaches_witness;
    volumes &= weights[node].volumes_ok;
  }
  if (clique.empty()) volumes = 0;
  const int lowest = clique.empty() ? 0 : -static_cast<int>(clique.lowest());
  return std::tuple(votes, clique.count(), witness, std::popcount(volumes), coordinates, lowest);
}

class Search {
 public:
  // `branches`: how many it may still look at; beyond that it takes the first clique it finds.
  Search(const Graph& graph, const Weights& weights, int& branches)
      : graph_(graph), weights_(weights), branches_(branches) {}

  // The cliques within `rest`: without a broken link it is one. Else the node with the most of them
  // is out, or those are that it does not hear; of several the highest, as what is found first is
  // found also where there is no time for more.
  void look(NodeSet rest) {
    if (--branches_ < 0 && !best_.empty()) return;
    NodeId worst = kNoNode;
    int most = 0;
    for (const NodeId node : rest) {
      const int broken = (rest - graph_[node] - NodeSet::of(node)).count();
      if (broken == 0 || broken < most) continue;
      most = broken;
      worst = node;
    }
    if (worst == kNoNode) {
      if (weight_of(rest, weights_) > weight_of(best_, weights_)) best_ = rest;
      return;
    }
    // No subset has more votes or nodes: nothing better is in there.
    if (bound_of(rest) < bound_of(best_)) return;
    look(rest - NodeSet::of(worst));
    look(rest & (graph_[worst] | NodeSet::of(worst)));
  }

  NodeSet best() const { return best_; }

 private:
  std::pair<int, int> bound_of(NodeSet set) const {
    int votes = 0;
    for (const NodeId node : set) votes += weights_[node].votes ? 1 : 0;
    return {votes, set.count()};
  }

  const Graph& graph_;
  const Weights& weights_;
  NodeSet best_;
  int& branches_;
};

}  // namespace

NodeSet best_clique(const Graph& graph, NodeSet candidates, const Weights& weights) {
  int branches = kMaxBranches;
  Search search(graph, weights, branches);
  search.look(candidates);
  return search.best();
}

int rank_of(NodeId node, const Graph& graph, NodeSet candidates, const Weights& weights,
            NodeSet& own_clique) {
  ASSERT(candidates.has(node));
  int branches = kMaxBranches;
  for (int rank = 0;; ++rank) {
    Search search(graph, weights, branches);
    search.look(rank < kMaxRank ? candidates : candidates & (graph[node] | NodeSet::of(node)));
    own_clique = search.best();
    if (own_clique.has(node) || rank == kMaxRank) return rank;
    candidates = candidates - own_clique;
  }
}

}  // namespace holdfast::qdisk
