#pragma once
// A policy: which path carries the next request. One file each: path_selector_*.h. All take one
// pass over the paths, allocate nothing, and keep within the best tier that is usable.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "common/io/loop.h"
#include "mpio/path_load.h"

namespace holdfast::mpio {

struct PathChoice {
  SizeClass size = SizeClass::small;
  uint64_t bytes = 0;
  io::Instant now{};
};

inline constexpr size_t kNoPath = SIZE_MAX;  // the request waits in the device's queue

// Owner: the device, one per loop. The array is the same at each call, or reset() comes between.
class PathSelector {
 public:
  virtual ~PathSelector() = default;
  virtual std::string_view name() const = 0;
  // An index into `paths`, at most kMaxPaths of them.
  virtual size_t select(std::span<const PathLoad> paths, const PathChoice& choice) = 0;
  virtual void reset() {}
};

enum class Policy : uint8_t { failover, round_robin, least_queue_depth, adaptive };
inline constexpr size_t kPolicies = 4;

std::string_view to_string(Policy policy);
std::optional<Policy> parse_policy(std::string_view text);
// `seed` is for policies that draw lots; different on each host and loop.
std::unique_ptr<PathSelector> make_selector(Policy policy, uint64_t seed);

// The paths of the best usable tier that may take one more request, in the order of the array.
// With a weight of 0 a path is among them only if all in its tier have that.
class Candidates {
 public:
  explicit Candidates(std::span<const PathLoad> paths);
  size_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  size_t operator[](size_t i) const { return indexes_[i]; }
  const uint8_t* begin() const { return indexes_.data(); }
  const uint8_t* end() const { return indexes_.data() + count_; }

 private:
  std::array<uint8_t, kMaxPaths> indexes_;
  size_t count_ = 0;
};

// The best tier in which any path is in service, full or not. A full queue is no reason to use a
// worse path: waiting costs less than the target moving the unit to its other controller.
PathTier best_tier(std::span<const PathLoad> paths);

}  // namespace holdfast::mpio
