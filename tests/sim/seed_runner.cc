#include "tests/sim/seed_runner.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string_view>

#include "common/base/log.h"

namespace holdfast::sim {
namespace {

struct Arguments {
  std::vector<uint64_t> seeds = {1};
  uint32_t steps = 30;
  size_t jobs = 1;
  bool trace = false;
  bool verbose = false;
  bool twice = false;  // every seed again, to compare the hashes
  std::string sabotage;
  struct Noticed {
    uint64_t seed = 0;
    std::string sabotage;
  };
  std::vector<Noticed> noticed;  // by the list: each of these runs has to fail
};

bool knows(const SeedProgram& program, const std::string& sabotage) {
  return std::ranges::count(program.sabotages, sabotage) > 0;
}

// `SEED` or `SEED SABOTAGE` a line.
bool read_list(const SeedProgram& program, const std::string& path, Arguments& out) {
  std::ifstream file(path);
  if (!file) return false;
  out.seeds.clear();
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    const uint64_t seed = std::strtoull(line.c_str(), nullptr, 10);
    out.seeds.push_back(seed);
    const size_t space = line.find(' ');
    if (space == std::string::npos) continue;
    out.noticed.push_back({seed, line.substr(space + 1)});
    if (!knows(program, out.noticed.back().sabotage)) return false;
  }
  return true;
}

bool parse_one(const SeedProgram& program, std::string_view argument, Arguments& out) {
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
    return read_list(program, *list, out);
  } else if (const auto steps = value_of("--steps=")) {
    out.steps = static_cast<uint32_t>(std::strtoul(steps->c_str(), nullptr, 10));
  } else if (const auto jobs = value_of("--jobs=")) {
    out.jobs = std::max<size_t>(1, std::strtoul(jobs->c_str(), nullptr, 10));
  } else if (const auto sabotage = value_of("--sabotage=")) {
    out.sabotage = *sabotage == "none" ? "" : *sabotage;
    return out.sabotage.empty() || knows(program, out.sabotage);
  } else {
    return false;
  }
  return true;
}

// How a seed's process says that the judge has found something. An assertion ends it by a signal.
constexpr int kBreach = 1;

SeedVerdict run_once(const SeedProgram& program, const Arguments& arguments, uint64_t seed) {
  SeedRun run{.seed = seed, .steps = arguments.steps, .sabotage = arguments.sabotage, .trace = {}};
  if (arguments.trace) {
    run.trace = [](std::string_view line) {
      std::fwrite(line.data(), 1, line.size(), stdout);
      std::fputc('\n', stdout);
    };
  }
  // The product's own log is worth reading beside a trace only.
  base::set_log_sink([&](base::LogLevel, std::string_view component, std::string_view message) {
    if (run.trace) run.trace(fmt::format("  log {}: {}", component, message));
  });
  SeedVerdict verdict = program.run(run);
  if (!verdict.ok || arguments.verbose) {
    std::printf("seed %llu: %s: %s\n", static_cast<unsigned long long>(seed),
                verdict.ok ? "ok" : "FAILED", verdict.summary.c_str());
  }
  for (const std::string& breach : verdict.breaches) {
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), breach.c_str());
  }
  std::fflush(stdout);
  base::set_log_sink({});
  return verdict;
}

bool run_seed(const SeedProgram& program, const Arguments& arguments, uint64_t seed) {
  const SeedVerdict first = run_once(program, arguments, seed);
  if (!first.ok || !arguments.twice) return first.ok;
  if (run_once(program, arguments, seed).hash == first.hash) return true;
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

Tally run_all(const SeedProgram& program, const Arguments& arguments) {
  Tally tally;
  std::map<pid_t, uint64_t> running;
  size_t next = 0;
  const bool control = !arguments.sabotage.empty();
  while (next < arguments.seeds.size() || !running.empty()) {
    const bool enough = control && !tally.failed.empty();
    if (!enough && next < arguments.seeds.size() && running.size() < arguments.jobs) {
      const uint64_t seed = arguments.seeds[next++];
      std::fflush(stdout);
      const pid_t child = fork();
      if (child == 0) {
        const bool ok = run_seed(program, arguments, seed);
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

// The kept seeds that show what a sabotage does.
bool all_noticed(const SeedProgram& program, const Arguments& arguments) {
  bool all = true;
  for (const Arguments::Noticed& each : arguments.noticed) {
    Arguments one = arguments;
    one.seeds = {each.seed};
    one.sabotage = each.sabotage;
    const Tally tally = run_all(program, one);
    if (!tally.failed.empty() && !tally.crashed) continue;
    std::printf("seed %llu has not noticed the sabotage %s\n",
                static_cast<unsigned long long>(each.seed), each.sabotage.c_str());
    all = false;
  }
  return all;
}

int run(const SeedProgram& program, const Arguments& arguments) {
  if (arguments.seeds.size() == 1 && arguments.sabotage.empty() && arguments.noticed.empty()) {
    return run_seed(program, arguments, arguments.seeds.front()) ? 0 : 1;
  }
  const Tally tally = run_all(program, arguments);
  const std::vector<uint64_t>& failed = tally.failed;
  std::printf("%zu seeds, %zu failed\n", arguments.seeds.size(), failed.size());
  for (const uint64_t seed : failed) {
    std::printf("  again: %s --seed=%llu --steps=%u --sabotage=%s --trace\n", program.name,
                static_cast<unsigned long long>(seed), arguments.steps,
                arguments.sabotage.empty() ? "none" : arguments.sabotage.c_str());
  }
  if (arguments.sabotage.empty()) {
    return failed.empty() && all_noticed(program, arguments) ? 0 : 1;
  }
  if (failed.empty()) std::printf("no seed has noticed the sabotage\n");
  if (tally.crashed) std::printf("an assertion is not what should notice it\n");
  return failed.empty() || tally.crashed ? 1 : 0;
}

}  // namespace

int run_seed_program(const SeedProgram& program, int count, char** values) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    if (parse_one(program, values[i], arguments)) continue;
    std::string choice;
    for (const std::string& each : program.sabotages) choice += (choice.empty() ? "" : "|") + each;
    std::fprintf(stderr,
                 "%s: cannot use %s\n"
                 "usage: %s [--seed=N | --seeds=A-B | --list=FILE] [--steps=N] [--jobs=N]\n"
                 "       [--sabotage=%s] [--trace] [--verbose] [--twice]\n",
                 program.name, values[i], program.name, choice.c_str());
    return 2;
  }
  return run(program, arguments);
}

}  // namespace holdfast::sim
