#include "tests/sim/quorum_judge.h"

#include <algorithm>

#include "qdisk/layout.h"

namespace holdfast::sim {

using namespace std::chrono_literals;
using qdisk::Decision;
using qdisk::NodeId;
using qdisk::Token;

void QuorumJudge::breach(std::string what) {
  world_.trace("BREACH: {}", what);
  breaches_.push_back(std::move(what));
}

void QuorumJudge::decided(const Decision& decision) {
  const auto [known, is_new] =
      decided_.try_emplace(decision.epoch, Decided{decision, world_.now()});
  if (is_new) ++epochs;
  if (known->second.value != decision) {
    breach(fmt::format("two values for epoch {}", qdisk::count_of(decision.epoch)));
  }
}

void QuorumJudge::opened(const Token& token) {
  if (token.term > opened_.term) ++terms;
  opened_ = std::max(opened_, token);
}

// By the term: the same coordinator goes on in later epochs.
void QuorumJudge::landed(const Token& token) {
  ++writes;
  if (token.term < opened_.term) {
    breach(
        fmt::format("a write of term {} landed after term {} had begun", token.term, opened_.term));
  }
}

void QuorumJudge::preempting(const qdisk::Life& by, const qdisk::Life& victim,
                             const Decision& known) {
  if (victim.node == by.node || !known.has_member(victim.node, victim.incarnation)) return;
  breach(fmt::format("node {} fences node {}, which is a member", by.node, victim.node));
}

void QuorumJudge::landed_of(size_t lun, const qdisk::Life& life, bool fenced) {
  if (fenced) breach(fmt::format("a write of node {} landed after it was fenced", life.node));
  qdisk::Incarnation& latest = wrote_[{lun, life.node}];
  if (life.incarnation < latest) {
    breach(fmt::format("a write of life {} of node {} landed after one of life {}",
                       life.incarnation, life.node, latest));
  }
  latest = std::max(latest, life.incarnation);
}

void QuorumJudge::ballot_landed(NodeId node, const qdisk::BallotBlock& block) {
  auto& highest = ballots_[node];
  const std::pair now{block.epoch, block.mbal};
  if (now < highest) breach(fmt::format("the ballot block of node {} goes back", node));
  highest = std::max(highest, now);
}

void QuorumJudge::leased(const qdisk::Life& life, qdisk::Epoch epoch, std::optional<Duration> until,
                         std::optional<Duration> confirmed_at, Duration length) {
  for (auto each = decided_.upper_bound(epoch); each != decided_.end(); ++each) {
    const auto& [value, at] = each->second;
    if (value.has_member(life.node, life.incarnation)) continue;
    if (until && *until > at + length + length / 1000) breach("a lease from after an eviction");
    if (confirmed_at && *confirmed_at > at + 1us) breach("confirmed after an eviction");
  }
}

void QuorumJudge::vm_started(NodeId node) {
  ++vm_starts;
  if (vm_) breach(fmt::format("the virtual machine runs on node {} and node {}", *vm_, node));
  vm_ = node;
}

void QuorumJudge::vm_ended(NodeId node) {
  if (vm_ == node) vm_.reset();
}

}  // namespace holdfast::sim
