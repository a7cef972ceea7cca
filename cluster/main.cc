// holdfast <noun> <verb>: the command line of all parts.

#include <CLI/CLI.hpp>
#include <iostream>

#include "target/cli.h"

int main(int argc, char** argv) {
  using namespace holdfast;
  CLI::App program{"Holdfast: shared storage of a failover cluster", "holdfast"};
  program.require_subcommand(1);
  target::TargetCommand target_command;
  CLI::App* target_noun = target::add_target_commands(program, target_command);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? target::kExitOk : target::kExitUsage;
  }
  if (target_noun->parsed()) {
    return target::run_target_command(target_command, target::exchange_over_socket, std::cout,
                                      std::cerr);
  }
  return target::kExitUsage;
}
