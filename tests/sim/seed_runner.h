#pragma once
// The command line of a simulation: seeds, each in a process of its own, twice, with a trace or
// with a sabotage that some seed must notice.
//
//   PROGRAM --seed=7 --trace            one run, with its log
//   PROGRAM --seeds=1-200 --jobs=2      many
//   PROGRAM --list=FILE                 seeds kept because they once found something
//   PROGRAM --seeds=1-200 --sabotage=X  negative control: succeeds when some seed finds the damage

#include <functional>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace holdfast::sim {

struct SeedRun {
  uint64_t seed = 1;
  uint32_t steps = 30;
  std::string sabotage;  // empty: none
  SimWorld::TraceSink trace;
};

struct SeedVerdict {
  bool ok = false;
  uint64_t hash = 0;
  std::string summary;
  std::vector<std::string> breaches;
};

struct SeedProgram {
  const char* name;
  std::vector<std::string> sabotages;
  std::function<SeedVerdict(const SeedRun&)> run;
};

// For main().
int run_seed_program(const SeedProgram& program, int count, char** values);

}  // namespace holdfast::sim
