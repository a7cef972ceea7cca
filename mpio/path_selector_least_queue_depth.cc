#include "mpio/path_selector_least_queue_depth.h"

#include <algorithm>

namespace holdfast::mpio {

size_t LeastQueueDepthSelector::select(std::span<const PathLoad> paths, const PathChoice&) {
  const Candidates candidates(paths);
  if (candidates.empty()) return kNoPath;
  // From the one after the last, so that the first of equals is another one each time.
  const size_t start = static_cast<size_t>(
      std::upper_bound(candidates.begin(), candidates.end(), last_) - candidates.begin());
  const auto depth = [](const PathLoad& path) {
    return uint64_t{path.in_flight() + 1} * kGreatestWeight / std::max(path.weight, 1u);
  };
  size_t best = kNoPath;
  for (size_t i = 0; i < candidates.count(); ++i) {
    const size_t index = candidates[(start + i) % candidates.count()];
    if (best == kNoPath || depth(paths[index]) < depth(paths[best])) best = index;
  }
  last_ = best;
  return best;
}

}  // namespace holdfast::mpio
