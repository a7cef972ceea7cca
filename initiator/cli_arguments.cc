// CLI11 throws: this file is built with exceptions.
#include <CLI/CLI.hpp>

#include "initiator/cli.h"

namespace holdfast::initiator {
namespace {

using Verb = InitiatorCommand::Verb;

constexpr const char* kFooter =
    "Exit status: 0 all is well; 1 a portal could not be used, or the portals disagree; 2 wrong "
    "usage.";

void add_login_options(CLI::App& verb, InitiatorCommand& command) {
  verb.add_option("--source", command.sources,
                  "The address of this host to connect from; one, or one for each portal");
  verb.add_option("--initiator-name", command.initiator_name,
                  "Our name (default iqn.2026-11.org.holdfast:HOSTNAME)");
  CLI::Option* user = verb.add_option("--chap-user", command.chap_user, "Our CHAP name");
  CLI::Option* secret = verb.add_option("--chap-secret-file", command.chap_secret_file,
                                        "A file with our secret, mode 0600");
  user->needs(secret);
  secret->needs(user);
  CLI::Option* target_user = verb.add_option("--target-user", command.target_user,
                                             "The target's CHAP name, which it has to prove");
  CLI::Option* target_secret = verb.add_option("--target-secret-file", command.target_secret_file,
                                               "A file with the target's secret");
  target_user->needs(target_secret)->needs(user);
  target_secret->needs(target_user);
}

}  // namespace

CLI::App* add_initiator_commands(CLI::App& program, InitiatorCommand& command) {
  CLI::App* noun = program.add_subcommand("initiator", "Look at iSCSI targets; needs no daemon");
  noun->fallthrough();
  noun->require_subcommand(1);
  noun->footer(kFooter);
  noun->add_flag("--json", command.json, "Print JSON");
  CLI::App* discover = noun->add_subcommand(
      "discover", "Show the targets that a portal offers us, and their portals");
  discover->callback([&command] { command.verb = Verb::discover; });
  discover->add_option("portal", command.portals, "ADDRESS or ADDRESS:PORT")
      ->required()
      ->expected(1);
  add_login_options(*discover, command);
  CLI::App* test = noun->add_subcommand(
      "login-test", "Log in through each portal and show what was agreed and what is there");
  test->callback([&command] { command.verb = Verb::login_test; });
  test->add_option("target", command.target, "The target's iSCSI name")->required();
  test->add_option("--portal", command.portals,
                   "ADDRESS or ADDRESS:PORT; may be given several times")
      ->required();
  test->add_option("--lun", command.lun, "Look at this unit only")->check(CLI::Range(0, 16383));
  add_login_options(*test, command);
  return noun;
}

}  // namespace holdfast::initiator
