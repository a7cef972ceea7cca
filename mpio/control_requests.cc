#include "mpio/control_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/base/log.h"
#include "common/daemon/config_values.h"
#include "common/daemon/control_message.h"

namespace holdfast::mpio {
namespace {

using daemon::string_member;
using daemon::to_line;
using nlohmann::json;
using Reply = daemon::StreamServer::Reply;

void refuse(Reply reply, std::string problem) {
  reply([problem = std::move(problem)] { return to_line(daemon::refusal({problem})); });
}

void answer_lines(Reply reply, std::vector<std::string> lines, json more = json::object()) {
  more["ok"] = true;
  more["lines"] = std::move(lines);
  reply([more = std::move(more)] { return to_line(more); });
}

}  // namespace

struct Control::Gather {
  Gather(Control& control, uint64_t number) : owner(control), id(number) {}
  void on_timer() noexcept { owner.on_gather_timer(id); }

  Control& owner;
  const uint64_t id;
  std::vector<size_t> members;
  std::vector<bool> answered;
  size_t missing = 0;
  std::move_only_function<void(Statuses) noexcept> then;
  io::TimerOf<Gather, &Gather::on_timer> timer{*this};
};

Control::Control(io::Loop& loop, std::vector<Member> members)
    : loop_(loop), members_(std::move(members)), last_(members_.size()) {
  for (size_t i = 0; i < members_.size(); ++i) last_[i].name = members_[i].service->name();
}

Control::~Control() {
  for (const auto& gather : gathers_) loop_.stop(gather->timer);
}

daemon::ControlServer::Handler Control::handler() {
  return [this](std::string request, Reply reply) {
    loop_.post([this, request = std::move(request), reply = std::move(reply)]() mutable noexcept {
      carry_out(request, std::move(reply));
    });
  };
}

size_t Control::find(const std::string& device) const {
  const auto found = std::ranges::find_if(
      members_, [&](const Member& member) { return member.service->name() == device; });
  return static_cast<size_t>(found - members_.begin());
}

void Control::carry_out(const std::string& request, Reply reply) {
  const auto parsed = daemon::parse_line(request);
  if (!parsed) return refuse(std::move(reply), "the request is not one JSON object in one line");
  const auto command = string_member(*parsed, "command");
  if (!command) return refuse(std::move(reply), "the request has no `command`");
  const std::string device = string_member(*parsed, "device").value_or("");
  const size_t member = find(device);
  if (member == members_.size() && !(device.empty() && *command == "list")) {
    if (device.empty()) {
      return refuse(std::move(reply), fmt::format("`{}` needs `device`", *command));
    }
    std::vector<std::string_view> names;
    for (const Member& each : members_) names.push_back(each.service->name());
    const std::string guess = daemon::suggestion(device, names);
    return refuse(std::move(reply), fmt::format("no device is named `{}`{}", device,
                                                guess.empty() ? "" : ": " + guess));
  }
  if (*command == "list") return list(device, std::move(reply));
  if (*command == "explain") return explain(device, std::move(reply));
  if (*command == "fence_test") return test_fence(member, std::move(reply));
  if (*command == "policy") {
    return set_policy(member, string_member(*parsed, "policy").value_or(""), std::move(reply));
  }
  if (*command == "enable" || *command == "disable") {
    return set_enabled(member, string_member(*parsed, "path").value_or(""), *command == "enable",
                       std::move(reply));
  }
  refuse(std::move(reply), fmt::format("unknown command `{}`: are the daemon and the command line "
                                       "of the same version?",
                                       *command));
}

// --- status ---

void Control::gather(const std::string& device,
                     std::move_only_function<void(Statuses) noexcept> then) {
  auto made = std::make_unique<Gather>(*this, next_gather_++);
  for (size_t i = 0; i < members_.size(); ++i) {
    if (device.empty() || members_[i].service->name() == device) made->members.push_back(i);
  }
  made->missing = made->members.size();
  made->answered.resize(members_.size(), false);
  made->then = std::move(then);
  const uint64_t id = made->id;
  const std::vector<size_t> asked = made->members;
  loop_.start(made->timer, asked.empty() ? io::Duration(0) : io::Duration(kGatherLimit));
  gathers_.push_back(std::move(made));
  for (const size_t index : asked) {
    members_[index].loop->post([this, id, index]() noexcept {
      DeviceStatus status = members_[index].service->status();
      loop_.post([this, id, index, status = std::move(status)]() mutable noexcept {
        on_status(id, index, std::move(status));
      });
    });
  }
}

void Control::on_status(uint64_t id, size_t index, DeviceStatus status) {
  last_[index] = std::move(status);
  const auto found = std::ranges::find_if(gathers_, [id](const auto& g) { return g->id == id; });
  if (found == gathers_.end() || !(*found)->then) return;  // it was answered without
  (*found)->answered[index] = true;
  if (--(*found)->missing == 0) finish_gather(**found);
}

void Control::on_gather_timer(uint64_t id) {
  const auto found = std::ranges::find_if(gathers_, [id](const auto& g) { return g->id == id; });
  if (found != gathers_.end()) finish_gather(**found);
}

void Control::finish_gather(Gather& gather) {
  if (!gather.then) return;
  loop_.stop(gather.timer);
  Statuses statuses;
  for (const size_t index : gather.members) {
    statuses.push_back(last_[index]);
    statuses.back().stale = !gather.answered[index];
  }
  auto then = std::exchange(gather.then, nullptr);
  // Not from within its own timer.
  loop_.post([this, id = gather.id]() noexcept {
    std::erase_if(gathers_, [id](const auto& each) { return each->id == id; });
  });
  then(std::move(statuses));
}

void Control::list(const std::string& device, Reply reply) {
  gather(device, [reply = std::move(reply)](Statuses statuses) mutable noexcept {
    reply([statuses = std::move(statuses)] {
      json out = json::object();
      out["ok"] = true;
      json& devices = out["devices"] = json::array();
      for (const DeviceStatus& status : statuses) devices.push_back(to_json(status));
      return to_line(out);
    });
  });
}

void Control::explain(const std::string& device, Reply reply) {
  gather(device, [reply = std::move(reply)](Statuses statuses) mutable noexcept {
    answer_lines(std::move(reply), mpio::explain(statuses.front()));
  });
}

// --- changes ---

void Control::set_policy(size_t member, const std::string& policy, Reply reply) {
  const auto wanted = parse_policy(policy);
  if (!wanted) {
    return refuse(std::move(reply), fmt::format("`{}` is no policy: failover, round-robin, "
                                                "least-queue-depth or adaptive",
                                                policy));
  }
  DeviceService* service = members_[member].service;
  members_[member].loop->post(
      [service, wanted = *wanted, reply = std::move(reply)]() mutable noexcept {
        service->set_policy(wanted);
        answer_lines(std::move(reply),
                     {fmt::format("device {}: policy {} until the daemon restarts or reloads its "
                                  "configuration",
                                  service->name(), to_string(wanted))});
      });
}

void Control::set_enabled(size_t member, const std::string& path, bool enabled, Reply reply) {
  DeviceService* service = members_[member].service;
  members_[member].loop->post(
      [service, path, enabled, reply = std::move(reply)]() mutable noexcept {
        if (!service->set_path_enabled(path, enabled)) {
          return refuse(std::move(reply),
                        fmt::format("device {} has no path `{}`: see `holdfast path list`",
                                    service->name(), path));
        }
        LOG_INFO("mpiod", "{}: path {} {} by the administrator", service->name(), path,
                 enabled ? "enabled" : "disabled");
        answer_lines(std::move(reply),
                     {fmt::format("device {}: path {} is {}", service->name(), path,
                                  enabled ? "enabled" : "disabled; what it carries ends first")});
      });
}

void Control::test_fence(size_t member, Reply reply) {
  DeviceService* service = members_[member].service;
  members_[member].loop->post([service, reply = std::move(reply)]() mutable noexcept {
    service->test_fence([reply = std::move(reply)](FenceTest::Result result) mutable noexcept {
      if (result.login_us < 0) {
        std::vector<std::string> problems = std::move(result.lines);
        return reply(
            [problems = std::move(problems)] { return to_line(daemon::refusal(problems)); });
      }
      json more = json::object();
      more["reinstated"] = result.reinstated;
      more["login_ms"] = static_cast<double>(result.login_us) / 1000;
      if (result.end_us >= 0) more["end_ms"] = static_cast<double>(result.end_us) / 1000;
      answer_lines(std::move(reply), std::move(result.lines), std::move(more));
    });
  });
}

}  // namespace holdfast::mpio
