// CLI11 throws: this file is built with exceptions.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "qdisk/cli.h"

namespace holdfast::qdisk {
namespace {

using Verb = QuorumCommand::Verb;

constexpr const char* kFooter =
    "Exit status: 0 done, and all is well; 1 refused, the device cannot be used, or is no witness "
    "or a damaged one; 2 wrong usage.";

CLI::App* add_verb(CLI::App& noun, const char* name, const char* what, QuorumCommand& command,
                   Verb verb) {
  CLI::App* made = noun.add_subcommand(name, what);
  made->callback([&command, verb] { command.verb = verb; });
  made->add_option("device", command.device, "A block device, or a regular file")->required();
  return made;
}

}  // namespace

CLI::App* add_quorum_commands(CLI::App& program, QuorumCommand& command) {
  CLI::App* noun = program.add_subcommand("quorum", "The witness of a cluster");
  noun->fallthrough();  // the verbs take these options too
  noun->require_subcommand(1);
  noun->footer(kFooter);
  noun->add_flag("--json", command.json, "Print JSON");
  CLI::App* witness = noun->add_subcommand("witness", "The small disk that votes");
  witness->fallthrough();
  witness->require_subcommand(1);
  CLI::App* format = add_verb(*witness, "format", "Make a device the witness of a new cluster",
                              command, Verb::witness_format);
  format->add_option("--cluster", command.cluster, "The cluster's name")->required();
  format
      ->add_option_function<std::string>(
          "--profile",
          [&command](const std::string& name) {
            command.profile = name == "lan-fast" ? TimerProfile::lan_fast : TimerProfile::standard;
          },
          "The cluster's times: default, or lan-fast for a network without long pauses")
      ->check(CLI::IsMember(std::vector<std::string>{"default", "lan-fast"}));
  // One each time: what follows may be the device.
  format
      ->add_option("--timer", command.timers,
                   "NAME=TIME: one of the times instead of the profile's, as lease=20s")
      ->allow_extra_args(false);
  format->add_flag("--force", command.force, "Also over what is on the device");
  add_verb(*witness, "show", "Show what is on a witness", command, Verb::witness_show);
  return noun;
}

}  // namespace holdfast::qdisk
