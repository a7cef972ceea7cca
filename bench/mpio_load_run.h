#pragma once
// A load on a multipath device of the library: `depth` requests under way all the time, each one
// followed by the next as soon as it is answered. No NBD, no daemon: what a program pays that
// embeds the library, set up as holdfast-mpiod sets it up.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/gaps.h"
#include "bench/histogram.h"
#include "common/base/result.h"
#include "common/io/network.h"
#include "mpio/device.h"

namespace holdfast::bench {

inline constexpr uint32_t kMaxLoadDepth = 1024;
inline constexpr uint32_t kMaxLoadBlock = 1 << 20;

struct LoadPortal {
  io::Endpoint address;
  std::optional<io::Endpoint> source;  // the link of this address is watched
};

struct LoadOptions {
  std::string target;
  uint16_t lun = 0;
  std::vector<LoadPortal> portals;
  mpio::Policy policy = mpio::Policy::adaptive;
  const mpio::Profile* profile = &mpio::kLan;
  bool ghost_tracked = false;
  uint32_t depth = 1;
  uint32_t block = 4096;
  uint32_t write_percent = 0;
  bool random = true;
  double seconds = 1;
  double gap_ms = 10;  // pauses between completions from this length on are told
};

struct SideResult {
  uint64_t count = 0;
  uint64_t max_ns = 0;
  uint64_t sum_ns = 0;
  LatencyHistogram latency;
};

struct PathResult {
  std::string name;
  std::string state;  // at the end
  mpio::PathCounters counters;
};

struct LoadResult {
  double seconds = 0;
  double begin_s = 0;  // CLOCK_MONOTONIC
  double cpu_s = 0;    // of this process, user and system, during the load
  SideResult reads, writes;
  uint64_t errors = 0;
  int32_t first_error = 0;  // -errno
  std::vector<Gap> gaps;
  uint64_t gap_count = 0;
  uint64_t longest_gap_ns = 0;
  mpio::DeviceCounters device;
  std::vector<PathResult> paths;
};

// Blocks for options.seconds and the time of login and logout. `started` is called when every path
// is in service and the first requests have been given to the device.
base::Result<LoadResult> run_load(const LoadOptions& options, std::function<void()> started);

}  // namespace holdfast::bench
