#pragma once
// Votes: what a majority of the voters of a decision is, and who votes next. Pure.

#include "qdisk/decision.h"

namespace holdfast::qdisk {

// The quorum modes that an administrator chooses.
enum class QuorumMode : uint8_t { node_majority, node_and_disk_majority };

// The acceptors that have answered: nodes, and the witness LUN.
struct Answers {
  NodeSet nodes;
  bool witness = false;
};

int votes(const Decision& decision);
int majority(const Decision& decision);
int votes_of(const Decision& decision, const Answers& answers);
inline bool is_majority(const Decision& decision, const Answers& answers) {
  return votes_of(decision, answers) >= majority(decision);
}

struct VoterPolicy {
  QuorumMode mode = QuorumMode::node_and_disk_majority;
  NodeSet configured;               // all nodes that belong to the cluster, members or not
  NodeId lower_priority = kNoNode;  // loses its vote where one too many would vote
  // The last of two nodes votes alone: it survives the loss of the witness, and the other can never
  // start alone.
  bool last_man_solo = false;
};

// Sets the voters of `next`, whose members are there. `current` names those before it.
void choose_voters(Decision& next, const Decision& current, const VoterPolicy& policy,
                   bool witness_usable);

}  // namespace holdfast::qdisk
