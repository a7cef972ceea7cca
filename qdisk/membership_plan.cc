// What this node should propose, and when its turn is: only a question of liveness.

#include <algorithm>

#include "qdisk/membership.h"

namespace holdfast::qdisk {

// It has been read lately enough. Before the first reading there is none.
bool Membership::reaches_witness(io::Instant now) const {
  const Timers& timers = settings_.timers;
  return witness_ && witness_ok_at_ && now - *witness_ok_at_ < timers.hb_disk + timers.disk_io_to;
}

Incarnation Membership::incarnation_of(NodeId node, io::Instant now) const {
  if (node == settings_.self) return settings_.incarnation;
  const Heartbeat* of = view_.of(node, now);
  return of != nullptr ? of->incarnation : 0;
}

// Members that are heard as the life that is a member, and this node if it is one.
NodeSet Membership::live_members(io::Instant now) const {
  NodeSet live;
  for (const NodeId node : decision().members()) {
    if (node == settings_.self) {
      if (is_member() && !stopped_) live.add(node);
      continue;
    }
    const Heartbeat* of = view_.of(node, now);
    // One that has just become a member may not have said so yet.
    if (of != nullptr && of->state != NodeState::stopped &&
        of->incarnation == decision().incarnations[node]) {
      live.add(node);
    }
  }
  return live;
}

// Members that say that they have stopped.
NodeSet Membership::leaving(io::Instant now) const {
  NodeSet set;
  for (const NodeId node : decision().members() - NodeSet::of(settings_.self)) {
    const Heartbeat* of = view_.of(node, now);
    if (of != nullptr && of->state == NodeState::stopped &&
        of->incarnation == decision().incarnations[node]) {
      set.add(node);
    }
  }
  return set;
}

std::array<Candidate, kMaxNodes> Membership::weights(io::Instant now) const {
  std::array<Candidate, kMaxNodes> out{};
  const Heartbeat own = heartbeat(now);
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    const Heartbeat* of = node == settings_.self ? &own : view_.of(node, now);
    if (of == nullptr) continue;
    out[node] = {.votes = decision().voters.has(node),
                 .reaches_witness = of->heard_disk.has(node),
                 .volumes_ok = of->volumes_ok};
  }
  for (const VolumeOwner& owner : decision().volumes) {
    if (owner.coordinator < kMaxNodes) ++out[owner.coordinator].coordinates;
  }
  return out;
}

bool Membership::witness_usable(io::Instant now) const {
  if (reaches_witness(now)) return true;
  for (const NodeId node : live_members(now) - NodeSet::of(settings_.self)) {
    if (view_.of(node, now)->heard_disk.has(node)) return true;
  }
  return false;
}

Situation Membership::situation(io::Instant now) const {
  Situation out{.current = decision(),
                .policy = settings_.policy,
                .witness_usable = witness_usable(now),
                .change = change_};
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    const Heartbeat* of = view_.of(node, now);
    if (of != nullptr) out.volumes_ok[node] = of->volumes_ok;
  }
  out.volumes_ok[settings_.self] = volumes_ok_;
  return out;
}

// Those who should be members: of those who are, the clique of this node; then whoever wants to
// join and is connected with all of them.
NodeSet Membership::staying(io::Instant now, NodeSet live, int& rank) const {
  const Graph graph = view_.graph(heartbeat(now), now);
  const auto weighed = weights(now);
  // Who has not dropped for so long what evicted nodes asked of it holds up everybody.
  NodeSet responsive = live;
  if (fenced_ < decision().epoch && now - learnt_at_ > settings_.timers.lease) {
    for (const NodeId node : live - NodeSet::of(settings_.self)) {
      if (view_.of(node, now)->quiesced < decision().epoch) responsive.remove(node);
    }
  }
  NodeSet stay;
  rank = rank_of(settings_.self, graph, responsive | NodeSet::of(settings_.self), weighed, stay);
  NodeSet wanting;
  for (const NodeId node : settings_.policy.configured - live) {
    const Heartbeat* of = view_.of(node, now);
    // Who has yet to drop what former members had asked of it would hold up the fence of these.
    if (of != nullptr && of->state == NodeState::joining && of->quiesced >= decision().epoch) {
      wanting.add(node);
    }
  }
  for (const NodeId node : wanting) {
    if (graph[node].contains(stay)) stay.add(node);
  }
  return stay;
}

