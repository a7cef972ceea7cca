#include "tests/sim/judge.h"

namespace holdfast::sim {

void Judge::check(std::string what) {
  if (what.empty()) return;
  world_.trace("BREACH: {}", what);
  if (breaches_.size() < kMaxBreaches) breaches_.push_back(std::move(what));
}

void Judge::write_begun(const WriteOwner& owner) { open_[{owner.unit->lun, owner.write}] = owner; }

void Judge::write_received(const Unit& unit, WriteId write) {
  const auto found = open_.find({unit.lun, write});
  if (found != open_.end()) found->second.received = true;
}

void Judge::write_ended(const Unit& unit, WriteId write) { open_.erase({unit.lun, write}); }

std::vector<WriteOwner> Judge::received_writes(const Unit& unit) const {
  std::vector<WriteOwner> found;
  for (const auto& [key, owner] : open_) {
    if (owner.unit == &unit && owner.received) found.push_back(owner);
  }
  return found;
}

void Judge::barrier(const char* why, const Covers& covers) {
  for (const auto& [key, owner] : open_) {
    if (!covers(owner)) continue;
    fenced_.erase(key);
    world_.trace("barrier of lun {} write {}: {}", key.first, key.second, why);
    owner.unit->data.barrier(owner.write, world_.now());
  }
}

void Judge::preempted(const Unit& unit, const std::set<PrNexus>& nexuses,
                      const std::vector<WriteOwner>& older) {
  std::set<WriteId> ended;
  for (const WriteOwner& owner : older) {
    if (nexuses.contains(owner.nexus)) ended.insert(owner.write);
  }
  barrier("preempted", [&](const WriteOwner& owner) {
    return owner.unit == &unit && ended.contains(owner.write);
  });
  for (const auto& [key, owner] : open_) {
    if (owner.unit != &unit || !nexuses.contains(owner.nexus)) continue;
    if (ended.contains(owner.write) || !unit.reservations.surely_fenced(owner.nexus)) continue;
    world_.trace("barrier of lun {} write {}: fenced", key.first, key.second);
    owner.unit->data.barrier(owner.write, world_.now());
    fenced_[key] = owner;
  }
}

void Judge::check_fences(const Unit& unit) {
  std::erase_if(fenced_, [&](const auto& entry) {
    const WriteOwner& owner = entry.second;
    if (!open_.contains(entry.first)) return true;
    if (owner.unit != &unit || unit.reservations.surely_fenced(owner.nexus)) return false;
    world_.trace("fence of lun {} write {} is gone", unit.lun, owner.write);
    owner.unit->data.lift_barrier(owner.write);
    return true;
  });
}

void Judge::session_replaced(const PrNexus& nexus, uint32_t instance) {
  barrier("session replaced", [&](const WriteOwner& owner) {
    return owner.nexus == nexus && owner.instance == instance;
  });
}

void Judge::unit_served(Unit& unit, uint32_t instance) {
  if (unit.served_by >= instance) return;
  unit.served_by = instance;
  barrier("served by a new process", [&](const WriteOwner& owner) {
    return owner.unit == &unit && owner.instance < instance;
  });
}

void Judge::target_killed() {
  for (const auto& unit : units_) {
    unit->reservations.restarted(world_.now());
    check_fences(*unit);
  }
}

void Judge::power_lost() {
  for (const auto& unit : units_) {
    unit->data.power_lost(world_.now());
    unit->reservations.restarted(world_.now());
  }
  open_.clear();
  fenced_.clear();
}

}  // namespace holdfast::sim
