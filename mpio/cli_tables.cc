#include "mpio/cli_tables.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "common/daemon/text_table.h"

namespace holdfast::mpio {
namespace {

using daemon::human_latency;
using daemon::human_size;
using daemon::human_time;
using daemon::printable;
using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

std::string text(const json& from, const char* name) {
  const auto found = from.find(name);
  return found != from.end() && found->is_string() ? found->get<std::string>() : std::string();
}

uint64_t number(const json& from, const char* name) {
  const auto found = from.find(name);
  return found != from.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

bool yes(const json& from, const char* name) {
  const auto found = from.find(name);
  return found != from.end() && found->is_boolean() && found->get<bool>();
}

const json& list(const json& from, const char* name) {
  static const json kNone = json::array();
  const auto found = from.find(name);
  return found != from.end() && found->is_array() ? *found : kNone;
}

std::string or_dash(std::string value) { return value.empty() ? "-" : value; }

std::string latency(uint64_t us) { return us == 0 ? "-" : human_latency(us); }

std::string header(const json& device) {
  std::string out = fmt::format(
      "{}  {}  {}\n", printable(text(device, "name")),
      yes(device, "known") ? printable(text(device, "wwid")) : std::string("not reached yet"),
      printable(text(device, "target")));
  out += fmt::format("  LUN {}, {}, policy {}, profile {}; {} in progress, {} waiting, {} failed\n",
                     number(device, "lun"), human_size(number(device, "size_bytes")),
                     text(device, "policy"), text(device, "profile"), number(device, "executing"),
                     number(device, "waiting"), number(device, "failed"));
  if (device.contains("without_path_ms")) {
    out +=
        fmt::format("  no path is usable for {}\n", human_time(number(device, "without_path_ms")));
  }
  if (number(device, "ghosts") > 0) {
    out += fmt::format("  {} ranges with writes of unknown fate, the oldest for {}\n",
                       number(device, "ghosts"), human_time(number(device, "oldest_ghost_ms")));
  }
  for (const json& fence : list(device, "fences")) {
    out += fmt::format("  fence of {}: {}, for {}\n", printable(text(fence, "path")),
                       text(fence, "step"), human_time(number(fence, "since_ms")));
  }
  if (const auto last = device.find("last_fence"); last != device.end()) {
    out += fmt::format("  last fence, of {}: {}, after {}\n", printable(text(*last, "path")),
                       text(*last, "proof"), human_time(number(*last, "took_ms")));
  }
  for (const json& made : list(device, "exports")) {
    out += fmt::format("  NBD {}: {}, {} clients\n", printable(text(made, "socket")),
                       printable(text(made, "state")), number(made, "clients"));
  }
  if (yes(device, "stale")) out += "  its thread does not answer: this is an old state\n";
  return out;
}

std::string paths_table(const json& device) {
  Rows rows = {{"  PATH", "STATE", "ALUA", "PORTAL", "SOURCE", "IN FLIGHT", "LATENCY", "ERRORS",
                "SINCE", "WHY"}};
  for (const json& path : list(device, "paths")) {
    rows.push_back({"  " + text(path, "name"), text(path, "state"), or_dash(text(path, "alua")),
                    text(path, "portal"), or_dash(text(path, "source")),
                    std::to_string(number(path, "in_flight")), latency(number(path, "latency_us")),
                    std::to_string(number(path, "errors")), human_time(number(path, "since_ms")),
                    text(path, "why")});
  }
  return daemon::table(rows);
}

std::string effective_table(const json& device) {
  Rows rows = {{"  SETTING", "VALUE", "FROM"}};
  for (const json& value : list(device, "effective")) {
    rows.push_back({"  " + text(value, "key"), text(value, "value"), text(value, "origin")});
  }
  return daemon::table(rows);
}

const json* find_named(const json& all, const std::string& name) {
  for (const json& each : all) {
    if (text(each, "name") == name) return &each;
  }
  return nullptr;
}

}  // namespace

std::string describe_list(const json& devices) {
  if (devices.empty()) return "No devices.\n";
  std::string out;
  for (const json& device : devices) {
    if (!out.empty()) out += "\n";
    out += header(device) + paths_table(device) + effective_table(device);
    for (const json& warning : list(device, "warnings")) {
      if (warning.is_string()) {
        out += "  warning: " + printable(warning.get<std::string>()) + "\n";
      }
    }
  }
  return out;
}

json rates(const json& before, const json& after, uint32_t ms) {
  json out = json::array();
  for (const json& device : after) {
    const json* old_device = find_named(before, text(device, "name"));
    for (const json& path : list(device, "paths")) {
      const json* old = old_device == nullptr
                            ? nullptr
                            : find_named(list(*old_device, "paths"), text(path, "name"));
      const auto rate = [&](const char* name) {
        const uint64_t now = number(path, name);
        const uint64_t then = old == nullptr ? now : number(*old, name);
        return ms == 0 || now < then ? uint64_t{0} : (now - then) * 1000 / ms;
      };
      out.push_back({{"device", text(device, "name")},
                     {"path", text(path, "name")},
                     {"state", text(path, "state")},
                     {"reads_per_s", rate("reads")},
                     {"writes_per_s", rate("writes")},
                     {"bytes_read_per_s", rate("bytes_read")},
                     {"bytes_written_per_s", rate("bytes_written")},
                     {"errors_per_s", rate("errors")},
                     {"in_flight", number(path, "in_flight")},
                     {"latency_us", number(path, "latency_us")},
                     {"rtt_us", number(path, "rtt_us")}});
    }
  }
  return out;
}

std::string describe_rates(const json& rates) {
  Rows rows = {{"DEVICE", "PATH", "STATE", "READS/S", "WRITES/S", "READ/S", "WRITTEN/S",
                "IN FLIGHT", "LATENCY", "RTT", "ERRORS/S"}};
  for (const json& path : rates) {
    rows.push_back({text(path, "device"), text(path, "path"), text(path, "state"),
                    std::to_string(number(path, "reads_per_s")),
                    std::to_string(number(path, "writes_per_s")),
                    human_size(number(path, "bytes_read_per_s")),
                    human_size(number(path, "bytes_written_per_s")),
                    std::to_string(number(path, "in_flight")), latency(number(path, "latency_us")),
                    latency(number(path, "rtt_us")), std::to_string(number(path, "errors_per_s"))});
  }
  return daemon::table(rows);
}

}  // namespace holdfast::mpio
