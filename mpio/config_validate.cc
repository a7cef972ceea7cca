#include "mpio/config_validate.h"

#include <fmt/format.h>

#include "common/base/units.h"
#include "common/daemon/config_values.h"
#include "common/daemon/limits.h"

namespace holdfast::mpio {
namespace {

using daemon::place_of;
using daemon::Problem;

class Validator {
 public:
  Validator(Config& config, daemon::ConfigSource& source) : config_(config), source_(source) {}

  void run() {
    check_daemon();
    for (size_t i = 0; i < config_.devices.size(); ++i) {
      check_device(config_.devices[i], place_of("device", i));
    }
    for (size_t i = 0; i < config_.exports.size(); ++i) {
      check_export(config_.exports[i], place_of("export", i));
    }
  }

 private:
  // value -> where it was first seen. Values that could not be read are not compared.
  using Seen = std::map<std::string, std::string>;

  void check_daemon() {
    check_path("state_dir", "state_dir", config_.state_dir, daemon::kMaxPath);
    check_path("control_socket", "control_socket", config_.control_socket, daemon::kMaxSocketPath);
    check_unique(sockets_, config_.control_socket, "control_socket", "this path");
    if (Problem problem = daemon::iscsi_name_problem(config_.initiator_name)) {
      report("initiator_name", *problem);
    }
    const uint64_t memory = config_.buffer_memory_bytes;
    if (memory < kMinBufferMemory || memory > kMaxBufferMemory) {
      report("buffer_memory",
             fmt::format("`buffer_memory` (of each thread) must be from {} to {}",
                         base::format_size(kMinBufferMemory), base::format_size(kMaxBufferMemory)));
    }
  }

  void check_device(DeviceConfig& device, const std::string& place) {
    if (Problem problem = daemon::name_problem("device", device.name)) {
      report(place + ".name", *problem);
    }
    check_unique(names_, device.name, place + ".name", fmt::format("device `{}`", device.name));
    if (Problem problem = daemon::iscsi_name_problem(device.target)) {
      report(place + ".target", *problem);
    }
    if (!source_.reported(place + ".target")) {
      check_unique(units_, fmt::format("{} {}", device.target, device.lun), place + ".lun",
                   fmt::format("LUN {} of {}", device.lun, device.target));
    }
    Seen paths;
    for (size_t i = 0; i < device.portals.size(); ++i) {
      check_portal(device.portals[i], place_of(place + ".portals", i), paths);
    }
    if (device.portals.size() * device.sessions_per_portal > kMaxPaths) {
      report(place + ".sessions_per_portal",
             fmt::format("{} portals with {} sessions each are more than {} paths",
                         device.portals.size(), device.sessions_per_portal, kMaxPaths));
    }
    daemon::check_chap_pair(device.chap, device.mutual_chap, place, source_);
    if (device.session_keys) check_session_keys(device, place + ".session_keys");
  }

  // A reservation that would be taken for nothing.
  void check_session_keys(const DeviceConfig& device, const std::string& place) {
    if (device.target_override.preempt_drains == false) {
      report(place,
             "`session_keys` are there for PREEMPT AND ABORT, which `preempt_drains = false` says "
             "proves nothing: leave one of them out");
    } else if (device.portals.size() * device.sessions_per_portal == 1) {
      report(place,
             "`session_keys` are there for another path to preempt a dead one: the device "
             "has one path only");
    }
  }

  void check_portal(const PortalConfig& portal, const std::string& place, Seen& paths) {
    const std::string address = place + ".address";
    if (source_.reported(address)) return;
    if (portal.address.is_unspecified() || portal.address.port() == 0) {
      return report(address, fmt::format("portal {}: write the target's address and port; iSCSI's "
                                         "port is 3260",
                                         portal.address.to_string()));
    }
    if (source_.reported(place + ".source")) return;
    if (portal.source && portal.source->is_v6() != portal.address.is_v6()) {
      return report(place + ".source", "`source` and `address` must both be IPv4 or both IPv6");
    }
    const std::string source = portal.source ? portal.source->address_to_string() : "";
    check_unique(paths, portal.address.to_string() + " " + source, place,
                 source.empty()
                     ? fmt::format("portal {}", portal.address.to_string())
                     : fmt::format("portal {} from {}", portal.address.to_string(), source));
  }

  void check_export(const ExportConfig& made, const std::string& place) {
    if (!source_.reported(place + ".device") && !names_.contains(made.device)) {
      std::vector<std::string_view> names;
      for (const auto& [name, where] : names_) names.push_back(name);
      const std::string guess = daemon::suggestion(made.device, names);
      report(place + ".device", fmt::format("no device is named `{}`: {}", made.device,
                                            guess.empty() ? "add a [[device]]" : guess));
    }
    check_path(place + ".nbd", "nbd", made.nbd, daemon::kMaxSocketPath);
    // Clients of one socket wait for what vanished ones of it left under way, not for another's.
    check_unique(exported_, made.device, place + ".device",
                 fmt::format("device `{}`", made.device));
    check_unique(sockets_, made.nbd, place + ".nbd", fmt::format("socket {}", made.nbd));
  }

  void check_path(const std::string& place, const char* key, const std::string& path, size_t max) {
    if (source_.reported(place)) return;
    if (Problem problem = daemon::path_problem(path, max)) {
      report(place, fmt::format("`{}`: {}", key, *problem));
    }
  }

  void check_unique(Seen& seen, const std::string& value, const std::string& place,
                    const std::string& what) {
    if (source_.reported(place)) return;
    const auto [first, inserted] = seen.emplace(value, place);
    if (inserted) return;
    const uint32_t line = source_.line(first->second);
    report(place, line != 0 ? fmt::format("{} is already used in line {}", what, line)
                            : fmt::format("{} is already used: it is the default of `{}`", what,
                                          first->second));
  }

  void report(const std::string& place, std::string message) {
    source_.report(place, std::move(message));
  }

  Config& config_;
  daemon::ConfigSource& source_;
  Seen names_, units_, sockets_, exported_;
};

}  // namespace

void validate_config(Config& config, daemon::ConfigSource& source) {
  Validator(config, source).run();
}

}  // namespace holdfast::mpio
