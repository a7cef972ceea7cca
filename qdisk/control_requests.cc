#include "qdisk/control_requests.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "common/daemon/control_message.h"
#include "qdisk/metrics_text.h"

namespace holdfast::qdisk {
namespace {

// Below what the command line waits for an answer.
constexpr io::Duration kPatience = std::chrono::milliseconds(1000);
constexpr io::Duration kLook = std::chrono::milliseconds(100);
// More than the control socket has clients.
constexpr size_t kMaxWaiting = 64;

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

bool flag(const json& request, const char* name) {
  const auto found = request.find(name);
  return found != request.end() && found->is_boolean() && found->get<bool>();
}

json refusal(std::string problem) { return daemon::refusal({std::move(problem)}); }

json ok(json made) {
  made["ok"] = true;
  return made;
}

json to_json(const NodeService::Seen& seen) {
  return {{"epoch", seen.decision.epoch},
          {"incarnations", seen.decision.incarnations},
          {"fenced", seen.fenced},
          {"lease", seen.lease}};
}

json to_json(const EventLog& events, io::Instant now) {
  json out = json::array();
  for (const EventLog::Entry& entry : events.entries()) {
    out.push_back({{"sequence", entry.sequence},
                   {"age_ms", std::chrono::duration_cast<Milliseconds>(now - entry.at).count()},
                   {"number", static_cast<uint16_t>(entry.event.id)},
                   {"severity", to_string(entry.event.severity)},
                   {"text", entry.event.text}});
  }
  return out;
}

json to_json(const NodeService::Fence& fence) {
  return {{"incarnation", fence.incarnation},
          {"state", to_string(fence.answer.state)},
          {"why", fence.answer.why},
          {"lab", fence.answer.lab}};
}

}  // namespace

Control::Control(io::Loop& loop, NodeService& node, Finish finish)
    : loop_(loop), node_(node), finish_(std::move(finish)) {
  node_.on_change([this]() noexcept { on_change(); });
}

// Between two lives nothing is known, and nothing happens.
void Control::on_change() {
  look_at_waiting();
  if (node_.seen()) events_.look(status(), loop_.now());
}

Control::~Control() {
  node_.on_change(nullptr);
  loop_.stop(timer_);
}

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
  if (*command == "create") {
    return node_.create(flag(*parsed, "although_silent"), answer_done(std::move(reply)));
  }
  if (*command == "force") {
    return node_.force(flag(*parsed, "heard_too"), answer_done(std::move(reply)));
  }
  if (*command == "attend") return attend(*parsed, std::move(reply));
  if (*command == "fence") return fence(*parsed, std::move(reply));
  if (*command == "events")
    return answer(std::move(reply), {{"events", to_json(events_, loop_.now())}});
  if (*command == "get_configuration") return get_configuration(std::move(reply));
  if (*command == "set_configuration") return set_configuration(*parsed, std::move(reply));
  if (*command == "look_at_configuration") {
    return look_at_proposal(daemon::number_member(*parsed, "version").value_or(0),
                            std::move(reply));
  }
  if (*command == "use_witness") return answer_done(std::move(reply))(node_.use_witness());
  if (*command == "leave") {
    return answer_done(std::move(reply))(
        node_.leave(daemon::string_member(*parsed, "user").value_or("")));
  }
  refuse(std::move(reply), fmt::format("`{}` is no command of this daemon", *command));
}

// Another daemon of this host says what it has dropped and runs, and hears what has been decided:
// at once where it does not know that yet, else when there is something new.
void Control::attend(const json& request, Reply reply) {
  const auto quiesced = daemon::number_member(request, "quiesced").value_or(0);
  const auto attends =
      node_.attend(daemon::string_member(request, "user").value_or(""), quiesced,
                   request.contains("runs") ? std::optional(flag(request, "runs")) : std::nullopt);
  if (!attends) return refuse(std::move(reply), attends.error());
  const auto known = daemon::number_member(request, "epoch").value_or(0);
  const auto fenced = daemon::number_member(request, "fenced").value_or(0);
  wait(
      [this, quiesced, known, fenced](bool last) noexcept -> std::optional<json> {
        const auto seen = node_.seen();
        if (!seen) return last ? std::optional(ok({{"epoch", 0}})) : std::nullopt;
        // Whoever has still to say something must be free to.
        const Epoch epoch = seen->decision.epoch;
        if (!last && epoch == known && seen->fenced == fenced && quiesced >= epoch) {
          return std::nullopt;
        }
        return ok(to_json(*seen));
      },
      std::move(reply));
}

