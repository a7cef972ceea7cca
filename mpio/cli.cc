#include "mpio/cli.h"

#include <fmt/format.h>

#include <expected>
#include <nlohmann/json.hpp>
#include <ostream>
#include <vector>

#include "common/daemon/control_message.h"
#include "common/daemon/text_table.h"
#include "mpio/cli_tables.h"

namespace holdfast::mpio {
namespace {

using daemon::printable;
using daemon::to_line;
using nlohmann::json;
using Verb = PathCommand::Verb;

struct Failure {
  std::vector<std::string> problems;
  int status = kExitUsage;
};

// As JSON for programs to standard output, as text for people to standard error.
int print_failure(const PathCommand& command, const Failure& failure, Terminal& terminal) {
  if (command.json) {
    terminal.out << to_line(daemon::refusal(failure.problems));
  } else {
    for (const std::string& problem : failure.problems) terminal.err << printable(problem) << "\n";
  }
  return failure.status;
}

json request_of(const PathCommand& command) {
  json request = json::object();
  const auto named = [&](const char* name) { request["command"] = name; };
  if (!command.device.empty()) request["device"] = command.device;
  switch (command.verb) {
    case Verb::list:
    case Verb::top:
      named("list");
      break;
    case Verb::policy:
      named("policy");
      request["policy"] = command.policy;
      break;
    case Verb::disable:
      named("disable");
      request["path"] = command.path;
      break;
    case Verb::enable:
      named("enable");
      request["path"] = command.path;
      break;
    case Verb::explain:
      named("explain");
      break;
    case Verb::fence_test:
      named("fence_test");
      break;
  }
  return request;
}

std::expected<json, Failure> ask(const PathCommand& command, const daemon::Exchange& exchange) {
  const auto not_understood = [] {
    return std::unexpected(
        Failure{.problems = {"the daemon's answer is not understood: are the daemon and this "
                             "program of the same version?"}});
  };
  const auto line = exchange(command.socket, to_line(request_of(command)));
  if (!line) return std::unexpected(Failure{.problems = {line.error()}});
  auto answer = daemon::parse_line(*line);
  if (!answer) return not_understood();
  const auto ok = answer->find("ok");
  if (ok == answer->end() || !ok->is_boolean()) return not_understood();
  if (!ok->get<bool>()) {
    return std::unexpected(
        Failure{.problems = daemon::strings_member(*answer, "problems"), .status = kExitRefused});
  }
  return std::move(*answer);
}

json devices_of(const json& answer) {
  const auto found = answer.find("devices");
  return found == answer.end() ? json::array() : *found;
}

void print_json(const json& value, std::ostream& out) {
  out << value.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
}

int top(const PathCommand& command, const daemon::Exchange& exchange, Terminal& terminal) {
  auto before = ask(command, exchange);
  if (!before) return print_failure(command, before.error(), terminal);
  for (uint32_t shown = 0; command.count == 0 || shown < command.count; ++shown) {
    terminal.pause(command.interval_ms);
    auto after = ask(command, exchange);
    if (!after) return print_failure(command, after.error(), terminal);
    const json made = rates(devices_of(*before), devices_of(*after), command.interval_ms);
    if (command.json) {
      terminal.out << to_line(made);
    } else {
      // Home and clear: a table in place, unless just one is wanted.
      if (command.count != 1 && terminal.is_tty) terminal.out << "\x1b[H\x1b[2J";
      terminal.out << describe_rates(made);
    }
    terminal.out.flush();
    before = std::move(after);
  }
  return kExitOk;
}

}  // namespace

int run_path_command(const PathCommand& command, const daemon::Exchange& exchange,
                     Terminal terminal) {
  if (command.verb == Verb::top) return top(command, exchange, terminal);
  const auto answer = ask(command, exchange);
  if (!answer) return print_failure(command, answer.error(), terminal);
  if (command.verb == Verb::list) {
    const json devices = devices_of(*answer);
    if (command.json) {
      print_json(devices, terminal.out);
    } else {
      terminal.out << describe_list(devices);
    }
    return kExitOk;
  }
  if (command.json) {
    print_json(*answer, terminal.out);
  } else {
    for (const std::string& line : daemon::strings_member(*answer, "lines")) {
      terminal.out << printable(line) << "\n";
    }
  }
  if (command.verb != Verb::fence_test) return kExitOk;
  const auto reinstated = answer->find("reinstated");
  const bool works =
      reinstated != answer->end() && reinstated->is_boolean() && reinstated->get<bool>();
  return works ? kExitOk : kExitRefused;
}

}  // namespace holdfast::mpio
