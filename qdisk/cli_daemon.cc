#include "qdisk/cli_daemon.h"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "common/daemon/control_message.h"
#include "common/daemon/durable_file.h"
#include "common/daemon/text_table.h"
#include "qdisk/config_document.h"

namespace holdfast::qdisk {
namespace {

using daemon::printable;
using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;
using Verb = QuorumCommand::Verb;

// What is read is checked, as the daemon may be of another version: what is not there is empty.
std::string text(const json& object, const char* name) {
  return printable(daemon::string_member(object, name).value_or(""));
}

bool flag(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

std::string number(const json& object, const char* name) {
  const auto found = daemon::number_member(object, name);
  return found ? std::to_string(*found) : "-";
}

json member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? json() : *found;
}

// Its elements that are objects.
std::vector<json> objects(const json& object, const char* name) {
  std::vector<json> out;
  const auto found = object.find(name);
  if (found == object.end() || !found->is_array()) return out;
  for (const json& each : *found) {
    if (each.is_object()) out.push_back(each);
  }
  return out;
}

std::string yes(bool is) { return is ? "yes" : "-"; }

std::string networks(const json& node) {
  const json list = member(node, "networks");
  if (!list.is_array()) return "";
  std::string out;
  for (const json& each : list) {
    if (!out.empty()) out += " ";
    out += each.is_boolean() && each.get<bool>() ? "up" : "DOWN";
  }
  return out;
}

std::string state_of(const json& node) {
  if (!flag(node, "heard")) return "SILENT";
  if (!flag(node, "remembers")) return text(node, "state") + ", has lost its state";
  return text(node, "state");
}

// What bounds how long an evicted node may run on.
std::string stopped_by(const json& node) {
  std::string out = text(node, "watchdog");
  if (out == "real") out = "watchdog";
  if (out == "lab") out = "lab double";
  if (out == "none") out.clear();
  if (flag(node, "fence_agent")) out += out.empty() ? "agent" : ", agent";
  return out.empty() ? "-" : out;
}

std::string users_line(const json& status) {
  std::string out;
  for (const json& user : objects(status, "users")) {
    if (!out.empty()) out += ", ";
    out += text(user, "name");
    if (!flag(user, "quiesced")) out += " (has still to drop what former members asked)";
    if (flag(user, "runs")) out += " (runs what must end with the lease)";
  }
  return out.empty() ? "none" : out;
}

std::string nodes_table(const json& status) {
  Rows rows = {
      {"NODE", "ID", "STATE", "LIFE", "MEMBER", "VOTE", "NETWORKS", "ON DISK", "STOPPED BY"}};
  for (const json& node : objects(status, "nodes")) {
    const bool votes = flag(node, "votes");
    rows.push_back({text(node, "node") + (flag(node, "this_node") ? " *" : ""), number(node, "id"),
                    state_of(node), number(node, "incarnation"), yes(flag(node, "member")),
                    votes ? (flag(node, "vouches") ? "there" : "missing") : "-", networks(node),
                    yes(flag(node, "heard_on_disk")), stopped_by(node)});
  }
  return daemon::table(rows);
}

std::string witness_line(const json& status) {
  const json witness = member(status, "witness");
  if (!witness.is_object()) return "none";
  std::string out = flag(witness, "usable") ? "usable" : "NOT USABLE";
  if (const std::string problem = text(witness, "problem"); !problem.empty()) out += ": " + problem;
  out += flag(witness, "votes") ? ", votes" : ", has no vote";
  if (flag(witness, "votes")) out += flag(witness, "vouches") ? " (there)" : " (missing)";
  return out;
}

std::string volumes_table(const json& status) {
  Rows rows = {{"VOLUME", "NUMBER", "COORDINATOR", "TERM", "ON THIS NODE"}};
  for (const json& volume : objects(status, "volumes")) {
    std::string here = flag(volume, "usable") ? "usable" : "NOT USABLE";
    if (const std::string problem = text(volume, "problem"); !problem.empty()) {
      here += ": " + problem;
    }
    if (flag(volume, "without_reservations")) here += ", without reservations";
    rows.push_back({text(volume, "name"), number(volume, "number"), text(volume, "coordinator"),
                    number(volume, "term"), here});
  }
  return rows.size() == 1 ? "" : "\n" + daemon::table(rows);
}

std::string lines(const json& status, const char* name) {
  std::string out;
  for (const std::string& each : daemon::strings_member(status, name))
    out += printable(each) + "\n";
  return out;
}

std::string describe_status(const json& status) {
  std::string out =
      fmt::format("Cluster {}, node {}: {}\n", text(status, "cluster"), text(status, "node"),
                  flag(status, "quorum") ? "quorum" : "NO QUORUM");
  out += fmt::format("  epoch     {}{}{}\n", text(status, "epoch"),
                     flag(status, "forced") ? ", forced" : "",
                     flag(status, "fenced") ? "" : ", a fence is under way");
  const auto left = daemon::number_member(status, "lease_left_ms");
  out +=
      fmt::format("  lease     {}\n",
                  left ? fmt::format("{:.1f} s left", static_cast<double>(*left) / 1000) : "none");
  out += fmt::format("  witness   {}\n", witness_line(status));
  const std::string watchdog = text(status, "watchdog");
  out += fmt::format("  watchdog  {}\n", watchdog.empty() ? "none" : watchdog);
  out += fmt::format("  users     {}\n\n", users_line(status));
  return out + nodes_table(status) + volumes_table(status);
}

std::string describe_votes(const json& status) {
  Rows rows = {{"VOTER", "VOTE"}};
  for (const json& node : objects(status, "nodes")) {
    if (flag(node, "votes")) {
      rows.push_back({text(node, "node"), flag(node, "vouches") ? "there" : "missing"});
    }
  }
  const json witness = member(status, "witness");
  if (witness.is_object() && flag(witness, "votes")) {
    rows.push_back({"the witness", flag(witness, "vouches") ? "there" : "missing"});
  }
  return fmt::format("{} votes, {} needed ({})\n{}", number(status, "votes"),
                     number(status, "needed"), text(status, "mode"), daemon::table(rows));
}

std::string describe_why(const json& status) {
  std::string out = lines(status, "why");
  for (const json& failure : objects(status, "next_failures")) out += text(failure, "text") + "\n";
  return out;
}

Outcome failure(const QuorumCommand& command, const std::vector<std::string>& problems,
                int status) {
  Outcome out{.status = status};
  if (command.json) {
    out.out = daemon::to_line(daemon::refusal(problems));
  } else {
    for (const std::string& problem : problems) out.err += printable(problem) + "\n";
  }
  return out;
}

json request_of(const QuorumCommand& command) {
  switch (command.verb) {
    case Verb::create:
      return {{"command", "create"}, {"although_silent", command.although_silent}};
    case Verb::force:
      return {{"command", "force"}, {"heard_too", command.heard_too}};
    case Verb::fence:
      return {{"command", "fence"}, {"node", command.node}, {"strict", command.strict}};
    case Verb::forget:
      return {{"command", "leave"}, {"user", command.user}};
    case Verb::witness_use:
      return {{"command", "use_witness"}};
    case Verb::config_show:
      return {{"command", "get_configuration"}};
    case Verb::events:
      return {{"command", "events"}};
    default:
      return {{"command", "status"}};
  }
}

bool asks_for_status(const QuorumCommand& command) {
  return command.verb == Verb::status || command.verb == Verb::votes ||
         command.verb == Verb::explain;
}

std::string describe_fence(const QuorumCommand& command, const json& answer) {
  std::string out =
      fmt::format("Nothing of {} (life {}) can land any more: {}.\n", command.node,
                  number(answer, "incarnation"),
                  text(answer, "state") == "drained"
                      ? "its devices and all members have said so"
                      : "so much time has gone by that whatever was under way has ended");
  if (!command.strict) return out;
  out += "What it ran has stopped";
  return out +
         (flag(answer, "lab") ? ", as far as the lab's test double can be relied on.\n" : ".\n");
}

std::string describe_events(const json& answer) {
  Rows rows = {{"AGO", "NUMBER", "SEVERITY", "WHAT"}};
  for (const json& event : objects(answer, "events")) {
    const auto age = daemon::number_member(event, "age_ms").value_or(0);
    rows.push_back({fmt::format("{:.1f} s", static_cast<double>(age) / 1000),
                    number(event, "number"), text(event, "severity"), text(event, "text")});
  }
  return daemon::table(rows);
}

std::string shown(const QuorumCommand& command, const json& answer) {
  const json status = member(answer, "status");
  switch (command.verb) {
    case Verb::create:
      return "The cluster is created, and this node becomes its first member; the others join by "
             "themselves: `holdfast quorum status`.\n";
    case Verb::force:
      return "This node goes on alone, in a new generation of the cluster; the others join it when "
             "they are heard: `holdfast quorum status`.\n";
    case Verb::fence:
      return describe_fence(command, answer);
    case Verb::forget:
      return fmt::format("{} is not waited for any more.\n", command.user);
    case Verb::events:
      return describe_events(answer);
    case Verb::config_show:
      return daemon::string_member(answer, "document").value_or("");
    case Verb::witness_use:
      return "This witness is the cluster's from now on: `holdfast quorum status`.\n";
    case Verb::votes:
      return describe_votes(status);
    case Verb::explain:
      return describe_why(status);
    default:
      return describe_status(status);
  }
}

Outcome not_understood(const QuorumCommand& command) {
  return failure(command,
                 {"the daemon's answer is not understood: are the daemon and this program of the "
                  "same version?"},
                 kExitUsage);
}

// Asked again until it is done: while it is not the daemon answers once a second.
Outcome fence(const QuorumCommand& command, const daemon::Exchange& exchange) {
  json request = request_of(command);
  for (uint32_t seconds = 1;; ++seconds) {
    const auto line = exchange(command.socket, daemon::to_line(request));
    if (!line) return failure(command, {line.error()}, kExitUsage);
    const auto answer = daemon::parse_line(*line);
    if (!answer || !answer->contains("ok")) return not_understood(command);
    if (!flag(*answer, "ok")) {
      return failure(command, daemon::strings_member(*answer, "problems"), kExitRefused);
    }
    const std::string state = daemon::string_member(*answer, "state").value_or("");
    const std::string why = daemon::string_member(*answer, "why").value_or("");
    if (state == "refused") return failure(command, {why}, kExitRefused);
    if (state == "drained" || state == "timed") {
      return {.status = kExitOk,
              .out = command.json ? daemon::to_line(*answer) : shown(command, *answer)};
    }
    if (state != "pending") return not_understood(command);
    if (seconds >= command.wait_s) {
      return failure(command, {fmt::format("not done within {} s: {}", command.wait_s, why)},
                     kExitRefused);
    }
    // The life that was meant first.
    request["incarnation"] = daemon::number_member(*answer, "incarnation").value_or(0);
  }
}

// The daemon's answer to one request, or how the command ends.
std::expected<json, Outcome> answer_to(const QuorumCommand& command,
                                       const daemon::Exchange& exchange, const json& request) {
  const auto line = exchange(command.socket, daemon::to_line(request));
  if (!line) return std::unexpected(failure(command, {line.error()}, kExitUsage));
  auto answer = daemon::parse_line(*line);
  if (!answer || !answer->contains("ok")) return std::unexpected(not_understood(command));
  if (flag(*answer, "ok")) return std::move(*answer);
  return std::unexpected(
      failure(command, daemon::strings_member(*answer, "problems"), kExitRefused));
}

Outcome set_config(const QuorumCommand& command, const daemon::Exchange& exchange) {
  const auto bytes = daemon::read_file(command.file, kMaxDocumentBytes);
  if (!bytes) {
    return failure(command, {fmt::format("{}: {}", command.file, std::strerror(bytes.error()))},
                   kExitRefused);
  }
  auto follows = static_cast<uint64_t>(command.follows);
  if (command.follows < 0) {
    const auto now = answer_to(command, exchange, {{"command", "get_configuration"}});
    if (!now) return now.error();
    follows = daemon::number_member(*now, "version").value_or(0);
  }
  const std::string text(base::as_text(*bytes));
  auto answer =
      answer_to(command, exchange,
                {{"command", "set_configuration"}, {"document", text}, {"follows", follows}});
  // The daemon gives up by itself, and says what was missing.
  while (answer && daemon::string_member(*answer, "state") == "pending") {
    answer = answer_to(command, exchange,
                       {{"command", "look_at_configuration"}, {"version", follows + 1}});
  }
  if (!answer) return answer.error();
  return {.status = kExitOk,
          .out = command.json ? daemon::to_line(*answer)
                              : fmt::format("Version {} counts from now on.\n", follows + 1)};
}

}  // namespace

Outcome run_with_daemon(const QuorumCommand& command, const daemon::Exchange& exchange) {
  if (command.verb == Verb::config_set) return set_config(command, exchange);
  if (command.verb == Verb::fence) return fence(command, exchange);
  const auto line = exchange(command.socket, daemon::to_line(request_of(command)));
  if (!line) return failure(command, {line.error()}, kExitUsage);
  const auto answer = daemon::parse_line(*line);
  const bool asks = asks_for_status(command);
  if (!answer || !answer->contains("ok") ||
      (flag(*answer, "ok") && asks && !member(*answer, "status").is_object())) {
    return not_understood(command);
  }
  if (!flag(*answer, "ok")) {
    return failure(command, daemon::strings_member(*answer, "problems"), kExitRefused);
  }
  if (!command.json) return {.status = kExitOk, .out = shown(command, *answer)};
  const json made = asks ? member(*answer, "status") : *answer;
  return {.status = kExitOk,
          .out = made.dump(2, ' ', false, json::error_handler_t::replace) + "\n"};
}

}  // namespace holdfast::qdisk
