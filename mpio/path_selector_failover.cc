#include "mpio/path_selector_failover.h"

namespace holdfast::mpio {

size_t FailoverSelector::select(std::span<const PathLoad> paths, const PathChoice&) {
  const PathTier tier = best_tier(paths);
  if (tier == PathTier::unusable) return kNoPath;
  const bool stays = current_ < paths.size() && paths[current_].tier == tier;
  size_t best = stays ? current_ : kNoPath;
  for (size_t i = 0; i < paths.size(); ++i) {
    const PathLoad& path = paths[i];
    if (path.tier != tier || (stays && !path.failback_ready)) continue;
    if (best == kNoPath || path.order < paths[best].order) best = i;
  }
  current_ = best;
  // Full: the request waits. Two paths at once is what this policy exists to avoid.
  return paths[best].has_room() ? best : kNoPath;
}

}  // namespace holdfast::mpio
