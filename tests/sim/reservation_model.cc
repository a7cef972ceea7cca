#include "tests/sim/reservation_model.h"

#include <algorithm>

namespace holdfast::sim {

namespace {

using scsi::PrType;

bool all_registrants(uint8_t type) { return type == 7 || type == 8; }
bool registrants_only(uint8_t type) { return type == 5 || type == 6; }
bool exclusive_access(uint8_t type) { return type == 3 || type == 6 || type == 8; }

void drop_reservation(PrState& state) {
  state.type = 0;
  state.holder = {};
}

// SPC-4 5.13, Unregistering: what losing a registration does to the reservation.
void unregister(PrState& state, const PrNexus& nexus) {
  const bool held = state.holds(nexus);
  state.keys.erase(nexus);
  if (!held) return;
  if (all_registrants(state.type) && !state.keys.empty()) return;
  drop_reservation(state);
}

// READ FULL STATUS does not tell whether the state is kept over power loss.
bool same_report(const PrState& a, PrState b) {
  b.aptpl = a.aptpl;
  return a == b;
}

PrEffect refuse(const PrState& state, scsi::Status status) { return {status, state, {}}; }

PrEffect register_key(const PrState& before, const PrNexus& nexus, const PrCommand& command,
                      bool ignore) {
  const auto registered = before.keys.find(nexus);
  const uint64_t current = registered == before.keys.end() ? 0 : registered->second;
  if (!ignore && current != command.key) return refuse(before, scsi::Status::reservation_conflict);
  PrEffect effect{scsi::Status::good, before, {}};
  if (current == 0 && command.service_action_key == 0) return effect;  // Registering: nothing
  effect.state.generation++;
  effect.state.aptpl = command.aptpl;
  if (command.service_action_key != 0) {
    effect.state.keys[nexus] = command.service_action_key;
  } else if (current != 0) {
    unregister(effect.state, nexus);
  }
  return effect;
}

PrEffect reserve(const PrState& before, const PrNexus& nexus, const PrCommand& command) {
  if (before.type == 0) {
    PrEffect effect{scsi::Status::good, before, {}};
    effect.state.type = command.type;
    if (!all_registrants(command.type)) effect.state.holder = nexus;
    return effect;
  }
  if (before.holds(nexus) && before.type == command.type) return {scsi::Status::good, before, {}};
  return refuse(before, scsi::Status::reservation_conflict);
}

PrEffect release(const PrState& before, const PrNexus& nexus, const PrCommand& command) {
  if (before.type == 0 || !before.holds(nexus)) return {scsi::Status::good, before, {}};
  if (before.type != command.type) return refuse(before, scsi::Status::check_condition);
  PrEffect effect{scsi::Status::good, before, {}};
  drop_reservation(effect.state);
  return effect;
}

// Removes the registrations that carry the key, those of others only.
void remove_key(PrEffect& effect, const PrNexus& sender, uint64_t key, bool every) {
  const auto keys = effect.state.keys;
  for (const auto& [nexus, registered] : keys) {
    if (nexus == sender || (!every && registered != key)) continue;
    effect.state.keys.erase(nexus);
    effect.preempted.insert(nexus);
  }
}

// SPC-4 5.13, Preempting.
PrEffect preempt(const PrState& before, const PrNexus& nexus, const PrCommand& command) {
  PrEffect effect{scsi::Status::good, before, {}};
  const uint64_t key = command.service_action_key;
  const auto take = [&] {
    effect.state.type = command.type;
    effect.state.holder = all_registrants(command.type) ? PrNexus{} : nexus;
  };
  effect.state.generation++;
  if (before.type != 0 && all_registrants(before.type)) {
    if (key == 0) {
      remove_key(effect, nexus, 0, true);
      take();
      return effect;
    }
  } else if (key == 0) {
    return refuse(before, scsi::Status::check_condition);
  } else if (before.type != 0 && before.keys.at(before.holder) == key) {
    remove_key(effect, nexus, key, false);
    take();
    return effect;
  }
  const bool matches =
      std::ranges::any_of(before.keys, [&](const auto& entry) { return entry.second == key; });
  if (!matches) return refuse(before, scsi::Status::reservation_conflict);
  // The sender's own key: its registration goes too, when it holds nothing.
  const bool own = before.keys.at(nexus) == key;
  remove_key(effect, nexus, key, false);
  if (own) unregister(effect.state, nexus);
  if (effect.state.keys.empty()) drop_reservation(effect.state);
  return effect;
}

}  // namespace

bool PrState::holds(const PrNexus& nexus) const {
  if (type == 0 || !registered(nexus)) return false;
  return all_registrants(type) || holder == nexus;
}

bool PrState::allows(const PrNexus& nexus, bool write) const {
  if (type == 0 || holds(nexus)) return true;
  if (registered(nexus) && (registrants_only(type) || all_registrants(type))) return true;
  return !write && !exclusive_access(type);
}

std::string PrState::describe() const {
  std::string text = fmt::format("gen {} type {} aptpl {} holder {}/{:x} keys", generation, type,
                                 aptpl, holder.initiator, holder.isid);
  for (const auto& [nexus, key] : keys) {
    text += fmt::format(" {}/{:x}={:x}", nexus.initiator, nexus.isid, key);
  }
  return text;
}

PrState PrState::after_power_on() const {
  PrState state;
  if (!aptpl) return state;
  state = *this;
  state.generation = 0;
  return state;
}

PrEffect apply(const PrState& state, const PrNexus& nexus, const PrCommand& command) {
  using enum scsi::ReserveOut;
  if (command.action == register_key || command.action == register_and_ignore) {
    return sim::register_key(state, nexus, command, command.action == register_and_ignore);
  }
  const auto registered = state.keys.find(nexus);
  if (registered == state.keys.end() || registered->second != command.key) {
    return refuse(state, scsi::Status::reservation_conflict);
  }
  switch (command.action) {
    case scsi::ReserveOut::reserve:
      return sim::reserve(state, nexus, command);
    case scsi::ReserveOut::release:
      return sim::release(state, nexus, command);
    case clear: {
      PrEffect effect{scsi::Status::good, state, {}};
      effect.state.generation++;
      effect.state.keys.clear();
      drop_reservation(effect.state);
      return effect;
    }
    default:
      return sim::preempt(state, nexus, command);
  }
}

std::vector<ReservationModel::Version*> ReservationModel::current() {
  std::vector<Version*> found;
  for (Version& version : versions_) {
    if (version.until == kNever) found.push_back(&version);
  }
  return found;
}

void ReservationModel::add(const PrState& state, Duration from) {
  for (const Version& version : versions_) {
    if (version.until == kNever && version.state == state) return;
  }
  versions_.push_back({state, from, kNever});
}

// Only commands that are under way ask about the past, and none is for so long.
void ReservationModel::forget(Duration now) {
  constexpr Duration kLongest = std::chrono::hours(1);
  std::erase_if(versions_, [&](const Version& version) {
    return version.until != kNever && version.until + kLongest < now;
  });
}

void ReservationModel::begin(Duration now, const PrNexus& nexus, const PrCommand& command) {
  ASSERT(!pending_);
  forget(now);
  pending_ = Pending{nexus, command, now};
}

std::string ReservationModel::end(Duration now, scsi::Status status) {
  const Pending pending = *std::exchange(pending_, std::nullopt);
  preempted_.clear();
  const size_t before = versions_.size();
  bool possible = false;
  std::string states;
  for (size_t i = 0; i < before; ++i) {
    if (versions_[i].until != kNever) continue;
    const PrEffect effect = apply(versions_[i].state, pending.nexus, pending.command);
    states += " {" + versions_[i].state.describe() + "}";
    if (effect.status != status) {
      versions_[i].until = now;  // it was not this state
      continue;
    }
    possible = true;
    if (effect.state == versions_[i].state) continue;
    preempted_.insert(effect.preempted.begin(), effect.preempted.end());
    versions_[i].until = now;
    versions_.push_back({effect.state, pending.began, kNever});
  }
  settled_ = true;  // they are carried out one after the other
  if (possible) return {};
  return fmt::format(
      "PERSISTENT RESERVE OUT action {} type {} key {:x}/{:x} of {}/{:x}: status {} in{}",
      static_cast<int>(pending.command.action), pending.command.type, pending.command.key,
      pending.command.service_action_key, pending.nexus.initiator, pending.nexus.isid,
      static_cast<int>(status), states);
}

void ReservationModel::end_unknown(bool settled) {
  const Pending pending = *std::exchange(pending_, std::nullopt);
  settled_ = settled_ && settled;
  std::vector<PrState> after;
  for (const Version* version : current()) {
    const PrEffect effect = apply(version->state, pending.nexus, pending.command);
    if (effect.status == scsi::Status::good) after.push_back(effect.state);
  }
  for (const PrState& state : after) add(state, pending.began);
}

void ReservationModel::restarted(Duration now) {
  if (pending_) end_unknown(true);
  settled_ = true;
  std::vector<PrState> after;
  for (Version* version : current()) {
    after.push_back(version->state.after_power_on());
    version->until = now;
  }
  for (const PrState& state : after) add(state, now);
}

std::string ReservationModel::reported(Duration began, Duration now, const PrState& seen) {
  std::string states;
  bool found = false;
  for (Version& version : versions_) {
    if (version.until < began || version.from > now) continue;
    states += " {" + version.state.describe() + "}";
    if (same_report(version.state, seen)) found = true;
  }
  if (pending_) {
    for (const Version* version : current()) {
      const PrEffect effect = apply(version->state, pending_->nexus, pending_->command);
      if (effect.status != scsi::Status::good) continue;
      states += " {" + effect.state.describe() + "}";
      if (same_report(effect.state, seen)) found = true;
    }
  }
  if (!found) return "READ FULL STATUS shows {" + seen.describe() + "}, possible:" + states;
  if (pending_ || !settled_) return {};
  // Nothing under way: it is this one, if it was one of today's when the report was asked for.
  const auto now_ones = current();
  const bool certain =
      std::ranges::all_of(now_ones, [&](const Version* version) { return version->from <= began; });
  if (!certain || std::ranges::none_of(
                      now_ones, [&](const Version* v) { return same_report(v->state, seen); })) {
    return {};
  }
  for (Version* version : now_ones) {
    if (!same_report(version->state, seen)) version->until = now;
  }
  return {};
}

std::string ReservationModel::answered(Duration began, Duration now, const PrNexus& nexus,
                                       bool write, bool conflict) const {
  std::string states;
  const auto fits = [&](const PrState& state) {
    states += " {" + state.describe() + "}";
    return state.allows(nexus, write) != conflict;
  };
  for (const Version& version : versions_) {
    if (version.until < began || version.from > now) continue;
    if (fits(version.state)) return {};
    if (version.until != kNever || !pending_) continue;
    const PrEffect effect = apply(version.state, pending_->nexus, pending_->command);
    if (effect.status == scsi::Status::good && fits(effect.state)) return {};
  }
  return fmt::format("{} of {}/{:x} {} in states{}", write ? "write" : "read", nexus.initiator,
                     nexus.isid, conflict ? "got RESERVATION CONFLICT" : "was carried out", states);
}

bool ReservationModel::surely_fenced(const PrNexus& nexus) const {
  if (!settled_) return false;
  return std::ranges::all_of(versions_, [&](const Version& version) {
    if (version.until != kNever) return true;
    if (version.state.allows(nexus, true)) return false;
    return !pending_ ||
           !apply(version.state, pending_->nexus, pending_->command).state.allows(nexus, true);
  });
}

}  // namespace holdfast::sim
