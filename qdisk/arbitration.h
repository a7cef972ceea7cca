#pragma once
// Which of the nodes that hear each other should stay: a question of who proposes first, never of
// safety, which the voters decide. Pure.

#include <array>

#include "qdisk/quorum.h"
#include "qdisk/view.h"

namespace holdfast::qdisk {

// What one node counts for, compared over whole cliques, the first difference deciding.
struct Candidate {
  bool votes = false;
  bool reaches_witness = false;
  uint16_t volumes_ok = 0;
  int coordinates = 0;  // volumes
};

// The best set of candidates of whom each hears each other: most votes, then most nodes, then the
// witness reached by any, then most volumes that all reach, then most volumes coordinated, then the
// lowest number. Exact while the graph is nearly complete, as it is in practice; after a bounded
// number of steps the best so far.
NodeSet best_clique(const Graph& graph, NodeSet candidates,
                    const std::array<Candidate, kMaxNodes>& weights);

// All candidates divided into cliques, the best first: a node's turn to propose is its clique's
// place. Those after the fifth all have the sixth, each with the best clique that it belongs to.
int rank_of(NodeId node, const Graph& graph, NodeSet candidates,
            const std::array<Candidate, kMaxNodes>& weights, NodeSet& own_clique);

}  // namespace holdfast::qdisk
