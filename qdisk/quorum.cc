#include "qdisk/quorum.h"

namespace holdfast::qdisk {

namespace {

NodeId highest(NodeSet set) {
  NodeId found = kNoNode;
  for (const NodeId node : set) found = node;
  return found;
}

// A partner in the vote for the last member: preferably one whose vote counted until now.
NodeId partner_of(NodeSet last, const Decision& current, NodeSet configured) {
  const NodeSet before = (current.voters & configured) - last;
  if (!before.empty()) return before.lowest();
  const NodeSet others = configured - last;
  return others.empty() ? kNoNode : others.lowest();
}

}  // namespace

int votes(const Decision& decision) {
  return decision.voters.count() + (decision.witness_votes ? 1 : 0);
}

int majority(const Decision& decision) { return votes(decision) / 2 + 1; }

int votes_of(const Decision& decision, const Answers& answers) {
  return (decision.voters & answers.nodes).count() +
         (decision.witness_votes && answers.witness ? 1 : 0);
}

void choose_voters(Decision& next, const Decision& current, const VoterPolicy& policy,
                   bool witness_usable) {
  const NodeSet members = next.members();
  ASSERT(!members.empty());
  next.voters = members;
  next.witness_votes = false;
  const bool has_witness =
      policy.mode == QuorumMode::node_and_disk_majority && next.witness != Uuid{};
  const Answers present{.nodes = members, .witness = has_witness && witness_usable};
  // Never voters of whom those who are here are no majority: after a forced quorum one node is
  // left, which may have no partner and no witness. Of two nodes and a witness any two go on,
  // whoever is absent, and whoever was absent finds the newest configuration in what votes with it.
  if (has_witness && policy.configured.count() == 2 && policy.configured.contains(members) &&
      !(policy.last_man_solo && members.count() == 1)) {
    next.voters = policy.configured;
    next.witness_votes = true;
    if (is_majority(next, present)) return;
    next.voters = members;
    next.witness_votes = false;
  }
  if (has_witness && witness_usable) {
    if (members.count() == 1 && !policy.last_man_solo) {
      const NodeId partner = partner_of(members, current, policy.configured);
      if (partner != kNoNode) next.voters.add(partner);
    }
    next.witness_votes = next.voters.count() % 2 == 0;
    return;
  }
  if (members.count() % 2 == 0) {
    next.voters.remove(members.has(policy.lower_priority) ? policy.lower_priority
                                                          : highest(members));
  }
}

}  // namespace holdfast::qdisk
