#include "qdisk/control_requests.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "common/daemon/control_message.h"
#include "qdisk/metrics_text.h"

namespace holdfast::qdisk {
namespace {

using daemon::to_line;
using nlohmann::json;
using Reply = daemon::StreamServer::Reply;

void answer(Reply reply, json made) {
  made["ok"] = true;
  reply([made = std::move(made)] { return to_line(made); });
}

void refuse(Reply reply, std::string problem) {
  reply([problem = std::move(problem)] { return to_line(daemon::refusal({problem})); });
}

NodeService::Done answer_done(Reply reply) {
  return [reply = std::move(reply)](std::expected<void, std::string> result) mutable noexcept {
    if (result) return answer(std::move(reply), json::object());
    refuse(std::move(reply), std::move(result.error()));
  };
}

}  // namespace

daemon::ControlServer::Handler Control::handler() {
  return [this](std::string request, Reply reply) {
    loop_.post([this, request = std::move(request), reply = std::move(reply)]() mutable noexcept {
      carry_out(request, std::move(reply));
    });
  };
}

daemon::MetricsPage Control::metrics_page() {
  return [this](Reply reply) {
    loop_.post([this, reply = std::move(reply)]() mutable noexcept {
      reply([status = status()] { return metrics_text(status); });
    });
  };
}

QuorumStatus Control::status() {
  QuorumStatus status = node_.status();
  finish_(status);
  return status;
}

void Control::carry_out(const std::string& request, Reply reply) {
  const auto parsed = daemon::parse_line(request);
  if (!parsed) return refuse(std::move(reply), "the request is not one JSON object in one line");
  const auto command = daemon::string_member(*parsed, "command");
  if (!command) return refuse(std::move(reply), "the request has no `command`");
  if (*command == "status") {
    return answer(std::move(reply), {{"status", to_json(status())}});
  }
  if (*command == "create") return node_.create(answer_done(std::move(reply)));
  if (*command == "force") {
    const auto heard_too = parsed->find("heard_too");
    return node_.force(
        heard_too != parsed->end() && heard_too->is_boolean() && heard_too->get<bool>(),
        answer_done(std::move(reply)));
  }
  refuse(std::move(reply), fmt::format("`{}` is no command of this daemon", *command));
}

}  // namespace holdfast::qdisk
