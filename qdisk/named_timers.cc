#include "qdisk/named_timers.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "common/base/units.h"
#include "common/daemon/config_values.h"
#include "qdisk/layout.h"

namespace holdfast::qdisk {
namespace {

constexpr std::array<NamedTimer, 9> kNames = {{
    {"hb_net", &Timers::hb_net},
    {"net_dead", &Timers::net_dead},
    {"hb_disk", &Timers::hb_disk},
    {"disk_io_to", &Timers::disk_io_to},
    {"lease", &Timers::lease},
    {"kill", &Timers::kill},
    {"watchdog", &Timers::watchdog},
    {"takeover", &Timers::takeover},
    {"margin", &Timers::margin},
}};

}  // namespace

std::span<const NamedTimer> named_timers() { return kNames; }

std::optional<std::string> set_timer(Timers& timers, std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos) {
    return fmt::format("`{}`: write NAME=TIME, as lease=15s", assignment);
  }
  const std::string_view name = assignment.substr(0, equals);
  std::vector<std::string_view> allowed;
  for (const NamedTimer& each : kNames) {
    allowed.emplace_back(each.name);
    if (name != each.name) continue;
    const auto time = base::parse_duration(assignment.substr(equals + 1));
    if (!time) return fmt::format("`{}`: {}", assignment, time.error().what);
    if (*time > kMaxTimer) return fmt::format("`{}`: longer than an hour", assignment);
    timers.*each.member = *time;
    return std::nullopt;
  }
  std::string guess = daemon::suggestion(name, allowed);
  if (guess.empty()) guess = fmt::format("they are {}", fmt::join(allowed, ", "));
  return fmt::format("`{}`: there is no such time: {}", assignment, guess);
}

std::string to_text(Milliseconds time) {
  const auto ms = time.count();
  return ms % 1000 == 0 ? fmt::format("{}s", ms / 1000) : fmt::format("{}ms", ms);
}

}  // namespace holdfast::qdisk
