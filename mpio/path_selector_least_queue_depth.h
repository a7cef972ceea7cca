#pragma once
// `least-queue-depth`: the path with the fewest requests in flight for its weight; equals in turn.

#include "mpio/path_selector.h"

namespace holdfast::mpio {

class LeastQueueDepthSelector final : public PathSelector {
 public:
  std::string_view name() const override { return "least-queue-depth"; }
  size_t select(std::span<const PathLoad> paths, const PathChoice& choice) override;
  void reset() override { last_ = 0; }

 private:
  size_t last_ = 0;
};

}  // namespace holdfast::mpio
