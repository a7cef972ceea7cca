// The whole target under simulated faults: docs/fault_model.md.
//
//   sim --seed=7 --trace            one run, with its log
//   sim --seeds=1-200 --jobs=2      many, each in a process of its own
//   sim --list=FILE                 seeds kept because they once found something
//   sim --seeds=1-200 --sabotage=lock
//                                   negative control: succeeds when some seed finds the damage

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/log.h"
#include "tests/sim/chaos.h"

namespace holdfast::sim {
namespace {

struct Arguments {
  std::vector<uint64_t> seeds = {1};
  uint32_t steps = 30;
  size_t jobs = 1;
  bool trace = false;
  bool verbose = false;
  bool twice = false;  // every seed again, to compare the hashes
  Sabotage sabotage = Sabotage::none;
};

const char* to_text(Sabotage sabotage) {
  switch (sabotage) {
    case Sabotage::none:
      return "none";
    case Sabotage::lock:
      return "lock";
    case Sabotage::cancel:
      return "cancel";
    case Sabotage::flush:
      return "flush";
    case Sabotage::store:
      return "store";
  }
  return "?";
}

std::optional<Sabotage> parse_sabotage(std::string_view text) {
  for (const Sabotage each :
       {Sabotage::none, Sabotage::lock, Sabotage::cancel, Sabotage::flush, Sabotage::store}) {
    if (text == to_text(each)) return each;
  }
  return std::nullopt;
}

std::optional<std::vector<uint64_t>> read_list(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::vector<uint64_t> seeds;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    seeds.push_back(std::strtoull(line.c_str(), nullptr, 10));
  }
  return seeds;
}

bool parse_one(std::string_view argument, Arguments& out) {
  const auto value_of = [&](std::string_view name) -> std::optional<std::string> {
    if (!argument.starts_with(name)) return std::nullopt;
    return std::string(argument.substr(name.size()));
  };
  if (argument == "--trace") {
    out.trace = true;
  } else if (argument == "--verbose") {
    out.verbose = true;
  } else if (argument == "--twice") {
    out.twice = true;
  } else if (const auto seed = value_of("--seed=")) {
    out.seeds = {std::strtoull(seed->c_str(), nullptr, 10)};
  } else if (const auto range = value_of("--seeds=")) {
    char* rest = nullptr;
    const uint64_t first = std::strtoull(range->c_str(), &rest, 10);
    if (*rest != '-') return false;
    const uint64_t last = std::strtoull(rest + 1, nullptr, 10);
    out.seeds.clear();
    for (uint64_t each = first; each <= last; ++each) out.seeds.push_back(each);
  } else if (const auto list = value_of("--list=")) {
    const auto seeds = read_list(*list);
    if (!seeds) return false;
    out.seeds = *seeds;
  } else if (const auto steps = value_of("--steps=")) {
    out.steps = static_cast<uint32_t>(std::strtoul(steps->c_str(), nullptr, 10));
  } else if (const auto jobs = value_of("--jobs=")) {
    out.jobs = std::max<size_t>(1, std::strtoul(jobs->c_str(), nullptr, 10));
  } else if (const auto sabotage = value_of("--sabotage=")) {
    const auto parsed = parse_sabotage(*sabotage);
    if (!parsed) return false;
    out.sabotage = *parsed;
  } else {
    return false;
  }
  return true;
}

struct Verdict {
  bool ok = false;
  uint64_t hash = 0;
};

// How a seed's process says that the judge has found something. An assertion ends it by a signal.
constexpr int kBreach = 1;

Verdict run_once(const Arguments& arguments, uint64_t seed) {
  Simulation::Options options{
      .seed = seed, .steps = arguments.steps, .sabotage = arguments.sabotage, .trace = {}};
  if (arguments.trace) {
    options.trace = [](std::string_view line) {
      std::fwrite(line.data(), 1, line.size(), stdout);
      std::fputc('\n', stdout);
    };
  }
  Simulation simulation(options);
  // The product's own log is worth reading beside a trace only.
  base::set_log_sink([&](base::LogLevel, std::string_view component, std::string_view message) {
    if (options.trace) options.trace(fmt::format("  log {}: {}", component, message));
  });
  const bool ok = simulation.run();
  if (!ok || arguments.verbose) {
    std::printf("seed %llu: %s: %s\n", static_cast<unsigned long long>(seed), ok ? "ok" : "FAILED",
                simulation.summary().c_str());
  }
  for (const std::string& breach : simulation.breaches()) {
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), breach.c_str());
  }
  std::fflush(stdout);
  base::set_log_sink({});
  return {ok, simulation.hash()};
}

