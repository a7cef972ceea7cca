#include "qdisk/plan.h"

#include <tuple>

namespace holdfast::qdisk {

namespace {

using base::Errc;

bool exists(const VolumeOwner& owner) { return owner.coordinator != kNoNode; }

void give(VolumeOwner& owner, NodeId coordinator) {
  owner.coordinator = coordinator;
  ++owner.term;
}

// Whoever reaches the volume, then who coordinates the fewest, then the lowest number.
NodeId coordinator_for(size_t volume, const Decision& next, const Situation& situation,
                       NodeId not_this = kNoNode) {
  std::array<int, kMaxNodes> load{};
  for (const VolumeOwner& owner : next.volumes) {
    if (exists(owner)) ++load[owner.coordinator];
  }
  NodeId best = kNoNode;
  const auto rating = [&](NodeId node) {
    const bool reaches = (situation.volumes_ok[node] >> volume & 1) != 0;
    return std::tuple(!reaches, load[node], node);
  };
  NodeSet candidates = next.members();
  if (candidates.count() > 1)
    candidates = candidates - (not_this < kMaxNodes ? NodeSet::of(not_this) : NodeSet());
  for (const NodeId node : candidates) {
    if (best == kNoNode || rating(node) < rating(best)) best = node;
  }
  return best;
}

void apply(const Change& change, Decision& next, const Situation& situation) {
  VolumeOwner& owner = next.volumes[change.volume];
  const NodeId wanted = next.members().has(change.coordinator)
                            ? change.coordinator
                            : coordinator_for(change.volume, next, situation, change.from);
  switch (change.kind) {
    case Change::Kind::config:
      if (change.config.version > next.config.version) next.config = change.config;
      break;
    case Change::Kind::add_volume:
      if (!exists(owner)) give(owner, wanted);
      break;
    case Change::Kind::remove_volume:
      owner.coordinator = kNoNode;
      break;
    case Change::Kind::move_volume:
      // To nobody else, and it would move for ever: a change stays asked for until it is fulfilled.
      if (exists(owner) && owner.coordinator == change.from && wanted != change.from) {
        give(owner, wanted);
      }
      break;
    case Change::Kind::use_witness:
      next.witness = change.witness;
      break;
    case Change::Kind::evict:  // leave_out() has done it, before anything was given to it
      break;
  }
}

void leave_out(const Life& life, Decision& next) {
  if (next.has_member(life.node, life.incarnation)) next.incarnations[life.node] = 0;
}

}  // namespace

std::optional<Decision> plan(const Situation& situation) {
  const Decision& current = situation.current;
  Decision next = current;
  next.forced = false;
  next.incarnations = situation.members;
  const auto& change = situation.change;
  if (change && change->kind == Change::Kind::evict) leave_out(change->life, next);
  ASSERT(!next.members().empty());
  // A new life of a coordinator is another coordinator: it knows nothing of what the old one did.
  for (VolumeOwner& owner : next.volumes) {
    if (exists(owner) &&
        !next.has_member(owner.coordinator, current.incarnations[owner.coordinator])) {
      owner.coordinator = kNoNode;
    } else {
      continue;
    }
    const auto volume = static_cast<size_t>(&owner - next.volumes.data());
    give(owner, coordinator_for(volume, next, situation));
  }
  if (change) apply(*change, next, situation);
  choose_voters(next, current, situation.policy, situation.witness_usable);
  Decision same = current;
  same.forced = false;
  if (next == same) return std::nullopt;
  next.epoch = current.epoch + 1;
  return next;
}

bool pending(const Change& change, const Decision& decision) {
  const VolumeOwner& owner = decision.volumes[change.volume];
  switch (change.kind) {
    case Change::Kind::config:
      return change.config.version > decision.config.version;
    case Change::Kind::add_volume:
      return !exists(owner);
    case Change::Kind::remove_volume:
      return exists(owner);
    case Change::Kind::move_volume:
      return exists(owner) && owner.coordinator == change.from;
    case Change::Kind::use_witness:
      return decision.witness != change.witness;
    case Change::Kind::evict:
      return decision.has_member(change.life.node, change.life.incarnation);
  }
  return false;
}

base::Result<> possible(const Change& change, const Decision& current) {
  const bool about_volume = change.kind == Change::Kind::add_volume ||
                            change.kind == Change::Kind::remove_volume ||
                            change.kind == Change::Kind::move_volume;
  if (about_volume && change.volume >= kMaxVolumes) {
    return base::fail(Errc::invalid_argument, "there are at most 16 volumes");
  }
  if (about_volume && change.kind != Change::Kind::add_volume &&
      !exists(current.volumes[change.volume])) {
    return base::fail(Errc::not_found, "there is no such volume");
  }
  if (change.kind == Change::Kind::add_volume && exists(current.volumes[change.volume])) {
    return base::fail(Errc::exists, "the volume is there already");
  }
  if (change.coordinator != kNoNode && !current.members().has(change.coordinator)) {
    return base::fail(Errc::invalid_argument, "the node is no member");
  }
  if (change.kind == Change::Kind::move_volume && change.coordinator == change.from) {
    return base::fail(Errc::invalid_argument, "the volume is there already");
  }
  if (change.kind == Change::Kind::config && change.config.version <= current.config.version) {
    return base::fail(Errc::invalid_argument, "a newer configuration counts already");
  }
  const Life& life = change.life;
  if (change.kind == Change::Kind::evict &&
      (life.node >= kMaxNodes || !current.has_member(life.node, life.incarnation))) {
    return base::fail(Errc::not_found, "this life of the node is no member");
  }
  return {};
}

}  // namespace holdfast::qdisk
