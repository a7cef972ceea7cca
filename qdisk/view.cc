#include "qdisk/view.h"

#include <tuple>

namespace holdfast::qdisk {

namespace {

bool newer(const Heartbeat& heartbeat, const Heartbeat& than) {
  return std::tie(heartbeat.incarnation, heartbeat.sequence) >
         std::tie(than.incarnation, than.sequence);
}

}  // namespace

void View::take(Peer& peer, const Heartbeat& heartbeat) {
  if (!peer.newest || newer(heartbeat, *peer.newest)) peer.newest = heartbeat;
}

void View::on_network(size_t network, const Heartbeat& heartbeat, io::Instant now) {
  if (heartbeat.node >= kMaxNodes || heartbeat.node == self_ || network >= kMaxNetworks) return;
  Peer& peer = peers_[heartbeat.node];
  // Of an earlier life, and late. A node that has lost its state, and whose later life is silent,
  // may know no better number.
  if (peer.newest && heartbeat.incarnation < peer.newest->incarnation) {
    if (of(heartbeat.node, now) != nullptr) return;
    peer.newest = heartbeat;
  }
  peer.net_at[network] = now;
  take(peer, heartbeat);
}

void View::on_contact(NodeId node, io::Instant now) {
  ASSERT(node < kMaxNodes);
  Peer& peer = peers_[node];
  if (!peer.newest) return;
  // Where its heartbeats come it is known over which networks it is heard.
  for (size_t network = 1; network < kMaxNetworks; ++network) {
    if (fresh_net(peer, network, now)) return;
  }
  peer.net_at[0] = now;
}

void View::on_disk(const Heartbeat& heartbeat, io::Instant now) {
  if (heartbeat.node >= kMaxNodes || heartbeat.node == self_) return;
  Peer& peer = peers_[heartbeat.node];
  if (peer.disk_seen && !newer(heartbeat, *peer.disk_seen)) return;
  if (peer.disk_seen) {
    peer.disk_at = now;
    take(peer, heartbeat);
  }
  peer.disk_seen = heartbeat;
}

bool View::fresh_net(const Peer& peer, size_t network, io::Instant now) const {
  return peer.net_at[network] && now - *peer.net_at[network] < timers_.net_dead;
}

// As long as silence on the network may last: the two must not disagree for long.
bool View::fresh_disk(const Peer& peer, io::Instant now) const {
  return peer.disk_at &&
         now - *peer.disk_at < timers_.net_dead + timers_.hb_disk + timers_.disk_io_to;
}

NodeSet View::heard_net(size_t network, io::Instant now) const {
  NodeSet set;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (fresh_net(peers_[node], network, now)) set.add(node);
  }
  return set;
}

NodeSet View::heard_disk(io::Instant now) const {
  NodeSet set;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (fresh_disk(peers_[node], now)) set.add(node);
  }
  return set;
}

NodeSet View::heard(io::Instant now) const {
  NodeSet set;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (of(node, now) != nullptr) set.add(node);
  }
  return set;
}

const Heartbeat* View::of(NodeId node, io::Instant now) const {
  const Peer& peer = peers_[node];
  bool fresh = fresh_disk(peer, now);
  for (size_t network = 0; network < kMaxNetworks; ++network) {
    fresh = fresh || fresh_net(peer, network, now);
  }
  return fresh ? &*peer.newest : nullptr;
}

Graph View::graph(const Heartbeat& own, io::Instant now) const {
  const NodeSet known = heard(now);
  std::array<NodeSet, kMaxNetworks> everybody;
  everybody.fill(known | NodeSet::of(self_));
  std::array<const std::array<NodeSet, kMaxNetworks>*, kMaxNodes> hears{};
  for (const NodeId node : known) {
    const Heartbeat& newest = *peers_[node].newest;
    // A member whose daemon was restarted may hear everybody; who wants to become one waits.
    const bool unknown = newest.settling && newest.state == NodeState::member;
    hears[node] = unknown ? &everybody : &newest.heard_net;
  }
  hears[self_] = &own.heard_net;

  Graph graph{};
  for (NodeId a = 0; a < kMaxNodes; ++a) {
    if (hears[a] == nullptr) continue;
    for (size_t network = 0; network < kMaxNetworks; ++network) {
      for (const NodeId b : (*hears[a])[network]) {
        if (b == a || (hears[b] != nullptr && !(*hears[b])[network].has(a))) continue;
        graph[a].add(b);
        graph[b].add(a);
      }
    }
  }
  return graph;
}

}  // namespace holdfast::qdisk