bool run_seed(const Arguments& arguments, uint64_t seed) {
  const Verdict first = run_once(arguments, seed);
  if (!first.ok || !arguments.twice) return first.ok;
  if (run_once(arguments, seed).hash == first.hash) return true;
  std::printf("seed %llu: FAILED: a second run gave another log\n",
              static_cast<unsigned long long>(seed));
  return false;
}

// A process for each seed, so that an assertion ends only its own, and the memory of killed targets
// is given back.
struct Tally {
  std::vector<uint64_t> failed;
  bool crashed = false;
};

Tally run_all(const Arguments& arguments) {
  Tally tally;
  std::map<pid_t, uint64_t> running;
  size_t next = 0;
  const bool control = arguments.sabotage != Sabotage::none;
  while (next < arguments.seeds.size() || !running.empty()) {
    const bool enough = control && !tally.failed.empty();
    if (!enough && next < arguments.seeds.size() && running.size() < arguments.jobs) {
      const uint64_t seed = arguments.seeds[next++];
      std::fflush(stdout);
      const pid_t child = fork();
      if (child == 0) {
        const bool ok = run_seed(arguments, seed);
        std::fflush(stdout);
        _exit(ok ? 0 : kBreach);
      }
      running[child] = seed;
      continue;
    }
    if (running.empty()) break;
    int status = 0;
    const pid_t child = wait(&status);
    const uint64_t seed = running.at(child);
    running.erase(child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    if (WIFSIGNALED(status)) {
      std::printf("seed %llu: FAILED: signal %d\n", static_cast<unsigned long long>(seed),
                  WTERMSIG(status));
      tally.crashed = true;
    }
    tally.failed.push_back(seed);
  }
  return tally;
}

int run(const Arguments& arguments) {
  if (arguments.seeds.size() == 1 && arguments.sabotage == Sabotage::none) {
    return run_seed(arguments, arguments.seeds.front()) ? 0 : 1;
  }
  const Tally tally = run_all(arguments);
  const std::vector<uint64_t>& failed = tally.failed;
  std::printf("%zu seeds, %zu failed\n", arguments.seeds.size(), failed.size());
  for (const uint64_t seed : failed) {
    std::printf("  again: sim --seed=%llu --steps=%u --sabotage=%s --trace\n",
                static_cast<unsigned long long>(seed), arguments.steps,
                to_text(arguments.sabotage));
  }
  if (arguments.sabotage == Sabotage::none) return failed.empty() ? 0 : 1;
  if (failed.empty()) std::printf("no seed has noticed the sabotage\n");
  if (tally.crashed) std::printf("an assertion is not what should notice it\n");
  return failed.empty() || tally.crashed ? 1 : 0;
}

}  // namespace
}  // namespace holdfast::sim

int main(int count, char** values) {
  holdfast::sim::Arguments arguments;
  for (int i = 1; i < count; ++i) {
    if (holdfast::sim::parse_one(values[i], arguments)) continue;
    std::fprintf(
        stderr,
        "sim: cannot use %s\n"
        "usage: sim [--seed=N | --seeds=A-B | --list=FILE] [--steps=N] [--jobs=N]\n"
        "           [--sabotage=lock|cancel|flush|store] [--trace] [--verbose] [--twice]\n",
        values[i]);
    return 2;
  }
  return holdfast::sim::run(arguments);
}
