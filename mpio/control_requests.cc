#include "mpio/control_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
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
  DeviceSet::Devices devices;
  std::set<const DeviceHandle*> missing;
  std::move_only_function<void(Statuses) noexcept> then;
  io::TimerOf<Gather, &Gather::on_timer> timer{*this};
};

Control::Control(io::Loop& loop, const DeviceSet& devices) : loop_(loop), devices_(devices) {}

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

void Control::carry_out(const std::string& request, Reply reply) {
  const auto parsed = daemon::parse_line(request);
  if (!parsed) return refuse(std::move(reply), "the request is not one JSON object in one line");
  const auto command = string_member(*parsed, "command");
  if (!command) return refuse(std::move(reply), "the request has no `command`");
  const std::string name = string_member(*parsed, "device").value_or("");
  if (name.empty() && *command == "list") return list(devices_.devices(), std::move(reply));
  if (name.empty()) return refuse(std::move(reply), fmt::format("`{}` needs `device`", *command));
  const Handle device = devices_.find(name);
  if (device == nullptr) {
    std::vector<std::string_view> names;
    for (const Handle& each : devices_.devices()) names.push_back(each->name);
    const std::string guess = daemon::suggestion(name, names);
    return refuse(std::move(reply), fmt::format("no device is named `{}`{}", name,
                                                guess.empty() ? "" : ": " + guess));
  }
  if (*command == "list") return list({device}, std::move(reply));
  if (*command == "explain") return explain(device, std::move(reply));
  if (*command == "fence_test") return test_fence(device, std::move(reply));
  if (*command == "policy") {
    return set_policy(device, string_member(*parsed, "policy").value_or(""), std::move(reply));
  }
  if (*command == "enable" || *command == "disable") {
    return set_enabled(device, string_member(*parsed, "path").value_or(""), *command == "enable",
                       std::move(reply));
  }
  refuse(std::move(reply), fmt::format("unknown command `{}`: are the daemon and the command line "
                                       "of the same version?",
                                       *command));
}

// --- status ---

void Control::gather(DeviceSet::Devices devices,
                     std::move_only_function<void(Statuses) noexcept> then) {
  auto made = std::make_unique<Gather>(*this, next_gather_++);
  for (const Handle& device : devices) made->missing.insert(device.get());
  made->devices = devices;
  made->then = std::move(then);
  const uint64_t id = made->id;
  loop_.start(made->timer, devices.empty() ? io::Duration(0) : io::Duration(kGatherLimit));
  gathers_.push_back(std::move(made));
  for (const Handle& device : devices) {
    device->loop.post([this, id, device]() noexcept {
      DeviceStatus status = device->service->status();
      loop_.post([this, id, device, status = std::move(status)]() mutable noexcept {
        on_status(id, device, std::move(status));
      });
    });
  }
}

void Control::on_status(uint64_t id, const Handle& device, DeviceStatus status) {
  device->last = std::move(status);
  const auto found = std::ranges::find_if(gathers_, [id](const auto& g) { return g->id == id; });
  if (found == gathers_.end() || !(*found)->then) return;  // it was answered without
  (*found)->missing.erase(device.get());
  if ((*found)->missing.empty()) finish_gather(**found);
}

void Control::on_gather_timer(uint64_t id) {
  const auto found = std::ranges::find_if(gathers_, [id](const auto& g) { return g->id == id; });
  if (found != gathers_.end()) finish_gather(**found);
}

void Control::finish_gather(Gather& gather) {
  if (!gather.then) return;
  loop_.stop(gather.timer);
  Statuses statuses;
  for (const Handle& device : gather.devices) {
    statuses.push_back(device->last);
    statuses.back().stale = gather.missing.contains(device.get());
  }
  auto then = std::exchange(gather.then, nullptr);
  // Not from within its own timer.
  loop_.post([this, id = gather.id]() noexcept {
    std::erase_if(gathers_, [id](const auto& each) { return each->id == id; });
  });
  then(std::move(statuses));
}

void Control::list(DeviceSet::Devices devices, Reply reply) {
  gather(std::move(devices), [reply = std::move(reply)](Statuses statuses) mutable noexcept {
    reply([statuses = std::move(statuses)] {
      json out = json::object();
      out["ok"] = true;
      json& shown = out["devices"] = json::array();
      for (const DeviceStatus& status : statuses) shown.push_back(to_json(status));
      return to_line(out);
    });
  });
}

void Control::explain(const Handle& device, Reply reply) {
  gather({device}, [reply = std::move(reply)](Statuses statuses) mutable noexcept {
    answer_lines(std::move(reply), mpio::explain(statuses.front()));
  });
}

// --- changes ---

void Control::set_policy(const Handle& device, const std::string& policy, Reply reply) {
  const auto wanted = parse_policy(policy);
  if (!wanted) {
    return refuse(std::move(reply), fmt::format("`{}` is no policy: failover, round-robin, "
                                                "least-queue-depth or adaptive",
                                                policy));
  }
  device->loop.post([device, wanted = *wanted, reply = std::move(reply)]() mutable noexcept {
    device->service->set_policy(wanted);
    answer_lines(std::move(reply),
                 {fmt::format("device {}: policy {} until the daemon restarts or reloads its "
                              "configuration",
                              device->name, to_string(wanted))});
  });
}

void Control::set_enabled(const Handle& device, const std::string& path, bool enabled,
                          Reply reply) {
  device->loop.post([device, path, enabled, reply = std::move(reply)]() mutable noexcept {
    if (!device->service->set_path_enabled(path, enabled)) {
      return refuse(
          std::move(reply),
          fmt::format("device {} has no path `{}`: see `holdfast path list`", device->name, path));
    }
    LOG_INFO("mpiod", "{}: path {} {} by the administrator", device->name, path,
             enabled ? "enabled" : "disabled");
    answer_lines(std::move(reply),
                 {fmt::format("device {}: path {} is {}", device->name, path,
                              enabled ? "enabled"
                                      : "disabled until the daemon restarts; what it "
                                        "carries ends first")});
  });
}

void Control::test_fence(const Handle& device, Reply reply) {
  device->loop.post([device, reply = std::move(reply)]() mutable noexcept {
    device->service->test_fence(
        [reply = std::move(reply)](FenceTest::Result result) mutable noexcept {
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
