// holdfast <noun> <verb>: the command line of all parts.

#include <poll.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "common/daemon/control_client.h"
#include "initiator/cli.h"
#include "mpio/cli.h"
#include "target/cli.h"

int main(int argc, char** argv) {
  using namespace holdfast;
  CLI::App program{"Holdfast: shared storage of a failover cluster", "holdfast"};
  program.require_subcommand(1);
  target::TargetCommand target_command;
  CLI::App* target_noun = target::add_target_commands(program, target_command);
  mpio::PathCommand path_command;
  CLI::App* path_noun = mpio::add_path_commands(program, path_command);
  initiator::InitiatorCommand initiator_command;
  CLI::App* initiator_noun = initiator::add_initiator_commands(program, initiator_command);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? target::kExitOk : target::kExitUsage;
  }
  if (target_noun->parsed()) {
    return target::run_target_command(
        target_command, daemon::control_exchange("holdfast-targetd", target::kCliDeadline),
        std::cout, std::cerr);
  }
  if (path_noun->parsed()) {
    return mpio::run_path_command(path_command,
                                  daemon::control_exchange("holdfast-mpiod", mpio::kCliDeadline),
                                  {.out = std::cout, .err = std::cerr, .pause = [](uint32_t ms) {
                                     ::poll(nullptr, 0, static_cast<int>(ms));
                                   }});
  }
  if (initiator_noun->parsed()) {
    return initiator::run_initiator_command(initiator_command, std::cout, std::cerr);
  }
  return target::kExitUsage;
}
