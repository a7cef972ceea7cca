#include "target/control_requests.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "common/base/log.h"
#include "common/daemon/control_message.h"
#include "target/config_values.h"
#include "target/control_json.h"

namespace holdfast::target {
namespace {

using nlohmann::json;
using Reply = daemon::StreamServer::Reply;

void refuse(Reply reply, std::vector<std::string> problems) {
  reply([problems = std::move(problems)]() mutable {
    return daemon::to_line(daemon::refusal(std::move(problems)));
  });
}

NodeControl::Reply<NodeControl::Outcome> outcome_to(Reply reply) {
  return [reply = std::move(reply)](NodeControl::Outcome outcome) mutable noexcept {
    reply([outcome = std::move(outcome)] { return daemon::to_line(to_json(outcome)); });
  };
}

void status(const json&, const ControlParts& parts, Reply reply) {
  parts.node.status([reply = std::move(reply)](NodeStatus status) mutable noexcept {
    reply([status = std::move(status)] {
      json out = json::object();
      out["ok"] = true;
      out["status"] = to_json(status);
      return daemon::to_line(out);
    });
  });
}

void apply_file(const std::string& file, bool force, NodeControl& node, Reply reply) {
  // Also logged here: the client may not have waited for it.
  const auto refused = [](const std::string& name, const std::vector<std::string>& problems) {
    for (const std::string& problem : problems) {
      LOG_WARNING("control", "configuration not applied: file={}: {}", name, problem);
    }
  };
  auto config = load_config(file);
  if (!config) {
    std::vector<std::string> problems;
    for (const daemon::ConfigError& error : config.error()) problems.push_back(error.to_string());
    refused(file, problems);
    return refuse(std::move(reply), std::move(problems));
  }
  LOG_INFO("control", "applying the configuration: file={}", file);
  node.apply(std::move(*config), force,
             [file, refused, answer = outcome_to(std::move(reply))](
                 NodeControl::Outcome outcome) mutable noexcept {
               if (!outcome) refused(file, outcome.error());
               answer(std::move(outcome));
             });
}

void apply(const json& request, const ControlParts& parts, Reply reply) {
  const auto file = daemon::string_member(request, "file");
  if (!file || !file->starts_with('/')) {
    return refuse(std::move(reply), {"`apply` needs `file`, an absolute path"});
  }
  const auto forced = request.find("force");
  const bool force = forced != request.end() && forced->is_boolean() && forced->get<bool>();
  // Not on this thread: a file on storage that hangs must not stop other requests.
  auto shared = std::make_shared<Reply>(std::move(reply));
  const bool taken = parts.read_files([&node = parts.node, file = *file, force, shared]() noexcept {
    apply_file(file, force, node, std::move(*shared));
  });
  if (!taken) refuse(std::move(*shared), {"earlier files are still being read: try again later"});
}

void disk_create(const json& request, const ControlParts& parts, Reply reply) {
  const auto found = request.find("disk");
  auto disk = found == request.end() ? std::nullopt : disk_from_json(*found);
  if (!disk) return refuse(std::move(reply), {"`disk_create` needs `disk`, a disk's description"});
  std::vector<std::string> problems;
  for (const DiskProblem& problem : disk_problems(*disk)) problems.push_back(problem.message);
  if (!problems.empty()) return refuse(std::move(reply), std::move(problems));
  parts.node.disk_create(std::move(*disk), outcome_to(std::move(reply)));
}

void disk_resize(const json& request, const ControlParts& parts, Reply reply) {
  auto name = daemon::string_member(request, "name");
  const auto size = daemon::number_member(request, "size_bytes");
  if (!name || !size || *size == 0) {
    return refuse(std::move(reply), {"`disk_resize` needs `name` and `size_bytes`"});
  }
  parts.node.disk_resize(std::move(*name), *size, outcome_to(std::move(reply)));
}

void disk_remove(const json& request, const ControlParts& parts, Reply reply) {
  auto name = daemon::string_member(request, "name");
  if (!name) return refuse(std::move(reply), {"`disk_remove` needs `name`"});
  parts.node.disk_remove(std::move(*name), outcome_to(std::move(reply)));
}

void session_drop(const json& request, const ControlParts& parts, Reply reply) {
  const auto id = daemon::number_member(request, "id");
  if (!id) return refuse(std::move(reply), {"`session_drop` needs `id`, a session's number"});
  parts.node.session_drop(*id, outcome_to(std::move(reply)));
}

void session_logout(const json& request, const ControlParts& parts, Reply reply) {
  const auto id = daemon::number_member(request, "id");
  if (!id) return refuse(std::move(reply), {"`session_logout` needs `id`, a session's number"});
  parts.node.session_request_logout(*id, outcome_to(std::move(reply)));
}

void alua_set(const json& request, const ControlParts& parts, Reply reply) {
  const auto tag = daemon::number_member(request, "portal_group_tag");
  auto state = daemon::string_member(request, "state");
  if (!tag || *tag == 0 || *tag > 65535 || !state) {
    return refuse(std::move(reply),
                  {"`alua_set` needs `portal_group_tag` (1 to 65535) and `state`"});
  }
  parts.node.set_alua(static_cast<uint16_t>(*tag), std::move(*state), outcome_to(std::move(reply)));
}

struct Command {
  std::string_view name;
  void (*carry_out)(const json&, const ControlParts&, Reply);
};
constexpr Command kCommands[] = {
    {"status", status},
    {"apply", apply},
    {"disk_create", disk_create},
    {"disk_resize", disk_resize},
    {"disk_remove", disk_remove},
    {"session_drop", session_drop},
    {"session_logout", session_logout},
    {"alua_set", alua_set},
};

}  // namespace

void carry_out(std::string_view request, const ControlParts& parts, Reply reply) {
  const auto parsed = daemon::parse_line(request);
  if (!parsed) return refuse(std::move(reply), {"the request is not one JSON object in one line"});
  const auto name = daemon::string_member(*parsed, "command");
  if (!name) return refuse(std::move(reply), {"the request has no `command`"});
  for (const Command& command : kCommands) {
    if (command.name == *name) return command.carry_out(*parsed, parts, std::move(reply));
  }
  refuse(std::move(reply), {fmt::format("unknown command `{}`: are the daemon and the command line "
                                        "of the same version?",
                                        *name)});
}

daemon::ControlServer::Handler control_handler(ControlParts parts) {
  return [parts = std::move(parts)](std::string request, daemon::StreamServer::Reply reply) {
    carry_out(request, parts, std::move(reply));
  };
}

}  // namespace holdfast::target
