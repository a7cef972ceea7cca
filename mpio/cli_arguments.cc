// CLI11 throws: this file is built with exceptions.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "mpio/cli.h"

namespace holdfast::mpio {
namespace {

using Verb = PathCommand::Verb;

constexpr const char* kFooter =
    "Exit status: 0 done; 1 the daemon refused, or the fence test failed; 2 wrong usage, or the "
    "daemon cannot be reached.";

CLI::App* add_verb(CLI::App& noun, const char* name, const char* what, PathCommand& command,
                   Verb verb) {
  CLI::App* made = noun.add_subcommand(name, what);
  made->callback([&command, verb] { command.verb = verb; });
  return made;
}

void add_device(CLI::App* verb, PathCommand& command, bool required) {
  CLI::Option* made = verb->add_option("device", command.device, "The device's name");
  if (required) made->required();
}

}  // namespace

CLI::App* add_path_commands(CLI::App& program, PathCommand& command) {
  CLI::App* noun = program.add_subcommand("path", "Multipath devices and their paths");
  noun->fallthrough();  // the verbs take these options too
  noun->require_subcommand(1);
  noun->footer(kFooter);
  noun->add_option("--socket", command.socket, "The daemon's control socket")
      ->capture_default_str();
  noun->add_flag("--json", command.json, "Print JSON");
  add_device(
      add_verb(*noun, "list", "Show devices, paths and the values in force", command, Verb::list),
      command, false);
  CLI::App* policy =
      add_verb(*noun, "policy", "Choose how a device uses its paths", command, Verb::policy);
  add_device(policy, command, true);
  policy
      ->add_option("policy", command.policy, "failover, round-robin, least-queue-depth or adaptive")
      ->required()
      ->check(CLI::IsMember(
          std::vector<std::string>{"failover", "round-robin", "least-queue-depth", "adaptive"}));
  CLI::App* disable = add_verb(*noun, "disable",
                               "Take a path out of use; what it carries ends "
                               "first",
                               command, Verb::disable);
  CLI::App* enable = add_verb(*noun, "enable", "Use a path again", command, Verb::enable);
  for (CLI::App* verb : {disable, enable}) {
    add_device(verb, command, true);
    verb->add_option("path", command.path, "The path's name, from `path list`")->required();
  }
  CLI::App* top =
      add_verb(*noun, "top", "Show what each path carries, again and again", command, Verb::top);
  add_device(top, command, false);
  top->add_option("-n", command.count, "So many tables, then end (0: until interrupted)")
      ->capture_default_str();
  top->add_option_function<double>(
         "--interval",
         [&command](double seconds) {
           command.interval_ms = static_cast<uint32_t>(seconds * 1000);
         },
         "Seconds between tables (default 0.5)")
      ->check(CLI::Range(0.1, 60.0));
  add_device(add_verb(*noun, "explain", "Say in words why each path is used or not", command,
                      Verb::explain),
             command, true);
  add_device(add_verb(*noun, "fence-test",
                      "Dry run of reinstating a session through another portal; disturbs no I/O",
                      command, Verb::fence_test),
             command, true);
  return noun;
}

}  // namespace holdfast::mpio
