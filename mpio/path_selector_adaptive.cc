#include "mpio/path_selector_adaptive.h"

#include <algorithm>

namespace holdfast::mpio {
namespace {

// When the request would be done: those in flight and it, each at its class's time, for a weight.
// A double is exact enough and cannot overflow.
double cost(const PathLoad& path, const PathChoice& choice) {
  int64_t sum = path.service_now(choice.size, choice.now);
  for (size_t i = 0; i < kSizeClasses; ++i) {
    const auto size = static_cast<SizeClass>(i);
    if (path.in_flight(size) == 0) continue;
    sum += int64_t{path.in_flight(size)} * path.service_now(size, choice.now);
  }
  return static_cast<double>(sum) / std::max(path.weight, 1u);
}

}  // namespace

size_t AdaptiveSelector::select(std::span<const PathLoad> paths, const PathChoice& choice) {
  const Candidates candidates(paths);
  if (candidates.empty()) return kNoPath;
  if (candidates.count() == 1) return last_ = candidates[0];
  // Those whose times are known; of them first those that are not behind and within their share.
  std::array<uint8_t, kMaxPaths> fit;
  std::array<uint8_t, kMaxPaths> known;
  size_t fit_count = 0;
  size_t known_count = 0;
  for (const uint8_t index : candidates) {
    const PathLoad& path = paths[index];
    // What is not known is found out with one request, and no more until it is answered.
    if (path.stale(choice.size, candidates.count(), choice.now)) return last_ = index;
    if (!path.measured()) continue;
    known[known_count++] = index;
    if (!path.lags(choice.now) && !path.over_share(choice.now)) fit[fit_count++] = index;
  }
  if (fit_count > 0) return draw(paths, {fit.data(), fit_count}, choice);
  if (known_count > 0) return draw(paths, {known.data(), known_count}, choice);
  return kNoPath;  // each carries its first request: the answers will tell
}

size_t AdaptiveSelector::draw(std::span<const PathLoad> paths, std::span<const uint8_t> from,
                              const PathChoice& choice) {
  if (from.size() == 1) return last_ = from[0];
  size_t a = 0;
  size_t b = 1;
  if (from.size() > 2) {
    a = lots_.below(from.size());
    b = (a + 1 + lots_.below(from.size() - 1)) % from.size();
  }
  return last_ = cheaper(paths, from[a], from[b], choice);
}

size_t AdaptiveSelector::cheaper(std::span<const PathLoad> paths, size_t a, size_t b,
                                 const PathChoice& choice) {
  const double cost_a = cost(paths[a], choice);
  const double cost_b = cost(paths[b], choice);
  const double difference = cost_a > cost_b ? cost_a - cost_b : cost_b - cost_a;
  if (difference * kTieShare <= std::max(cost_a, cost_b)) return a == last_ ? b : a;
  return cost_a < cost_b ? a : b;
}

}  // namespace holdfast::mpio
