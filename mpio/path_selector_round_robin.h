#pragma once
// `round-robin`: every path in turn, for a number of requests or of bytes.

#include "mpio/path_selector.h"

namespace holdfast::mpio {

class RoundRobinSelector final : public PathSelector {
 public:
  struct Turn {
    uint32_t requests = 1;
    uint64_t bytes = UINT64_MAX;
  };
  RoundRobinSelector() = default;
  explicit RoundRobinSelector(Turn turn) : turn_(turn) {}

  std::string_view name() const override { return "round-robin"; }
  size_t select(std::span<const PathLoad> paths, const PathChoice& choice) override;
  void reset() override { current_ = kNoPath; }

 private:
  Turn turn_;
  size_t current_ = kNoPath;
  uint32_t requests_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace holdfast::mpio
