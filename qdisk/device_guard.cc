#include "qdisk/device_guard.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "qdisk/reservation_key.h"

namespace holdfast::qdisk {

namespace {

using base::Errc;
using io::ReservationState;
using io::ReservationType;

constexpr ReservationType kType = ReservationType::write_exclusive_registrants_only;
// Each round removes all keys that it has read; more rounds mean that somebody adds them again.
constexpr int kMaxRounds = 8;

template <class T>
bool has(const std::vector<T>& all, const T& one) {
  return std::ranges::find(all, one) != all.end();
}

}  // namespace

DeviceGuard::DeviceGuard(io::Loop& loop, io::SharedBlockDevice& device, const Settings& settings)
    : loop_(loop),
      device_(device),
      settings_(settings),
      key_(reservation_key(settings.cluster, settings.self)) {}

DeviceGuard::~DeviceGuard() {
  ASSERT(!busy_);
  loop_.stop(hold_);
}

void DeviceGuard::stop() {
  stopping_ = true;
  if (hold_.armed()) loop_.start(hold_, io::Duration::zero());
}

// Every call ends here.
void DeviceGuard::ended(base::Result<> result) {
  busy_ = false;
  if (fenced_) {
    auto fenced = std::exchange(fenced_, nullptr);
    ASSERT(!result);
    return fenced(std::unexpected(result.error()));
  }
  auto done = std::exchange(done_, nullptr);
  done(result);
}

void DeviceGuard::hold_proves() {
  for (const Life& life : order_.lives) ended_.try_emplace(life, FenceProof::timed);
  unknown_ended_ = std::max(unknown_ended_, order_.unknown_until);
  finish_fence();
}

void DeviceGuard::finish_fence() {
  // No key says that all of those who are unknown were there to be removed.
  bool timed = order_.unknown_until != 0;
  for (const Life& life : order_.lives) timed |= ended_.at(life) == FenceProof::timed;
  LOG_INFO("qdisk", "fenced: device={} epoch={} lives={} proof={}", settings_.name,
           count_of(order_.epoch), order_.lives.size(), timed ? "timed" : "drained");
  busy_ = false;
  auto fenced = std::exchange(fenced_, nullptr);
  fenced(timed ? FenceProof::timed : FenceProof::drained);
}

void DeviceGuard::read(std::move_only_function<void(const ReservationState&) noexcept> got) {
  const auto cancelled = base::fail(Errc::cancelled, "the daemon ends");
  if (stopping_) return ended(cancelled);
  device_.read_reservations([this, cancelled, got = std::move(got)](
                                base::Result<ReservationState> state) mutable noexcept {
    if (stopping_) return ended(cancelled);
    if (!state) return ended(std::unexpected(state.error()));
    got(*state);
  });
}

// Of another kind, or held by what is no node of this cluster: others use this device.
bool DeviceGuard::foreign(const ReservationState& state) const {
  return state.type != ReservationType::none &&
         (state.type != kType || !life_of(state.holder_key, settings_.cluster));
}

void DeviceGuard::preempt(uint64_t key, std::move_only_function<void(bool) noexcept> next) {
  device_.preempt_and_abort(key, kType,
                            [this, next = std::move(next)](base::Result<> result) mutable noexcept {
                              // Somebody else may have removed it meanwhile: the next reading
                              // tells.
                              if (!result && result.error().code != Errc::permission)
                                return ended(result);
                              next(result.has_value());
                            });
}

void DeviceGuard::reserve(std::move_only_function<void() noexcept> next) {
  device_.reserve(kType, [this, next = std::move(next)](base::Result<> result) mutable noexcept {
    if (!result && result.error().code != Errc::permission) return ended(result);
    next();
  });
}

// --- claim ---

void DeviceGuard::claim(Done done) {
  ASSERT(!busy_);
  busy_ = true;
  done_ = std::move(done);
  rounds_ = 0;
  auto registered = [this](base::Result<> result) noexcept {
    if (!result && result.error().code == Errc::unsupported) {
      without_reservations_ = true;
      return ended({});
    }
    if (!result) return ended(result);
    used_ = true;
    read([this](const ReservationState& state) noexcept { claim_step(state); });
  };
  // A key that is gone comes back only by the owner's decision, which this call is.
  if (used_) return device_.readmit(std::move(registered));
  device_.use_key(key_, std::move(registered));
}

void DeviceGuard::claim_step(const ReservationState& state) {
  const auto again = [this]() noexcept {
    read([this](const ReservationState& next) noexcept { claim_step(next); });
  };
  if (++rounds_ > kMaxRounds) {
    return ended(base::fail(Errc::busy, "the keys of the device do not settle"));
  }
  if (foreign(state)) return give_back(state);
  if (!has(state.keys, key_)) {
    return ended(base::fail(Errc::permission, "the key of this node was removed"));
  }
  for (const uint64_t key : state.keys) {
    const auto life = life_of(key, settings_.cluster);
    if (!life || life->node != settings_.self.node || key == key_) continue;
    LOG_INFO("qdisk", "an earlier life of this node is ended: device={} incarnation={}",
             settings_.name, life->incarnation);
    return preempt(key, [this, again](bool removed) noexcept {
      ended_earlier_life_ |= removed;
      again();
    });
  }
  if (state.type == ReservationType::none) return reserve(again);
  ended({});
}

// With its key this node could write to what belongs to others.
void DeviceGuard::give_back(const ReservationState& state) {
  const auto refused = [this](base::Result<>) noexcept {
    used_ = false;
    ended(base::fail(Errc::busy, "the device is reserved by somebody else"));
  };
  // With the holder's key the reservation would go, too.
  if (state.holder_key == key_) return refused({});
  device_.use_key(0, refused);
}

void DeviceGuard::check(Done done) {
  ASSERT(!busy_);
  busy_ = true;
  done_ = std::move(done);
  if (without_reservations_) return ended({});
  read([this](const ReservationState& state) noexcept {
    if (!has(state.keys, key_)) {
      return ended(base::fail(Errc::permission, "the key of this node is gone"));
    }
    if (state.type == ReservationType::none || foreign(state)) {
      return ended(base::fail(Errc::permission, "the reservation of the cluster is gone"));
    }
    ended({});
  });
}

// --- fence ---

void DeviceGuard::fence(const FenceOrder& order, Fenced fenced) {
  ASSERT(!busy_);
  busy_ = true;
  fenced_ = std::move(fenced);
  order_ = order;
  // Only the lives of the current order can come again.
  std::erase_if(ended_, [this](const auto& each) { return !has(order_.lives, each.first); });
  rounds_ = 0;
  held_ = false;
  if (without_reservations_) {
    loop_.start(hold_, settings_.takeover + settings_.hold);
    return;
  }
  read([this](const ReservationState& state) noexcept { fence_step(state); });
}

bool DeviceGuard::is_victim(const Life& life) const {
  if (members_.has_member(life.node, life.incarnation)) return false;
  if (has(order_.lives, life) || !has(order_.joining, life)) return true;
  // It may have been a member in an epoch that is not known here: once is enough, then it registers
  // again and waits to be admitted.
  return order_.unknown_until > unknown_ended_ && !ended_.contains(life);
}

void DeviceGuard::fence_step(const ReservationState& state) {
  const auto again = [this]() noexcept {
    read([this](const ReservationState& next) noexcept { fence_step(next); });
  };
  if (++rounds_ > kMaxRounds + static_cast<int>(kMaxNodes)) {
    return ended(base::fail(Errc::busy, "the keys of the device do not settle"));
  }
  if (!has(state.keys, key_)) {
    return ended(base::fail(Errc::permission, "the key of this node is gone"));
  }
  if (foreign(state)) {
    return ended(base::fail(Errc::busy, "the device is reserved by somebody else"));
  }
  // Without one, a key that is gone keeps nobody out: the hold begins anew.
  if (state.type == ReservationType::none) {
    held_ = false;
    return reserve(again);
  }
  for (const uint64_t key : state.keys) {
    const auto life = life_of(key, settings_.cluster);
    if (!life || !is_victim(*life)) continue;
    return preempt(key, [this, again, life = *life](bool removed) mutable noexcept {
      if (removed) ended_[life] = FenceProof::drained;
      again();
    });
  }
  after_victims();
}

// Whose key was not there to be removed may have commands under way, all the same: somebody else
// has removed it, and may have died before the target answered; or the target has forgotten it.
void DeviceGuard::after_victims() {
  const bool all =
      std::ranges::all_of(order_.lives, [this](const Life& life) { return ended_.contains(life); });
  if (all && order_.unknown_until <= unknown_ended_) return finish_fence();
  if (held_) return hold_proves();
  loop_.start(hold_, settings_.hold);
}

void DeviceGuard::on_hold_over() noexcept {
  held_ = true;
  if (without_reservations_ && !stopping_) return hold_proves();
  read([this](const ReservationState& state) noexcept { fence_step(state); });
}

}  // namespace holdfast::qdisk
