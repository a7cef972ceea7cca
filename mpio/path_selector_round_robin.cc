#include "mpio/path_selector_round_robin.h"

#include <algorithm>

namespace holdfast::mpio {

size_t RoundRobinSelector::select(std::span<const PathLoad> paths, const PathChoice& choice) {
  const Candidates candidates(paths);
  if (candidates.empty()) return kNoPath;
  const bool stays = requests_ < turn_.requests && bytes_ < turn_.bytes &&
                     std::find(candidates.begin(), candidates.end(), current_) != candidates.end();
  if (!stays) {
    const auto* next = std::find_if(candidates.begin(), candidates.end(), [&](size_t index) {
      return current_ != kNoPath && index > current_;
    });
    current_ = next != candidates.end() ? *next : candidates[0];
    requests_ = 0;
    bytes_ = 0;
  }
  ++requests_;
  bytes_ += choice.bytes;
  return current_;
}

}  // namespace holdfast::mpio