// One after the other, so that they do not beat each other's ballots.
io::Duration Membership::turn_of(NodeSet proposers) const {
  int before = 0;
  for (const NodeId node : proposers) before += node < settings_.self ? 1 : 0;
  return before * settings_.timers.hb_net;
}

std::optional<Membership::Proposal> Membership::proposal(io::Instant now) const {
  if (!acceptor_.remembers() || stopped_ || decision().epoch == 0) return std::nullopt;
  if (!is_member()) return founding(now);
  int rank = 0;
  const NodeSet live = live_members(now);
  const NodeSet stay = staying(now, live, rank);
  Situation wanted = situation(now);
  for (const NodeId node : stay) wanted.members[node] = incarnation_of(node, now);
  std::optional<Decision> wish = plan(wanted);
  if (!wish) {
    if (!unfinished_) return std::nullopt;
    wish = decision();
    wish->epoch = decision().epoch + 1;
    return Proposal{.wish = *wish, .delay = settings_.timers.hb_net + turn_of(live)};
  }
  // A clique that is not the best leaves the better ones the time to act.
  const bool evicts = !stay.contains(decision().members() - leaving(now));
  // Silence counts once it could have been heard; and who has just become a member may not yet hear
  // all the others, or not have said so.
  if (evicts && (now - listening_since_ < settings_.timers.net_dead ||
                 now - learnt_at_ < 3 * settings_.timers.hb_net)) {
    return std::nullopt;
  }
  const io::Duration arbitration = settings_.timers.disk_io_to + settings_.timers.hb_disk;
  return Proposal{.wish = *wish, .delay = rank * arbitration + turn_of(stay & live)};
}

// All members are gone or new lives: after a power cut nobody is a member. Those who remember begin
// again, with a majority as always, after they have given the others the time to appear.
std::optional<Membership::Proposal> Membership::founding(io::Instant now) const {
  if (!live_members(now).empty() || !settings_.policy.configured.has(settings_.self)) {
    return std::nullopt;
  }
  NodeSet joining = NodeSet::of(settings_.self);
  for (const NodeId node : settings_.policy.configured) {
    const Heartbeat* of = view_.of(node, now);
    if (of == nullptr || of->state != NodeState::joining) continue;
    // Of another generation or newer than this node: that one is to found.
    if (of->remembers && of->epoch > decision().epoch) return std::nullopt;
    joining.add(node);
  }
  NodeSet stay;
  const int rank =
      rank_of(settings_.self, view_.graph(heartbeat(now), now), joining, weights(now), stay);
  Situation wanted = situation(now);
  for (const NodeId node : stay) wanted.members[node] = incarnation_of(node, now);
  std::optional<Decision> wish = plan(wanted);
  if (!wish) return std::nullopt;
  const bool complete = stay.contains(settings_.policy.configured);
  const io::Duration patience = complete ? settings_.timers.hb_net : settings_.timers.net_dead;
  const io::Duration arbitration = settings_.timers.disk_io_to + settings_.timers.hb_disk;
  NodeSet founders = stay;
  for (const NodeId node : stay - NodeSet::of(settings_.self)) {
    if (!view_.of(node, now)->remembers) founders.remove(node);
  }
  return Proposal{.wish = *wish, .delay = patience + rank * arbitration + turn_of(founders)};
}

void Membership::consider(io::Instant now, Effects& effects) {
  const auto wanted = proposal(now);
  if (!wanted) {
    wanted_since_.reset();
    // The need is gone; a value that has been proposed is not taken back, as it may be chosen.
    if (proposer_.state() == Proposer::State::phase1) proposer_.give_up();
    return;
  }
  if (!wanted_since_ || wanted_ != wanted->wish.incarnations) {
    wanted_ = wanted->wish.incarnations;
    wanted_since_ = now;
    // A ballot that no majority has answered yet would bring what was wished before.
    if (proposer_.state() == Proposer::State::phase1) proposer_.give_up();
  }
  if (proposer_.running() || now < not_before_ || now - *wanted_since_ < wanted->delay) return;
  begin_ballot(wanted->wish, now, effects);
}

}  // namespace holdfast::qdisk
