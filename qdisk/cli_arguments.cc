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
  return made;
}

CLI::App* add_witness_verb(CLI::App& noun, const char* name, const char* what,
                           QuorumCommand& command, Verb verb) {
  CLI::App* made = add_verb(noun, name, what, command, verb);
  made->add_option("device", command.device, "A block device, or a regular file")->required();
  return made;
}

void add_fence_verbs(CLI::App& noun, QuorumCommand& command) {
  CLI::App* fence =
      add_verb(noun, "fence", "Evict a node, and end when nothing of it can land any more", command,
               Verb::fence);
  fence->add_option("node", command.node, "Its name")->required();
  fence->add_flag("--strict", command.strict,
                  "Also only when what it ran has stopped: by its watchdog or a fence agent");
  fence->add_option("--wait", command.wait_s, "Give up after so many seconds")
      ->capture_default_str()
      ->check(CLI::Range(1, 3600));
  add_verb(noun, "forget",
           "Wait no longer for a daemon of this host that is gone for good, with all it did",
           command, Verb::forget)
      ->add_option("user", command.user, "Its name, as `status` shows it")
      ->required();
}

void add_config_verbs(CLI::App& noun, QuorumCommand& command) {
  CLI::App* config =
      noun.add_subcommand("config", "The document that the whole cluster has in common");
  config->fallthrough();
  config->require_subcommand(1);
  add_verb(*config, "show", "Print the document", command, Verb::config_show);
  CLI::App* set =
      add_verb(*config, "set", "Replace the document by a file's text", command, Verb::config_set);
  set->add_option("file", command.file, "Its path")->required();
  set->add_option("--follows", command.follows,
                  "The version that the file was made from: refused if there is a newer one")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace

CLI::App* add_quorum_commands(CLI::App& program, QuorumCommand& command) {
  CLI::App* noun = program.add_subcommand("quorum", "Who may live: votes, leases, the witness");
  noun->fallthrough();  // the verbs take these options too
  noun->require_subcommand(1);
  noun->footer(kFooter);
  noun->add_option("--socket", command.socket, "The daemon's control socket")
      ->capture_default_str();
  noun->add_flag("--json", command.json, "Print JSON");
  add_verb(*noun, "status", "Show quorum, nodes, witness and volumes", command, Verb::status);
  add_verb(*noun, "votes", "Show who has a vote, and whose is there", command, Verb::votes);
  add_verb(*noun, "explain", "Say why there is quorum or none, and what one more failure would do",
           command, Verb::explain);
  add_verb(*noun, "events", "Show what has happened, the newest last", command, Verb::events);
  add_verb(*noun, "create", "Make this node the first of a new cluster; on ONE node", command,
           Verb::create)
      ->add_flag("--although-silent", command.although_silent,
                 "Also while other nodes are not heard, which have never been part of it");
  add_verb(*noun, "force",
           "Go on with this node alone: only when the nodes that are missing are lost for good",
           command, Verb::force)
      ->add_flag("--although-heard", command.heard_too,
                 "Also while others are heard, which will never again be part of the cluster");
  add_fence_verbs(*noun, command);
  add_config_verbs(*noun, command);
  CLI::App* witness = noun->add_subcommand("witness", "The small disk that votes");
  witness->fallthrough();
  witness->require_subcommand(1);
  CLI::App* format =
      add_witness_verb(*witness, "format", "Make a device the witness of a new cluster", command,
                       Verb::witness_format);
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
  format->add_option("--cluster-uuid", command.cluster_uuid,
                     "Of a cluster that exists and gets another witness: `cluster.uuid` of its "
                     "configuration");
  add_verb(*witness, "use", "Make the configured witness the cluster's, instead of the one it has",
           command, Verb::witness_use);
  add_witness_verb(*witness, "show", "Show what is on a witness", command, Verb::witness_show);
  return noun;
}

}  // namespace holdfast::qdisk
