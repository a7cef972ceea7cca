#pragma once
// One ballot of this node for the next epoch (Gafni and Lamport, "Disk Paxos"): a block is written
// to the acceptors and all blocks are read there, twice. Pure.

#include <optional>

#include "common/io/loop.h"
#include "qdisk/acceptor.h"
#include "qdisk/quorum.h"

namespace holdfast::qdisk {

// The witness as an acceptor, beside the numbers of nodes.
inline constexpr NodeId kWitness = kMaxNodes;

// Owner: Membership.
class Proposer {
 public:
  enum class State : uint8_t {
    idle,
    phase1,   // a majority must learn that a ballot has begun; what may have been chosen is found
    phase2,   // a majority must take the value
    decided,  // value() is decided
    beaten,   // somebody has begun a greater ballot
  };

  Proposer(NodeId self, Incarnation incarnation) : self_(self), incarnation_(incarnation) {}

  State state() const { return state_; }
  bool running() const { return state_ == State::phase1 || state_ == State::phase2; }
  // The block that the acceptors are to store. It changes with the state.
  const BallotBlock& block() const { return block_; }
  const Decision& value() const { return block_.value; }
  // Counts with each block, for the requests: a reply to an earlier one tells nothing of this one.
  uint64_t step() const { return step_; }
  bool has_answered(NodeId acceptor) const;

  // `own`: the node's block as it was last written, for the epoch after `current` or older: what it
  // once proposed in that epoch must not be forgotten. `wish` names the epoch after `current`.
  void begin(const Decision& current, const BallotBlock& own, const Decision& wish);
  // Of acceptor `from`, to the request that bore block(). It counts if it shows that very block.
  State on_reply(NodeId from, const Reply& reply);
  void give_up() { state_ = State::idle; }

 private:
  void take_greatest(const BallotBlock& block);
  void advance();

  NodeId self_;
  Incarnation incarnation_;
  State state_ = State::idle;
  Decision current_;
  Decision wish_;
  BallotBlock block_;
  uint64_t step_ = 0;
  Answers answers_;
  Ballot greatest_bal_ = 0;
  Decision greatest_value_;
  uint64_t greatest_round_ = 0;  // seen anywhere in this epoch
};

}  // namespace holdfast::qdisk
