#pragma once
// `adaptive`, the default: the cheaper of two paths drawn by lot, by what is in flight on them
// times their service time. docs/mpio.md, "Policies", has the reasons.

#include "common/base/random.h"
#include "mpio/path_selector.h"

namespace holdfast::mpio {

class AdaptiveSelector final : public PathSelector {
 public:
  explicit AdaptiveSelector(uint64_t seed) : lots_(seed) {}

  std::string_view name() const override { return "adaptive"; }
  size_t select(std::span<const PathLoad> paths, const PathChoice& choice) override;
  void reset() override { last_ = 0; }

 private:
  size_t draw(std::span<const PathLoad> paths, std::span<const uint8_t> from,
              const PathChoice& choice);
  size_t cheaper(std::span<const PathLoad> paths, size_t a, size_t b, const PathChoice& choice);

  base::SeededRandom lots_;  // of its own: drawing from the kernel is too slow for each request
  size_t last_ = 0;
};

}  // namespace holdfast::mpio
