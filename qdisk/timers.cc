#include "qdisk/timers.h"

#include <fmt/chrono.h>

namespace holdfast::qdisk {

namespace {

// How much two clocks may differ in rate: far more than a quartz does.
constexpr double kRateError = 1e-3;

}  // namespace

Timers timers_of(TimerProfile profile) {
  if (profile == TimerProfile::standard) return {};
  return {.hb_net = Milliseconds(250),
          .net_dead = Milliseconds(2'000),
          .hb_disk = Milliseconds(500),
          .disk_io_to = Milliseconds(2'000),
          .lease = Milliseconds(4'000),
          .kill = Milliseconds(1'000),
          .watchdog = Milliseconds(2'000),
          .takeover = Milliseconds(8'100),
          .margin = Milliseconds(1'000)};
}

std::vector<std::string> violations(const Timers& t) {
  std::vector<std::string> out;
  const auto positive = [&](const char* name, Milliseconds value) {
    if (value <= Milliseconds::zero()) out.push_back(fmt::format("{} must be more than 0", name));
  };
  positive("hb_net", t.hb_net);
  positive("net_dead", t.net_dead);
  positive("hb_disk", t.hb_disk);
  positive("disk_io_to", t.disk_io_to);
  positive("lease", t.lease);
  positive("kill", t.kill);
  positive("watchdog", t.watchdog);
  positive("takeover", t.takeover);
  positive("margin", t.margin);
  if (!out.empty()) return out;

  const auto ms = [](Milliseconds value) { return static_cast<double>(value.count()); };
  const double stopped = (ms(t.lease) + ms(t.kill) + ms(t.watchdog)) * (1 + kRateError);
  const double waited = ms(t.takeover) * (1 - kRateError);
  if (waited < stopped + ms(t.margin)) {
    out.push_back(fmt::format(
        "takeover {} is too short: slowed by {} it is {:.0f} ms, but an evicted node may run for "
        "lease + kill + watchdog, {:.0f} ms by its own clock, and margin {} is wanted",
        t.takeover, kRateError, waited, stopped, t.margin));
  }
  if (t.watchdog <= t.kill) {
    out.push_back(fmt::format(
        "watchdog {} must be more than kill {}: else it would be petted when the lease has ended",
        t.watchdog, t.kill));
  }
  if (t.lease <= t.net_dead + 2 * t.hb_disk) {
    out.push_back(fmt::format(
        "lease {} must be more than net_dead + 2 hb_disk, {}: else a node that waits for its "
        "turn to arbitrate loses its lease meanwhile",
        t.lease, t.net_dead + 2 * t.hb_disk));
  }
  if (t.net_dead < 3 * t.hb_net) {
    out.push_back(
        fmt::format("net_dead {} must be at least 3 hb_net, {}: one lost datagram is no "
                    "lost node",
                    t.net_dead, 3 * t.hb_net));
  }
  if (t.lease <= t.disk_io_to + t.hb_disk) {
    out.push_back(
        fmt::format("lease {} must be more than disk_io_to + hb_disk, {}: else one slow "
                    "I/O ends it",
                    t.lease, t.disk_io_to + t.hb_disk));
  }
  return out;
}

}  // namespace holdfast::qdisk
