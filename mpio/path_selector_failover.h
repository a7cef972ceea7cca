#pragma once
// `failover`: one path carries all, the first of the configuration's order; another one only when
// it is gone. It goes back when the better path has been stable (PathLoad::failback_ready).

#include "mpio/path_selector.h"

namespace holdfast::mpio {

class FailoverSelector final : public PathSelector {
 public:
  std::string_view name() const override { return "failover"; }
  size_t select(std::span<const PathLoad> paths, const PathChoice& choice) override;
  void reset() override { current_ = kNoPath; }

 private:
  size_t current_ = kNoPath;
};

}  // namespace holdfast::mpio
