// The whole target under simulated faults: docs/fault_model.md.

#include "tests/sim/chaos.h"
#include "tests/sim/seed_runner.h"

namespace holdfast::sim {
namespace {

Sabotage parse(const std::string& name) {
  if (name == "lock") return Sabotage::lock;
  if (name == "cancel") return Sabotage::cancel;
  if (name == "flush") return Sabotage::flush;
  if (name == "store") return Sabotage::store;
  return Sabotage::none;
}

SeedVerdict simulate(const SeedRun& run) {
  Simulation simulation(
      {.seed = run.seed, .steps = run.steps, .sabotage = parse(run.sabotage), .trace = run.trace});
  SeedVerdict verdict;
  verdict.ok = simulation.run();
  verdict.hash = simulation.hash();
  verdict.summary = simulation.summary();
  verdict.breaches = simulation.breaches();
  return verdict;
}

}  // namespace
}  // namespace holdfast::sim

int main(int count, char** values) {
  return holdfast::sim::run_seed_program({.name = "sim",
                                          .sabotages = {"lock", "cancel", "flush", "store"},
                                          .run = holdfast::sim::simulate},
                                         count, values);
}