void Control::fence(const json& request, Reply reply) {
  const std::string node = daemon::string_member(request, "node").value_or("");
  const auto incarnation = daemon::number_member(request, "incarnation").value_or(0);
  if (incarnation > UINT32_MAX) return refuse(std::move(reply), "there is no such incarnation");
  const bool strict = flag(request, "strict");
  // One life is meant throughout.
  wait(
      [this, node, strict, life = static_cast<Incarnation>(incarnation)](
          bool last) mutable noexcept -> std::optional<json> {
        const auto fence = node_.fence(node, life, strict);
        if (!fence) return refusal(fence.error());
        life = fence->incarnation;
        if (!last && fence->answer.state == FenceAnswer::State::pending) return std::nullopt;
        return ok(to_json(*fence));
      },
      std::move(reply));
}

// The document as text: bytes that are no UTF-8 are none of an administrator's.
void Control::get_configuration(Reply reply) {
  const NodeConfiguration* const configuration = node_.configuration();
  if (configuration == nullptr) return refuse(std::move(reply), "this node is about to begin");
  const ConfigStore& store = configuration->store();
  if (const std::string missing = store.missing(); !missing.empty()) {
    return refuse(std::move(reply), missing);
  }
  const ConfigDocument* const document = store.document();
  json made = {{"version", store.version()}};
  if (document != nullptr) made["document"] = document->bytes;
  answer(std::move(reply), std::move(made));
}

// `follows`: the version that the writer has seen; what was decided since is not written over.
void Control::set_configuration(const json& request, Reply reply) {
  NodeConfiguration* const configuration = node_.configuration();
  if (configuration == nullptr) return refuse(std::move(reply), "this node is about to begin");
  auto document = daemon::string_member(request, "document");
  const auto follows = daemon::number_member(request, "follows");
  if (!document || !follows) {
    return refuse(std::move(reply), "`document` is a text, and `follows` a version");
  }
  if (const auto proposed = configuration->propose(std::move(*document), *follows); !proposed) {
    return refuse(std::move(reply), proposed.error());
  }
  look_at_proposal(*follows + 1, std::move(reply));
}

// It takes longer than an answer may when a node is missing: to be asked again while it is pending.
void Control::look_at_proposal(uint64_t version, Reply reply) {
  wait(
      [this, version](bool last) noexcept -> std::optional<json> {
        const NodeConfiguration* const now = node_.configuration();
        if (now == nullptr) return refusal("this life of the node has ended meanwhile");
        const NodeConfiguration::Outcome outcome = now->look(version);
        if (!outcome.failure.empty()) return refusal(outcome.failure);
        if (!outcome.decided && !last) return std::nullopt;
        return ok({{"version", version}, {"state", outcome.decided ? "decided" : "pending"}});
      },
      std::move(reply));
}

void Control::wait(Look look, Reply reply) {
  waiting_.push_back({std::move(look), std::move(reply), loop_.now() + kPatience});
  look_at_waiting();
}

// No answer leads to another request from in here.
void Control::look_at_waiting() noexcept {
  const io::Instant now = loop_.now();
  for (size_t i = 0; i < waiting_.size();) {
    auto made = waiting_[i].look(now >= waiting_[i].until || waiting_.size() > kMaxWaiting);
    if (!made) {
      ++i;
      continue;
    }
    waiting_[i].reply([made = std::move(*made)] { return to_line(made); });
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
  }
  if (waiting_.empty()) {
    loop_.stop(timer_);
  } else {
    loop_.start(timer_, kLook);
  }
}

}  // namespace holdfast::qdisk
