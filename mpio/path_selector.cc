#include "mpio/path_selector.h"

#include <algorithm>

#include "common/base/assert.h"
#include "mpio/path_selector_adaptive.h"
#include "mpio/path_selector_failover.h"
#include "mpio/path_selector_least_queue_depth.h"
#include "mpio/path_selector_round_robin.h"

namespace holdfast::mpio {
namespace {

constexpr std::array<std::string_view, kPolicies> kNames = {"failover", "round-robin",
                                                            "least-queue-depth", "adaptive"};

}  // namespace

std::string_view to_string(Policy policy) { return kNames[static_cast<size_t>(policy)]; }

std::optional<Policy> parse_policy(std::string_view text) {
  const auto found = std::ranges::find(kNames, text);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Policy>(found - kNames.begin());
}

std::unique_ptr<PathSelector> make_selector(Policy policy, uint64_t seed) {
  switch (policy) {
    case Policy::failover:
      return std::make_unique<FailoverSelector>();
    case Policy::round_robin:
      return std::make_unique<RoundRobinSelector>();
    case Policy::least_queue_depth:
      return std::make_unique<LeastQueueDepthSelector>();
    case Policy::adaptive:
      return std::make_unique<AdaptiveSelector>(seed);
  }
  return nullptr;
}

PathTier best_tier(std::span<const PathLoad> paths) {
  PathTier best = PathTier::unusable;
  for (const PathLoad& path : paths) best = std::min(best, path.tier);
  return best;
}

Candidates::Candidates(std::span<const PathLoad> paths) {
  ASSERT(paths.size() <= kMaxPaths);
  const PathTier tier = best_tier(paths);
  if (tier == PathTier::unusable) return;
  const bool weighed = std::ranges::any_of(
      paths, [&](const PathLoad& path) { return path.tier == tier && path.weight > 0; });
  for (size_t i = 0; i < paths.size(); ++i) {
    const PathLoad& path = paths[i];
    if (path.tier != tier || !path.has_room() || (weighed && path.weight == 0)) continue;
    indexes_[count_++] = static_cast<uint8_t>(i);
  }
}

}  // namespace holdfast::mpio
