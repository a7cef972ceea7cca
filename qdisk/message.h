#pragma once
// What nodes ask of an acceptor and what it answers: docs/qdisk-protocol.md, "Deciding". The
// witness LUN is an acceptor, too: its requests are written and read instead of sent.

#include <optional>
#include <vector>

#include "common/io/loop.h"
#include "qdisk/decision.h"
#include "qdisk/heartbeat.h"

namespace holdfast::qdisk {

struct Request {
  io::Instant sent_at{};  // by the sender's clock; the reply bears it, and nobody else reads it
  NodeId from = kNoNode;
  Incarnation incarnation = 0;
  // The newest that the sender knows: an acceptor never holds a block of an epoch whose forerunner
  // it does not know, so that who reads the block finds the forerunner, too.
  Decision decided;
  // Stored before the reply is made. Absent: only the reply is wanted, to renew the lease.
  std::optional<BallotBlock> store;
  bool operator==(const Request&) const = default;
};

struct NodeBlock {
  NodeId node = kNoNode;
  BallotBlock block;
  bool operator==(const NodeBlock&) const = default;
};

struct Reply {
  io::Instant sent_at{};        // of the request,
  Incarnation incarnation = 0;  // and the life that sent it
  // The acceptor knows what it has promised. Without that its reply tells what has been decided,
  // and nothing else.
  bool remembers = true;
  Decision decided;               // the newest that the acceptor knows
  std::vector<NodeBlock> blocks;  // all that it holds of later epochs
  bool operator==(const Reply&) const = default;
};

// Whether the acceptor says, as of the moment when it replied, that this life of the node is a
// member and that it holds nothing by which a majority may have decided anything later. A majority
// of such replies, each to a request that was sent at or after a moment t, proves that at t no
// later epoch had been decided: a majority would have held a phase-2 block of it (bal != 0). A
// value that keeps this life does not help: the epoch after it may have left it out, decided by
// other voters.
bool vouches(const Reply& reply, Epoch epoch, NodeId node, Incarnation incarnation);

}  // namespace holdfast::qdisk
