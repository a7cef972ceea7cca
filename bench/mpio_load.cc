// holdfast-bench-mpio: puts a load on a multipath device of the library and prints what it reached.
// Two lines of JSON: when the load began, and the figures.

#include <fmt/core.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <string_view>

#include "bench/mpio_load_run.h"
#include "bench/parse_number.h"

namespace holdfast::bench {
namespace {

constexpr const char* kUsage =
    "usage: holdfast-bench-mpio --target IQN --portal ADDRESS:PORT[@SOURCE] [--portal ...]\n"
    "                           [--lun N] [--policy NAME] [--profile lan|safe] [--ghost-tracked]\n"
    "                           [--depth N] [--block BYTES] [--write-percent N] [--sequential]\n"
    "                           [--seconds S] [--gap-ms MS]\n"
    "Keeps N requests under way on a multipath device. Prints when it began, and at its end IOPS,\n"
    "latencies, its CPU time, and the pauses between completions, as JSON. Times are those of\n"
    "CLOCK_MONOTONIC.\n";

bool parse_portal(std::string_view text, std::vector<LoadPortal>* out) {
  const size_t at = text.find('@');
  const auto address = io::Endpoint::parse(text.substr(0, at));
  if (!address.has_value()) return false;
  LoadPortal portal{.address = *address, .source = std::nullopt};
  if (at != std::string_view::npos) {
    const auto source = io::Endpoint::parse(std::string(text.substr(at + 1)) + ":0");
    if (!source.has_value()) return false;
    portal.source = *source;
  }
  out->push_back(portal);
  return true;
}

bool parse_policy(std::string_view text, mpio::Policy* out) {
  const auto policy = mpio::parse_policy(text);
  if (policy.has_value()) *out = *policy;
  return policy.has_value();
}

bool parse_profile(std::string_view text, const mpio::Profile** out) {
  const mpio::Profile* profile = mpio::find_profile(text);
  if (profile != nullptr) *out = profile;
  return profile != nullptr;
}

bool parse_flag(std::string_view name, LoadOptions* out) {
  if (name == "--sequential") {
    out->random = false;
    return true;
  }
  if (name == "--ghost-tracked") {
    out->ghost_tracked = true;
    return true;
  }
  return false;
}

base::Result<LoadOptions> parse_options(int argc, char** argv) {
  LoadOptions out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (parse_flag(name, &out)) continue;
    const std::string_view value = i + 1 < argc ? argv[++i] : "";
    bool good = !value.empty();
    if (name == "--target") {
      out.target = value;
    } else {
      good = name == "--lun"             ? parse_number(value, &out.lun)
             : name == "--portal"        ? parse_portal(value, &out.portals)
             : name == "--policy"        ? parse_policy(value, &out.policy)
             : name == "--profile"       ? parse_profile(value, &out.profile)
             : name == "--depth"         ? parse_number(value, &out.depth)
             : name == "--block"         ? parse_number(value, &out.block)
             : name == "--write-percent" ? parse_number(value, &out.write_percent)
             : name == "--seconds"       ? parse_number(value, &out.seconds)
             : name == "--gap-ms"        ? parse_number(value, &out.gap_ms)
                                         : false;
    }
    if (!good) return base::fail(base::Errc::invalid_argument, "a wrong option, or a wrong value");
  }
  return out;
}

double us(uint64_t ns) { return static_cast<double>(ns) / 1e3; }
double ms(uint64_t ns) { return static_cast<double>(ns) / 1e6; }

std::string json(const SideResult& side) {
  const double count = static_cast<double>(side.count);
  return fmt::format(
      "{{\"ios\": {}, \"mean_us\": {:.2f}, \"p50_us\": {:.2f}, \"p99_us\": {:.2f}, "
      "\"max_us\": {:.2f}}}",
      side.count, side.count == 0 ? 0.0 : us(side.sum_ns) / count, us(side.latency.percentile(50)),
      us(side.latency.percentile(99)), us(side.max_ns));
}

SideResult both(const LoadResult& result) {
  SideResult out = result.reads;
  out.count += result.writes.count;
  out.sum_ns += result.writes.sum_ns;
  out.max_ns = std::max(out.max_ns, result.writes.max_ns);
  out.latency.merge(result.writes.latency);
  return out;
}

std::string gaps(const LoadResult& result) {
  std::string out;
  for (const Gap& gap : result.gaps) {
    out += fmt::format("{}{{\"at_s\": {:.6f}, \"ms\": {:.3f}}}", out.empty() ? "" : ", ",
                       static_cast<double>(gap.begin_ns) / 1e9, ms(gap.length_ns()));
  }
  return out;
}

std::string paths(const LoadResult& result) {
  std::string out;
  for (const PathResult& path : result.paths) {
    const mpio::PathCounters& seen = path.counters;
    out += fmt::format(
        "{}{{\"name\": \"{}\", \"state\": \"{}\", \"sessions\": {}, \"reads\": {}, \"writes\": {}, "
        "\"errors\": {}, \"given_back\": {}}}",
        out.empty() ? "" : ", ", path.name, path.state, seen.sessions, seen.reads, seen.writes,
        seen.errors, seen.given_back);
  }
  return out;
}

void print(const LoadOptions& options, const LoadResult& result) {
  const SideResult all = both(result);
  const double rate = static_cast<double>(all.count) / result.seconds;
  const mpio::DeviceCounters& device = result.device;
  fmt::print(
      "{{\"depth\": {}, \"block\": {}, \"write_percent\": {}, \"began_s\": {:.6f}, "
      "\"seconds\": {:.6f}, \"iops\": {:.1f}, \"mb_s\": {:.3f}, \"cpu_s\": {:.6f}, "
      "\"all\": {}, \"reads\": {}, \"writes\": {}, \"errors\": {}, \"first_error\": {}, "
      "\"longest_gap_ms\": {:.3f}, \"gap_count\": {}, \"gaps\": [{}], "
      "\"device\": {{\"retries\": {}, \"reissued_writes\": {}, \"failovers\": {}, \"fences\": {}, "
      "\"fences_by_time\": {}, \"path_losses\": {}, \"ghost_waits\": {}}}, \"paths\": [{}]}}\n",
      options.depth, options.block, options.write_percent, result.begin_s, result.seconds, rate,
      rate * options.block / 1e6, result.cpu_s, json(all), json(result.reads), json(result.writes),
      result.errors, result.first_error, ms(result.longest_gap_ns), result.gap_count, gaps(result),
      device.retries, device.reissued_writes, device.failovers, device.fences,
      device.fences_by_time, device.path_losses, device.ghost_waits, paths(result));
}

int run(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    fmt::print("{}", kUsage);
    return 0;
  }
  const auto options = parse_options(argc, argv);
  if (!options.has_value()) {
    fmt::print(stderr, "holdfast-bench-mpio: {}\n{}", options.error().what, kUsage);
    return 2;
  }
  const auto result = run_load(*options, [] {
    fmt::print("{{\"event\": \"started\"}}\n");
    std::fflush(stdout);
  });
  if (!result.has_value()) {
    const char* why = result.error().sys != 0 ? std::strerror(result.error().sys) : "";
    fmt::print(stderr, "holdfast-bench-mpio: {} {}\n", result.error().what, why);
    return result.error().code == base::Errc::invalid_argument ? 2 : 1;
  }
  print(*options, *result);
  return 0;
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) { return holdfast::bench::run(argc, argv); }
