#pragma once
// What a policy knows of one path: what is in flight on it and how fast it answers. One array of
// these per device and loop: policies read it, the driver tells it what happened.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/io/loop.h"
#include "common/scsi/alua.h"
#include "mpio/limits.h"
#include "mpio/path_state.h"

namespace holdfast::mpio {

// Service times of small and large requests have nothing to do with each other.
enum class SizeClass : uint8_t { small, medium, large };  // up to 16 KiB, up to 128 KiB, more
inline constexpr size_t kSizeClasses = 3;

constexpr SizeClass size_class(uint64_t bytes) {
  if (bytes <= 16 * 1024) return SizeClass::small;
  return bytes <= 128 * 1024 ? SizeClass::medium : SizeClass::large;
}

// Groups of paths, best first: a policy chooses within the best group that has a usable path.
enum class PathTier : uint8_t {
  preferred,  // active/optimized, and the target prefers it
  optimized,
  non_optimized,
  marginal,  // in quarantine: only when nothing else is left
  unusable,
};

// `alua`: none when the target has no target port groups. Preference (the administrator's order
// aside) is the target's PREF bit.
PathTier tier_of(PathState state, std::optional<scsi::AluaState> alua, bool preferred);

class PathLoad {
 public:
  // Kept by the driver.
  PathTier tier = PathTier::unusable;
  uint32_t limit = kQueueDepth;   // in flight: command window, configuration, TASK SET FULL
  uint32_t weight = kFullWeight;  // the administrator's times ramp_weight(); 0: only when alone
  uint16_t order = 0;             // in the configuration: `failover` goes by it
  bool failback_ready = true;     // stable for long enough to be returned to
  std::optional<io::Instant> oldest_in_flight{};

  // The answer is how many are in flight now: the driver keeps it in the request.
  uint32_t on_submitted(SizeClass size, io::Instant now);
  struct Completion {
    SizeClass size = SizeClass::small;
    uint32_t depth = 1;      // what on_submitted said
    io::Duration latency{};  // from the submission to the answer
  };
  // Answers that say nothing about speed (errors, unit attentions, BUSY) end with on_abandoned.
  void on_completed(const Completion& completion, io::Instant now);
  void on_abandoned(SizeClass size);
  // A new session: nothing is in flight and old times say little.
  void restart();

  uint32_t in_flight() const { return in_flight_[0] + in_flight_[1] + in_flight_[2]; }
  uint32_t in_flight(SizeClass size) const { return in_flight_[index(size)]; }
  bool has_room() const { return in_flight() < limit; }
  bool usable() const { return tier != PathTier::unusable && has_room(); }

  bool measured() const;
  // Smoothed, of a class that was never measured that of its neighbour; nanoseconds, at least 1.
  // Latency is what a request takes; service what it adds to the wait of the next one: the latency
  // for each request that was in flight with it.
  int64_t latency(SizeClass size) const { return nearest(latency_, size); }
  int64_t service(SizeClass size) const { return nearest(service_, size); }
  // Its oldest request takes so much longer than usual that the path may be stalled.
  bool lags(io::Instant now) const;
  // The service time, or the age of the oldest request once that says more.
  int64_t service_now(SizeClass size, io::Instant now) const;
  // Idle, and its times too old to be believed.
  bool stale(SizeClass size, size_t paths, io::Instant now) const;
  // More in flight than its rate of late justifies.
  bool over_share(io::Instant now) const;

 private:
  static constexpr size_t index(SizeClass size) { return static_cast<size_t>(size); }
  using Times = std::array<int64_t, kSizeClasses>;  // 0: never measured
  static int64_t nearest(const Times& times, SizeClass size);
  void count_completion(io::Instant now);

  std::array<uint32_t, kSizeClasses> in_flight_{};
  Times latency_{};
  Times service_{};
  std::array<io::Instant, kSizeClasses> sampled_{};
  io::Instant window_{};
  uint32_t window_count_ = 0;
  uint32_t previous_count_ = 0;
};

// Failback: 0 for the hold, then from a tenth to all of the administrator's weight.
constexpr uint32_t ramp_weight(uint32_t weight, io::Duration in_service, io::Duration hold) {
  if (in_service < hold) return 0;
  const io::Duration ramped = in_service - hold;
  if (ramped >= kRamp) return weight;
  const int64_t share =
      kRampStart + int64_t{kFullWeight - kRampStart} * ramped.count() / io::Duration(kRamp).count();
  return static_cast<uint32_t>(weight * share / kFullWeight);
}

}  // namespace holdfast::mpio
