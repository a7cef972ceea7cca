#pragma once
// What this node knows of the others: who hears whom, over each network and through the witness.
// It decides nothing that must be safe, only who should propose what: docs/qdisk-protocol.md. Pure.

#include <array>
#include <optional>

#include "common/io/loop.h"
#include "qdisk/heartbeat.h"
#include "qdisk/timers.h"

namespace holdfast::qdisk {

using Graph = std::array<NodeSet, kMaxNodes>;  // for each node those it is connected with

// Owner: Membership.
class View {
 public:
  View(NodeId self, const Timers& timers) : self_(self), timers_(timers) {}

  void on_network(size_t network, const Heartbeat& heartbeat, io::Instant now);
  // Any other message of the node: it is heard, whatever keeps its heartbeats away (a firewall that
  // lets only one of two connections through).
  void on_contact(NodeId node, io::Instant now);
  // As read from the witness at `now`. Two successful reads with different sequences show life; one
  // shows nothing, as it may be years old.
  void on_disk(const Heartbeat& heartbeat, io::Instant now);

  NodeSet heard_net(size_t network, io::Instant now) const;
  NodeSet heard_disk(io::Instant now) const;
  // By any way.
  NodeSet heard(io::Instant now) const;
  // The newest of the node, while it is heard by any way. Null: it is silent.
  const Heartbeat* of(NodeId node, io::Instant now) const;
  // An edge where both hear each other over at least one network. What a silent node, or a settling
  // member, hears is not known: it is taken to hear those who hear it, if anybody does. `own`: what
  // this node itself says.
  Graph graph(const Heartbeat& own, io::Instant now) const;

 private:
  struct Peer {
    std::optional<Heartbeat> newest;
    std::array<std::optional<io::Instant>, kMaxNetworks> net_at{};
    std::optional<Heartbeat> disk_seen;  // as of the first or the last change that was read
    std::optional<io::Instant> disk_at;  // of the last change
  };
  static void take(Peer& peer, const Heartbeat& heartbeat);
  bool fresh_net(const Peer& peer, size_t network, io::Instant now) const;
  bool fresh_disk(const Peer& peer, io::Instant now) const;

  NodeId self_;
  Timers timers_;
  std::array<Peer, kMaxNodes> peers_{};
};

}  // namespace holdfast::qdisk
