// CLI11 throws: this file is built with exceptions.
#include <CLI/CLI.hpp>
#include <charconv>
#include <vector>

#include "common/base/units.h"
#include "target/cli.h"
#include "target/config_values.h"

namespace holdfast::target {
namespace {

using Verb = TargetCommand::Verb;

constexpr const char* kFooter =
    "Exit status: 0 done; 1 the daemon refused, or reports a problem; 2 wrong usage, or the daemon "
    "cannot be reached.";

uint64_t size_of(const std::string& text) {
  const auto parsed = base::parse_size(text);
  if (!parsed) throw CLI::ValidationError("size", "\"" + text + "\": " + parsed.error().what);
  if (*parsed == 0) throw CLI::ValidationError("size", "must not be 0");
  return *parsed;
}

// What numbers a session: as `session list` shows it.
uint64_t session_id_of(const std::string& text) {
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error == std::errc() && end == text.data() + text.size()) return id;
  throw CLI::ValidationError("id", "\"" + text +
                                       "\" is not a session number: `holdfast target session "
                                       "list` shows those there are");
}

void add_session_id(CLI::App& verb, TargetCommand& command) {
  verb.add_option_function<std::string>(
          "id", [&command](const std::string& text) { command.session_id = session_id_of(text); },
          "The session's number, from `session list`")
      ->required();
}

CLI::App* add_verb(CLI::App& noun, const char* name, const char* what, TargetCommand& command,
                   Verb verb) {
  CLI::App* made = noun.add_subcommand(name, what);
  made->callback([&command, verb] { command.verb = verb; });
  return made;
}

CLI::App* add_noun(CLI::App& parent, const char* name, const char* what) {
  CLI::App* made = parent.add_subcommand(name, what);
  made->require_subcommand(1);
  return made;
}

void add_disk_create(CLI::App& disk, TargetCommand& command) {
  CLI::App* create = add_verb(disk, "create", "Create a disk; the daemon remembers it", command,
                              Verb::disk_create);
  DiskConfig& made = command.disk;
  create->add_option("name", made.name, "The disk's name")->required();
  create
      ->add_option_function<std::string>(
          "--kind",
          [&made](const std::string& text) {
            const auto kind = backing_kind_of(text);
            if (!kind) throw CLI::ValidationError("--kind", "must be file, block or memory");
            made.backing.kind = *kind;
          },
          "file, block or memory")
      ->default_str("file");
  create->add_option("--path", made.backing.path, "File or block device that holds the data");
  create->add_option_function<std::string>(
      "--size", [&made](const std::string& text) { made.backing.size_bytes = size_of(text); },
      "Such as 64GiB; not for a block device");
  create->add_flag_function(
      "--thick", [&made](int64_t) { made.backing.thin = false; },
      "Allocate all space now (the default is thin)");
  create->add_option("--block-size", made.backing.block_size, "512 or 4096")->capture_default_str();
  create->add_option("--physical-block-size", made.backing.physical_block_size, "A power of two")
      ->capture_default_str();
  create->add_flag("--read-only", made.backing.read_only, "Refuse writes");
  create->add_flag("--removable", made.removable, "Report a removable medium");
  create->add_option_function<std::string>(
      "--write-cache",
      [&made](const std::string& text) {
        if (text != "on" && text != "off") {
          throw CLI::ValidationError("--write-cache", "must be on or off");
        }
        made.write_cache = text == "on";
      },
      "on or off; the default is what the storage really does");
}

void add_disk(CLI::App& noun, TargetCommand& command) {
  CLI::App* disk = add_noun(noun, "disk", "Virtual disks");
  add_verb(*disk, "list", "Show the disks", command, Verb::disk_list);
  add_disk_create(*disk, command);
  CLI::App* resize =
      add_verb(*disk, "resize", "Grow a disk; initiators are told", command, Verb::disk_resize);
  resize->add_option("name", command.name, "The disk's name")->required();
  resize
      ->add_option_function<std::string>(
          "size", [&command](const std::string& text) { command.size_bytes = size_of(text); },
          "The new size, such as 128GiB")
      ->required();
  CLI::App* remove =
      add_verb(*disk, "remove", "Forget a created disk; its data is kept (of a memory disk: lost)",
               command, Verb::disk_remove);
  remove->add_option("name", command.name, "The disk's name")->required();
}

void add_session(CLI::App& noun, TargetCommand& command) {
  CLI::App* session = add_noun(noun, "session", "Sessions of initiators");
  add_verb(*session, "list", "Show the sessions", command, Verb::session_list);
  add_session_id(*add_verb(*session, "drop", "End a session at once", command, Verb::session_drop),
                 command);
  add_session_id(
      *add_verb(*session, "logout", "Ask the initiator to log out", command, Verb::session_logout),
      command);
}

void add_alua(CLI::App& noun, TargetCommand& command) {
  CLI::App* alua = add_noun(noun, "alua", "Access states of the portal groups");
  add_verb(*alua, "list", "Show the states", command, Verb::alua_list);
  CLI::App* set =
      add_verb(*alua, "set", "Change the state of a portal group", command, Verb::alua_set);
  set->add_option("tag", command.portal_group_tag, "The portal group's tag")
      ->required()
      ->check(CLI::Range(1, 65535));
  set->add_option("state", command.alua_state,
                  "active/optimized, active/non-optimized, standby, unavailable or transitioning")
      ->required()
      ->check(CLI::IsMember(std::vector<std::string>{"active/optimized", "active/non-optimized",
                                                     "standby", "unavailable", "transitioning"}));
}

}  // namespace

CLI::App* add_target_commands(CLI::App& program, TargetCommand& command) {
  CLI::App* noun = program.add_subcommand("target", "The iSCSI target");
  noun->fallthrough();  // the verbs take these options too
  noun->require_subcommand(1);
  noun->footer(kFooter);
  noun->add_option("--socket", command.socket, "The daemon's control socket")
      ->capture_default_str();
  noun->add_flag("--json", command.json, "Print JSON");
  add_verb(*noun, "status", "Show the whole target; exit status 1 when something has failed",
           command, Verb::status);
  CLI::App* apply =
      add_verb(*noun, "apply", "Make the running target what FILE says", command, Verb::apply);
  apply->add_option("file", command.file, "The configuration file")->required();
  apply->add_flag("--force", command.force, "Even if FILE takes every target away");
  CLI::App* check =
      add_verb(*noun, "check", "Look for errors in FILE; needs no daemon", command, Verb::check);
  check->add_option("file", command.file, "The configuration file")->required();
  add_disk(*noun, command);
  add_session(*noun, command);
  CLI::App* reservation = add_noun(*noun, "reservation", "Persistent reservations");
  add_verb(*reservation, "list", "Show reservations and registrations", command,
           Verb::reservation_list);
  add_verb(*noun, "stats", "Show counters and latencies of the disks", command, Verb::stats);
  add_alua(*noun, command);
  return noun;
}

}  // namespace holdfast::target
