#include "qdisk/arbitration.h"

#include <tuple>

namespace holdfast::qdisk {

namespace {

using Weights = std::array<Candidate, kMaxNodes>;

// As many branches as 64 nodes with a few broken links need by far.
constexpr int kMaxBranches = 20'000;

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
  Search(const Graph& graph, const Weights& weights) : graph_(graph), weights_(weights) {}

  // The cliques within `rest`: without a broken link it is one. Else the node with the most of them
  // is out, or those are that it does not hear.
  void look(NodeSet rest) {
    if (++branches_ > kMaxBranches && !best_.empty()) return;
    NodeId worst = kNoNode;
    int most = 0;
    for (const NodeId node : rest) {
      const int broken = (rest - graph_[node] - NodeSet::of(node)).count();
      if (broken <= most) continue;
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
  int branches_ = 0;
};

}  // namespace

NodeSet best_clique(const Graph& graph, NodeSet candidates, const Weights& weights) {
  Search search(graph, weights);
  search.look(candidates);
  return search.best();
}

int rank_of(NodeId node, const Graph& graph, NodeSet candidates, const Weights& weights,
            NodeSet& own_clique) {
  ASSERT(candidates.has(node));
  for (int rank = 0;; ++rank) {
    own_clique = best_clique(graph, candidates, weights);
    if (own_clique.has(node)) return rank;
    candidates = candidates - own_clique;
  }
}

}  // namespace holdfast::qdisk
