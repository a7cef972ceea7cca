#pragma once
// A node's part as acceptor: it keeps a block for each node, as the witness LUN does, and what has
// been decided. Pure. What it answers must be durable before the answer leaves: whoever calls
// learn() or store() makes state() durable when they say so, and only then sends the reply.

#include "qdisk/message.h"

namespace holdfast::qdisk {

struct AcceptorState {
  Decision decided;
  std::array<BallotBlock, kMaxNodes> blocks{};  // of the epoch after it, each by its writer
  bool operator==(const AcceptorState&) const = default;
};

// Owner: Membership. `remembers` is false where the node has lost its state: until an epoch has
// been decided that admits this new life, the node neither answers nor proposes, as it may have
// promised what it does not know any more.
class Acceptor {
 public:
  Acceptor(const AcceptorState& state, NodeId self, Incarnation incarnation, bool remembers);

  const AcceptorState& state() const { return state_; }
  const Decision& decided() const { return state_.decided; }
  const BallotBlock& block(NodeId node) const { return state_.blocks[node]; }
  bool remembers() const { return remembers_; }

  // True: the state has changed.
  bool learn(const Decision& decision);
  // A block of another epoch than the next, or older than the one that is there, changes nothing:
  // on a network, a request may come late or twice.
  bool store(NodeId node, const BallotBlock& block);
  Reply reply(const Request& request) const;

 private:
  AcceptorState state_;
  NodeId self_;
  Incarnation incarnation_;
  bool remembers_;
};

}  // namespace holdfast::qdisk
