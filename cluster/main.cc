// holdfast <noun> <verb>: the command line of all parts.

#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/random.h"
#include "common/daemon/config_values.h"
#include "common/daemon/control_client.h"
#include "initiator/cli.h"
#include "mpio/cli.h"
#include "qdisk/cli.h"
#include "target/cli.h"

namespace {

// "`lst` is none of them: did you mean `list`?" for the first word that is no noun or verb where
// one is due; empty: there is none, or nothing is near.
std::string misspelt(const CLI::App& program, int argc, char** argv) {
  const CLI::App* at = &program;
  for (int i = 1; i < argc; ++i) {
    const std::vector<const CLI::App*> verbs =
        at->get_subcommands([](const CLI::App*) { return true; });
    if (verbs.empty()) return {};
    if (argv[i][0] == '-') continue;
    const auto next = std::ranges::find_if(
        verbs, [word = argv[i]](const CLI::App* verb) { return verb->get_name() == word; });
    if (next != verbs.end()) {
      at = *next;
      continue;
    }
    std::vector<std::string> names;
    for (const CLI::App* verb : verbs) names.push_back(verb->get_name());
    const std::string guess = holdfast::daemon::suggestion(
        argv[i], std::vector<std::string_view>(names.begin(), names.end()));
    return guess.empty() ? guess
                         : "`" + std::string(argv[i]) + "` is no such word: " + guess + "\n";
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  using namespace holdfast;
  CLI::App program{"Holdfast: shared storage of a failover cluster", "holdfast"};
  program.require_subcommand(1);
  program.set_version_flag("--version", "holdfast " HOLDFAST_VERSION);
  target::TargetCommand target_command;
  CLI::App* target_noun = target::add_target_commands(program, target_command);
  mpio::PathCommand path_command;
  CLI::App* path_noun = mpio::add_path_commands(program, path_command);
  initiator::InitiatorCommand initiator_command;
  CLI::App* initiator_noun = initiator::add_initiator_commands(program, initiator_command);
  qdisk::QuorumCommand quorum_command;
  CLI::App* quorum_noun = qdisk::add_quorum_commands(program, quorum_command);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (program.exit(error) == 0) return target::kExitOk;
    std::cerr << misspelt(program, argc, argv);
    return target::kExitUsage;
  }
  if (target_noun->parsed()) {
    return target::run_target_command(
        target_command, daemon::control_exchange("holdfast-targetd", target::kCliDeadline),
        std::cout, std::cerr);
  }
  if (path_noun->parsed()) {
    return mpio::run_path_command(
        path_command, daemon::control_exchange("holdfast-mpiod", mpio::kCliDeadline),
        {.out = std::cout,
         .err = std::cerr,
         .pause = [](uint32_t ms) { ::poll(nullptr, 0, static_cast<int>(ms)); },
         .is_tty = ::isatty(STDOUT_FILENO) == 1});
  }
  if (initiator_noun->parsed()) {
    return initiator::run_initiator_command(initiator_command, std::cout, std::cerr);
  }
  if (quorum_noun->parsed()) {
    base::SystemRandom random;
    return qdisk::run_quorum_command(
        quorum_command, random, daemon::control_exchange("holdfast-qdiskd", qdisk::kCliDeadline),
        std::cout, std::cerr);
  }
  return target::kExitUsage;
}
