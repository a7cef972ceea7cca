// Who has left, what has to be fenced of it, and when that is done.

#include <bit>
#include <utility>

#include "qdisk/membership.h"

namespace holdfast::qdisk {

// Who has left needs fences; and time to stop, unless it says that it has stopped, or lives anew.
void Membership::note_leaving(const Decision& before, io::Instant now) {
  bool unseen = decision().epoch != before.epoch + 1;  // epochs in between
  bool left = unseen;
  bool may_run = unseen;
  for (const NodeId node : before.members()) {
    if (decision().has_member(node, before.incarnations[node])) continue;
    left = true;
    unfenced_.push_back({node, before.incarnations[node]});
    const Heartbeat* of = view_.of(node, now);
    const bool stopped =
        of != nullptr &&
        (of->incarnation > before.incarnations[node] ||
         (of->incarnation == before.incarnations[node] && of->state == NodeState::stopped));
    may_run |= !stopped;
    const bool known = of != nullptr && of->incarnation == before.incarnations[node];
    left_[node] = {before.incarnations[node],
                   {.epoch = decision().epoch,
                    .stops_at = stopped ? now : now + settings_.timers.takeover,
                    .watchdog = known ? of->watchdog : WatchdogKind::none,
                    .stopped = stopped}};
  }
  if (unseen) unfenced_unknown_ = decision().epoch;
  if (may_run) evicted_stopped_at_ = now + settings_.timers.takeover;
  if (left) return;
  if (fenced_ == before.epoch) fenced_ = decision().epoch;
  if (quiesced_ == before.epoch) quiesced_ = decision().epoch;
}

void Membership::on_quiesced(Epoch epoch) { quiesced_ = std::max(quiesced_, epoch); }

void Membership::on_switched_off(const Life& life, io::Instant now) {
  if (life.node >= kMaxNodes || decision().has_member(life.node, life.incarnation)) return;
  auto& [incarnation, departure] = left_[life.node];
  if (incarnation > life.incarnation || departure.stopped) return;
  if (incarnation < life.incarnation) departure = departure_of(life);
  incarnation = life.incarnation;
  departure.stops_at = now;
  departure.stopped = true;
}

Life Membership::life_of(NodeId node) const {
  ASSERT(node < kMaxNodes);
  const Incarnation member = decision().incarnations[node];
  return {node, member != 0 ? member : left_[node].first};
}

Departure Membership::departure_of(const Life& life) const {
  ASSERT(life.node < kMaxNodes && !decision().has_member(life.node, life.incarnation));
  const auto& [incarnation, seen] = left_[life.node];
  // It left before this node began to watch, or in epochs that it has missed.
  Departure out{.epoch = decision().epoch,
                .stops_at = evicted_stopped_at_,
                .fenced = fenced_ >= decision().epoch,
                .timed = fenced_timed_};
  if (incarnation == life.incarnation && incarnation != 0) out = seen;
  // A later life begins when all that the one before ran has ended.
  const Incarnation latest = std::max(incarnation, decision().incarnations[life.node]);
  out.stopped |= latest > life.incarnation && life.incarnation != 0;
  return out;
}

void Membership::on_devices_fenced(Epoch epoch, bool timed) {
  if (epoch <= devices_fenced_) return;
  devices_fenced_ = epoch;
  devices_timed_ = timed;
}

void Membership::look_at_fences(io::Instant now, Effects& effects) {
  if (evicted_ || !lease_valid(now)) return;
  const NodeSet live = live_members(now);
  for (const NodeId node : live - NodeSet::of(settings_.self)) {
    const Heartbeat* of = view_.of(node, now);
    if (of->fenced > fenced_ && of->fenced == decision().epoch) {
      set_fenced(of->fenced, of->fenced_timed);
    }
  }
  const Epoch epoch = decision().epoch;
  if (fenced_ >= epoch) return;
  // A node that has just begun to listen may not have heard the one whose part it is.
  const bool fencer = fencer_of(live, now) == settings_.self &&
                      now - listening_since_ > 2 * settings_.timers.hb_net;
  if (fencer && fence_asked_ < epoch && devices_fenced_ < epoch) {
    fence_asked_ = epoch;
    effects.fence_devices = fence_order(now);
  }
  if (devices_fenced_ < epoch || quiesced_ < epoch) return;
  for (const NodeId node : decision().members() - NodeSet::of(settings_.self)) {
    const Heartbeat* of = view_.of(node, now);
    if (of == nullptr || of->quiesced < epoch || of->incarnation != decision().incarnations[node]) {
      return;
    }
  }
  set_fenced(epoch, devices_timed_);
}

// Whoever reaches most of the devices, the witness counting as one.
NodeId Membership::fencer_of(NodeSet live, io::Instant now) const {
  NodeId best = kNoNode;
  int most = -1;
  for (const NodeId node : live) {
    const Heartbeat* of = view_.of(node, now);
    const bool self = node == settings_.self;
    const int reached = std::popcount(self ? volumes_ok_ : of->volumes_ok) +
                        ((self ? reaches_witness(now) : of->heard_disk.has(node)) ? 1 : 0);
    if (reached <= most) continue;
    most = reached;
    best = node;
  }
  return best;
}

void Membership::set_fenced(Epoch epoch, bool timed) {
  fenced_ = epoch;
  fenced_timed_ = timed;
  unfenced_.clear();
  unfenced_unknown_ = 0;
  for (auto& [incarnation, departure] : left_) {
    if (departure.fenced || departure.epoch > epoch) continue;
    departure.fenced = true;
    departure.timed = timed;
  }
}

FenceOrder Membership::fence_order(io::Instant now) const {
  FenceOrder order{.epoch = decision().epoch,
                   .lives = unfenced_,
                   .unknown_until = unfenced_unknown_,
                   .joining = {}};
  for (const NodeId node : view_.heard(now) - decision().members()) {
    const Heartbeat* of = view_.of(node, now);
    if (of->state == NodeState::joining) order.joining.push_back({node, of->incarnation});
  }
  return order;
}

}  // namespace holdfast::qdisk
