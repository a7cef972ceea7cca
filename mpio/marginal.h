#pragma once
// Which paths work, but so much worse than their siblings that they should carry nothing: docs/
// mpio.md, "Marginal paths". Only a comparison says so: what all paths have in common is the
// target's, and no path's fault.

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <span>

#include "common/io/loop.h"
#include "mpio/latency_histogram.h"
#include "mpio/limits.h"
#include "mpio/path_load.h"

namespace holdfast::mpio {

struct MarginalInput {
  bool in_service = false;
  uint16_t group = 0;  // target port group: only paths of one group are compared
};

struct MarginalVerdicts {
  std::bitset<kMaxPaths> went_marginal;
  std::bitset<kMaxPaths> went_healthy;
};

// Owner: the device; one per loop that has all paths.
class MarginalJudge {
 public:
  explicit MarginalJudge(io::Instant now) : window_end_(now + kHealthWindow) {}

  void on_completed(size_t path, SizeClass size, io::Duration latency) {
    paths_[path].latencies[static_cast<size_t>(size)].add(latency);
  }
  // Totals of the session; smaller ones than before are those of a new session.
  void on_transport(size_t path, uint64_t retransmits, uint64_t segments_sent);
  // It fell out of service by itself, not by an administrator.
  void on_failed(size_t path, io::Instant now);
  // Another path has this number now.
  void forget(size_t path) { paths_[path] = {}; }

  io::Instant next() const { return window_end_; }
  // At next(): judges the window that ends. `inputs` by the path's number, at most kMaxPaths.
  MarginalVerdicts judge(std::span<const MarginalInput> inputs, io::Instant now);

  bool is_marginal(size_t path) const { return paths_[path].marginal; }
  const char* why(size_t path) const { return paths_[path].why; }
  io::Duration quarantine(size_t path) const { return paths_[path].quarantine; }

 private:
  enum class Window : uint8_t { unknown, good, bad };
  struct Path {
    std::array<LatencyHistogram, kSizeClasses> latencies{};
    uint64_t retransmits = 0, segments = 0;                     // in this window
    uint64_t last_retransmits = 0, last_segments = 0;           // totals
    std::array<std::optional<io::Instant>, kFlaps> failures{};  // the latest first
    uint32_t bad_windows = 0;   // a bit for each of the last kHealthWindows
    uint32_t good_windows = 0;  // since the last bad one
    bool marginal = false;
    bool flapped = false;  // that is why it is marginal
    const char* why = "";
    io::Instant last_bad{};
    io::Instant left{};  // the last quarantine
    io::Duration quarantine = kFirstQuarantine;
  };
  using Inputs = std::span<const MarginalInput>;

  static bool is_flapping(const Path& path, io::Instant now);
  Window judge_window(size_t path, Inputs inputs, const char*& why) const;
  Window judge_latency(size_t path, size_t size, Inputs inputs) const;
  Window judge_retransmits(size_t path, Inputs inputs) const;
  template <class Value>
  std::optional<uint64_t> sibling_median(size_t path, Inputs inputs, Value value) const;
  bool others_serve(size_t path, Inputs inputs) const;
  void quarantine_path(Path& path, io::Instant now);

  std::array<Path, kMaxPaths> paths_{};
  io::Instant window_end_;
};

}  // namespace holdfast::mpio
