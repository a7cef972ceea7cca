#include "target/cli.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>

#include "common/daemon/control_message.h"
#include "common/daemon/text_table.h"
#include "target/cli_tables.h"
#include "target/control_json.h"

namespace holdfast::target {
namespace {

using nlohmann::json;
using Verb = TargetCommand::Verb;

// As JSON for programs to standard output, as text for people to standard error.
int print_problems(const TargetCommand& command, const std::vector<std::string>& problems,
                   int status, std::ostream& out, std::ostream& err) {
  if (command.json) {
    out << daemon::to_line(daemon::refusal(problems));
  } else {
    for (const std::string& problem : problems) err << daemon::printable(problem) << "\n";
  }
  return status;
}

int print_lines(const TargetCommand& command, const std::vector<std::string>& lines,
                std::ostream& out) {
  if (command.json) {
    out << daemon::to_line(to_json(NodeControl::Outcome(lines)));
  } else {
    for (const std::string& line : lines) out << daemon::printable(line) << "\n";
  }
  return kExitOk;
}

std::string absolute(const std::string& path) {
  std::error_code error;
  const std::string made = std::filesystem::absolute(path, error);
  return error ? path : made;
}

int check(const TargetCommand& command, std::ostream& out, std::ostream& err) {
  const auto config = load_config(command.file);
  if (config) {
    std::vector<std::string> lines = {
        fmt::format("{}: no errors; {} portal groups, {} disks, {} targets", command.file,
                    config->portal_groups.size(), config->disks.size(), config->targets.size())};
    for (const UnknownDisk& unknown : config->unknown_disks) {
      lines.push_back("unless the daemon has it: " + unknown.error.to_string());
    }
    return print_lines(command, lines, out);
  }
  std::vector<std::string> problems;
  for (const daemon::ConfigError& error : config.error()) problems.push_back(error.to_string());
  return print_problems(command, problems, kExitRefused, out, err);
}

json request_of(const TargetCommand& command) {
  json request = json::object();
  const auto named = [&request](const char* name) { request["command"] = name; };
  switch (command.verb) {
    case Verb::apply:
      named("apply");
      request["file"] = absolute(command.file);
      if (command.force) request["force"] = true;
      break;
    case Verb::disk_create:
      named("disk_create");
      request["disk"] = to_json(command.disk);
      break;
    case Verb::disk_resize:
      named("disk_resize");
      request["name"] = command.name;
      request["size_bytes"] = command.size_bytes;
      break;
    case Verb::disk_remove:
      named("disk_remove");
      request["name"] = command.name;
      break;
    case Verb::session_drop:
      named("session_drop");
      request["id"] = command.session_id;
      break;
    case Verb::session_logout:
      named("session_logout");
      request["id"] = command.session_id;
      break;
    case Verb::alua_set:
      named("alua_set");
      request["portal_group_tag"] = command.portal_group_tag;
      request["state"] = command.alua_state;
      break;
    default:
      named("status");
  }
  return request;
}

// The part of the status that the verb is about.
json part_of(Verb verb, const json& status) {
  const auto member = [](const json& from, const char* name) {
    const auto found = from.find(name);
    return found == from.end() ? json() : *found;
  };
  if (verb == Verb::disk_list) return member(status, "disks");
  if (verb == Verb::session_list) return member(status, "sessions");
  if (verb == Verb::alua_list) return member(status, "alua");
  if (verb == Verb::status) return status;
  const char* part = verb == Verb::stats ? "counters" : "reservation";
  json out = json::array();
  for (const json& disk : member(status, "disks")) {
    json& entry = out.emplace_back(json::object());
    entry["disk"] = member(member(disk, "config"), "name");
    entry[part] = member(disk, part);
  }
  return out;
}

std::string text_of(Verb verb, const NodeStatus& status) {
  switch (verb) {
    case Verb::disk_list:
      return describe_disks(status);
    case Verb::session_list:
      return describe_sessions(status);
    case Verb::reservation_list:
      return describe_reservations(status);
    case Verb::stats:
      return describe_stats(status);
    case Verb::alua_list:
      return describe_alua(status);
    default:
      return describe_status(status);
  }
}

int not_understood(const TargetCommand& command, std::ostream& out, std::ostream& err) {
  return print_problems(command,
                        {"the daemon's answer is not understood: are the daemon and this program "
                         "of the same version?"},
                        kExitUsage, out, err);
}

int print_status(const TargetCommand& command, const json& answer, std::ostream& out,
                 std::ostream& err) {
  const auto found = answer.find("status");
  if (found == answer.end()) return not_understood(command, out, err);
  const auto status = status_from_json(*found);
  if (!status) return not_understood(command, out, err);
  if (command.json) {
    out << part_of(command.verb, *found).dump(2, ' ', false, json::error_handler_t::replace)
        << "\n";
  } else {
    out << text_of(command.verb, *status);
  }
  const bool problem = command.verb == Verb::status && !problems_of(*status).empty();
  return problem ? kExitRefused : kExitOk;
}

bool asks_for_status(Verb verb) {
  return verb == Verb::status || verb == Verb::disk_list || verb == Verb::session_list ||
         verb == Verb::reservation_list || verb == Verb::stats || verb == Verb::alua_list;
}

}  // namespace

int run_target_command(const TargetCommand& command, const daemon::Exchange& exchange,
                       std::ostream& out, std::ostream& err) {
  if (command.verb == Verb::check) return check(command, out, err);
  const auto line = exchange(command.socket, daemon::to_line(request_of(command)));
  if (!line) return print_problems(command, {line.error()}, kExitUsage, out, err);
  const auto answer = daemon::parse_line(*line);
  if (!answer) return not_understood(command, out, err);
  const auto ok = answer->find("ok");
  if (ok == answer->end() || !ok->is_boolean()) return not_understood(command, out, err);
  if (!ok->get<bool>()) {
    return print_problems(command, daemon::strings_member(*answer, "problems"), kExitRefused, out,
                          err);
  }
  if (asks_for_status(command.verb)) return print_status(command, *answer, out, err);
  return print_lines(command, daemon::strings_member(*answer, "lines"), out);
}

}  // namespace holdfast::target
