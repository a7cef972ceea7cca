#include "mpio/path_load.h"

#include <algorithm>

#include "common/base/assert.h"

namespace holdfast::mpio {

PathTier tier_of(PathState state, std::optional<scsi::AluaState> alua, bool preferred) {
  // A suspect path takes nothing new: a write given to it would most likely become a ghost.
  if (state != PathState::active && state != PathState::marginal) return PathTier::unusable;
  PathTier tier = PathTier::optimized;
  if (alua) {
    switch (*alua) {
      case scsi::AluaState::active_optimized:
        tier = preferred ? PathTier::preferred : PathTier::optimized;
        break;
      case scsi::AluaState::active_non_optimized:
        tier = PathTier::non_optimized;
        break;
      case scsi::AluaState::standby:
      case scsi::AluaState::unavailable:
      case scsi::AluaState::transitioning:
        return PathTier::unusable;
    }
  }
  return state == PathState::marginal ? PathTier::marginal : tier;
}

uint32_t PathLoad::on_submitted(SizeClass size, io::Instant now) {
  if (in_flight() == 0) oldest_in_flight = now;
  ++in_flight_[index(size)];
  return in_flight();
}

void PathLoad::on_abandoned(SizeClass size) {
  ASSERT(in_flight_[index(size)] > 0);
  --in_flight_[index(size)];
  if (in_flight() == 0) oldest_in_flight.reset();
}

void PathLoad::on_completed(const Completion& completion, io::Instant now) {
  ASSERT(completion.depth > 0);
  on_abandoned(completion.size);
  count_completion(now);
  const size_t i = index(completion.size);
  const int64_t latency = std::max<int64_t>(completion.latency.count(), 1);
  const int64_t service = std::max<int64_t>(latency / completion.depth, 1);
  const io::Duration age = now - sampled_[i];
  const bool believed = latency_[i] != 0 && age < kStaleLongest;
  sampled_[i] = now;
  if (!believed) {
    latency_[i] = latency;
    service_[i] = service;
    return;
  }
  // Weight by the time since the last sample, so that a burst of completions is one opinion.
  const int64_t share = std::clamp<int64_t>(age.count() * 1024 / io::Duration(kServiceTau).count(),
                                            kLeastSampleWeight, kGreatestSampleWeight);
  const auto smooth = [share](int64_t& value, int64_t sample) {
    value = std::max<int64_t>(value + (sample - value) * share / 1024, 1);
  };
  smooth(latency_[i], latency);
  smooth(service_[i], service);
}

void PathLoad::restart() {
  in_flight_ = {};
  latency_ = {};
  service_ = {};
  oldest_in_flight.reset();
  window_count_ = 0;
  previous_count_ = 0;
}

void PathLoad::count_completion(io::Instant now) {
  const io::Duration age = now - window_;
  if (age >= kShareWindow) {
    previous_count_ = age < 2 * kShareWindow ? window_count_ : 0;
    window_count_ = 0;
    window_ = now;
  }
  ++window_count_;
}

bool PathLoad::measured() const {
  return std::ranges::any_of(latency_, [](int64_t each) { return each != 0; });
}

int64_t PathLoad::nearest(const Times& times, SizeClass size) {
  const size_t i = index(size);
  for (size_t distance = 0; distance < kSizeClasses; ++distance) {
    if (i >= distance && times[i - distance] != 0) return times[i - distance];
    if (i + distance < kSizeClasses && times[i + distance] != 0) return times[i + distance];
  }
  return 1;
}

// The oldest may be a large one, and it waits for all that are in flight: both are usual.
bool PathLoad::lags(io::Instant now) const {
  if (!oldest_in_flight || !measured()) return false;
  int64_t usual = 0;
  int64_t queue = 0;
  for (size_t i = 0; i < kSizeClasses; ++i) {
    if (in_flight_[i] == 0) continue;
    usual = std::max(usual, latency(static_cast<SizeClass>(i)));
    queue += int64_t{in_flight_[i]} * service(static_cast<SizeClass>(i));
  }
  return (now - *oldest_in_flight).count() > kAgeFactor * std::max(usual, queue);
}

int64_t PathLoad::service_now(SizeClass size, io::Instant now) const {
  const bool unknown = oldest_in_flight && !measured();
  if (unknown || lags(now)) return std::max<int64_t>((now - *oldest_in_flight).count(), 1);
  return service(size);
}

bool PathLoad::stale(SizeClass size, size_t paths, io::Instant now) const {
  if (in_flight() != 0) return false;
  const int64_t longest = std::clamp<int64_t>(
      latency(size) * static_cast<int64_t>(kStaleFactor * paths),
      io::Duration(kStaleShortest).count(), io::Duration(kStaleLongest).count());
  const io::Instant sampled = *std::ranges::max_element(sampled_);
  return !measured() || (now - sampled).count() > longest;
}

bool PathLoad::over_share(io::Instant now) const {
  const uint32_t flying = in_flight();
  if (flying <= kShareFloor) return false;
  const io::Duration age = now - window_;
  uint32_t completed = std::max(window_count_, previous_count_);
  if (age >= 2 * kShareWindow) completed = 0;
  return flying > kShareFloor + completed * 3 / 2;
}

}  // namespace holdfast::mpio
