#include "mpio/marginal.h"

#include <algorithm>
#include <bit>

#include "common/base/assert.h"

namespace holdfast::mpio {
namespace {

constexpr uint32_t kWindowMask = (1u << kHealthWindows) - 1;

uint64_t p99(const LatencyHistogram& latencies) {
  return static_cast<uint64_t>(latencies.percentile(990).count());
}

// Of ten thousand.
uint64_t rate(uint64_t part, uint64_t whole) { return part * 10000 / whole; }
constexpr uint64_t kBadRate = kRetransmitPermille * 10;

}  // namespace

void MarginalJudge::on_transport(size_t path, uint64_t retransmits, uint64_t segments_sent) {
  Path& one = paths_[path];
  if (retransmits < one.last_retransmits || segments_sent < one.last_segments) {
    one.last_retransmits = 0;
    one.last_segments = 0;
  }
  one.retransmits += retransmits - one.last_retransmits;
  one.segments += segments_sent - one.last_segments;
  one.last_retransmits = retransmits;
  one.last_segments = segments_sent;
}

void MarginalJudge::on_failed(size_t path, io::Instant now) {
  Path& one = paths_[path];
  std::shift_right(one.failures.begin(), one.failures.end(), 1);
  one.failures[0] = now;
  one.last_bad = now;
  one.good_windows = 0;
}

bool MarginalJudge::is_flapping(const Path& path, io::Instant now) {
  const auto& oldest = path.failures.back();
  return oldest && now - *oldest < kFlapWindow;
}

MarginalVerdicts MarginalJudge::judge(std::span<const MarginalInput> inputs, io::Instant now) {
  ASSERT(inputs.size() <= kMaxPaths);
  // All are judged before one is moved: the first must not change what the second is measured by.
  std::array<Window, kMaxPaths> windows{};
  std::array<const char*, kMaxPaths> reasons{};
  for (size_t i = 0; i < inputs.size(); ++i) windows[i] = judge_window(i, inputs, reasons[i]);

  MarginalVerdicts verdicts;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Path& path = paths_[i];
    if (windows[i] != Window::unknown) {
      path.bad_windows =
          (path.bad_windows << 1 | (windows[i] == Window::bad ? 1 : 0)) & kWindowMask;
    }
    if (windows[i] == Window::good) ++path.good_windows;
    if (windows[i] == Window::bad) {
      path.last_bad = now;
      path.good_windows = 0;
    }
    const bool flaps = is_flapping(path, now);
    if (!path.marginal) {
      const bool worse = static_cast<uint32_t>(std::popcount(path.bad_windows)) >= kBadWindows &&
                         windows[i] == Window::bad;
      if ((!flaps && !worse) || !others_serve(i, inputs)) continue;
      path.flapped = flaps;
      path.why = flaps ? "failed again and again" : reasons[i];
      quarantine_path(path, now);
      verdicts.went_marginal.set(i);
    } else if (now - path.last_bad >= path.quarantine &&
               (path.flapped || path.good_windows >= kHealthWindows)) {
      path.marginal = false;
      path.left = now;
      path.bad_windows = 0;
      path.failures = {};
      path.why = "";
      verdicts.went_healthy.set(i);
    }
  }
  for (Path& path : paths_) {
    for (LatencyHistogram& each : path.latencies) each.clear();
    path.retransmits = 0;
    path.segments = 0;
  }
  window_end_ = now + kHealthWindow;
  return verdicts;
}

void MarginalJudge::quarantine_path(Path& path, io::Instant now) {
  // A relapse: not long ago it was let go.
  const bool relapse = path.left != io::Instant{} && now - path.left < kLongestQuarantine;
  path.quarantine = relapse ? std::min<io::Duration>(path.quarantine * 2, kLongestQuarantine)
                            : io::Duration(kFirstQuarantine);
  path.marginal = true;
  path.last_bad = now;
  path.good_windows = 0;
}

bool MarginalJudge::others_serve(size_t path, Inputs inputs) const {
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (i != path && inputs[i].in_service && !paths_[i].marginal) return true;
  }
  return false;
}

// Bad in one respect is bad; good needs that something was looked at.
MarginalJudge::Window MarginalJudge::judge_window(size_t path, Inputs inputs,
                                                  const char*& why) const {
  if (!inputs[path].in_service) return Window::unknown;
  Window result = Window::unknown;
  for (size_t size = 0; size < kSizeClasses; ++size) {
    const Window one = judge_latency(path, size, inputs);
    if (one == Window::bad) why = "latency far above its siblings'";
    result = std::max(result, one);
  }
  const Window network = judge_retransmits(path, inputs);
  if (network == Window::bad) why = "retransmits, and its siblings do not";
  return std::max(result, network);
}

MarginalJudge::Window MarginalJudge::judge_latency(size_t path, size_t size, Inputs inputs) const {
  const LatencyHistogram& own = paths_[path].latencies[size];
  if (own.count() < kHealthSamples) return Window::unknown;
  const auto median = sibling_median(path, inputs, [&](const Path& sibling) {
    const LatencyHistogram& theirs = sibling.latencies[size];
    return theirs.count() < kHealthSamples ? std::nullopt : std::optional(p99(theirs));
  });
  if (!median) return Window::unknown;
  const bool bad = p99(own) > kMarginalFactor * *median &&
                   p99(own) - *median > static_cast<uint64_t>(io::Duration(kMarginalFloor).count());
  return bad ? Window::bad : Window::good;
}

MarginalJudge::Window MarginalJudge::judge_retransmits(size_t path, Inputs inputs) const {
  const Path& own = paths_[path];
  if (own.segments < kHealthSegments) return Window::unknown;
  const auto median = sibling_median(path, inputs, [](const Path& sibling) {
    return sibling.segments < kHealthSegments
               ? std::nullopt
               : std::optional(rate(sibling.retransmits, sibling.segments));
  });
  if (!median) return Window::unknown;
  const bool bad = rate(own.retransmits, own.segments) > kBadRate && *median <= kBadRate;
  return bad ? Window::bad : Window::good;
}

// Of the healthy siblings of its group that have a value; the lower one of two in the middle.
template <class Value>
std::optional<uint64_t> MarginalJudge::sibling_median(size_t path, Inputs inputs,
                                                      Value value) const {
  std::array<uint64_t, kMaxPaths> values;
  size_t count = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (i == path || !inputs[i].in_service || inputs[i].group != inputs[path].group) continue;
    if (paths_[i].marginal) continue;
    if (const std::optional<uint64_t> one = value(paths_[i])) values[count++] = *one;
  }
  if (count == 0) return std::nullopt;
  auto* const middle = values.begin() + (count - 1) / 2;
  std::nth_element(values.begin(), middle, values.begin() + count);
  return *middle;
}

}  // namespace holdfast::mpio
