#include "target/config_validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/base/units.h"
#include "common/daemon/config_values.h"
#include "common/daemon/limits.h"
#include "target/config_limits.h"
#include "target/config_values.h"
#include "target/limits.h"

namespace holdfast::target {
namespace {

class Validator {
 public:
  Validator(Config& config, daemon::ConfigSource& source) : config_(config), source_(source) {}

  void run() {
    check_daemon();
    daemon::check_chap_pair(config_.discovery.chap, config_.discovery.mutual_chap, "discovery",
                            source_);
    for (size_t i = 0; i < config_.portal_groups.size(); ++i) {
      check_portal_group(config_.portal_groups[i], daemon::place_of("portal_group", i));
    }
    for (size_t i = 0; i < config_.disks.size(); ++i) {
      check_disk(config_.disks[i], daemon::place_of("disk", i));
    }
    for (size_t i = 0; i < config_.targets.size(); ++i) {
      check_target(config_.targets[i], daemon::place_of("target", i));
    }
  }

 private:
  // value -> where it was first seen. Values that could not be read are not compared.
  using Seen = std::map<std::string, std::string>;

  void check_daemon();
  void check_portal_group(const PortalGroupConfig& group, const std::string& place);
  void check_portal(const io::Endpoint& portal, const std::string& place);
  void check_disk(const DiskConfig& disk, const std::string& place);
  void check_target(TargetConfig& target, const std::string& place);
  void check_lun(const LunConfig& lun, const std::string& place, Seen& luns, Seen& disks);
  void check_initiator(InitiatorConfig& initiator, const std::string& place, Seen& names);
  void check_unique(Seen& seen, const std::string& value, const std::string& place,
                    const std::string& what);
  void check_path(const char* key, const std::string& path, size_t max);
  void report(const std::string& place, std::string message) {
    source_.report(place, std::move(message));
  }

  Config& config_;
  daemon::ConfigSource& source_;
  Seen tags_, portals_, disk_names_, disk_paths_, target_names_;
};

void Validator::check_unique(Seen& seen, const std::string& value, const std::string& place,
                             const std::string& what) {
  if (source_.reported(place)) return;
  const auto [first, inserted] = seen.emplace(value, place);
  if (inserted) return;
  report(place, fmt::format("{} is already used in line {}", what, source_.line(first->second)));
}

void Validator::check_path(const char* key, const std::string& path, size_t max) {
  if (daemon::Problem problem = daemon::path_problem(path, max))
    report(key, fmt::format("`{}`: {}", key, *problem));
}

void Validator::check_daemon() {
  check_path("state_dir", config_.state_dir, daemon::kMaxPath);
  check_path("control_socket", config_.control_socket, daemon::kMaxSocketPath);
  if (!config_.metrics.empty()) {
    const auto endpoint = io::Endpoint::parse(config_.metrics);
    if (!endpoint) {
      report("metrics",
             fmt::format("`metrics` = \"{}\": {}", config_.metrics, endpoint.error().what));
    } else if (endpoint->port() == 0) {
      report("metrics", "`metrics` needs a port other than 0");
    }
  }
  const uint64_t memory = config_.buffer_memory_bytes;
  if (memory != 0 && (memory < kMinBufferMemoryBytes || memory > kMaxBufferMemory)) {
    report("buffer_memory", fmt::format("`buffer_memory` (of each thread) must be from {} to {}",
                                        base::format_size(kMinBufferMemoryBytes),
                                        base::format_size(kMaxBufferMemory)));
  }
}

void Validator::check_portal_group(const PortalGroupConfig& group, const std::string& place) {
  check_unique(tags_, std::to_string(group.tag), place + ".tag",
               fmt::format("portal group tag {}", group.tag));
  for (size_t i = 0; i < group.portals.size(); ++i) {
    check_portal(group.portals[i], daemon::place_of(place + ".portals", i));
  }
}

void Validator::check_portal(const io::Endpoint& portal, const std::string& place) {
  if (source_.reported(place)) return;
  if (portal.is_unspecified()) {
    report(place, fmt::format("portal {}: initiators would be told an address they cannot reach; "
                              "list each address of this server instead",
                              portal.to_string()));
  } else if (portal.port() == 0) {
    report(place,
           fmt::format("portal {}: the port must not be 0; iSCSI's is 3260", portal.to_string()));
  }
  if (portals_.size() >= kMaxPortals) {
    report(place, fmt::format("more than {} portals in all", kMaxPortals));
  }
  check_unique(portals_, portal.to_string(), place, fmt::format("portal {}", portal.to_string()));
}

void Validator::check_disk(const DiskConfig& disk, const std::string& place) {
  for (DiskProblem& problem : disk_problems(disk)) {
    // What depends on a `kind` or block size that could not be read would only confuse.
    if (source_.reported(place + ".kind") && problem.key != "name") continue;
    report(place + "." + problem.key, std::move(problem.message));
  }
  check_unique(disk_names_, disk.name, place + ".name", fmt::format("disk `{}`", disk.name));
  if (disk.backing.path.empty()) return;
  check_unique(disk_paths_, normal_path(disk.backing.path), place + ".path",
               fmt::format("path {}", disk.backing.path));
}

void Validator::check_target(TargetConfig& target, const std::string& place) {
  if (daemon::Problem problem = daemon::iscsi_name_problem(target.name))
    report(place + ".name", *problem);
  check_unique(target_names_, target.name, place + ".name", fmt::format("target {}", target.name));
  Seen groups, luns, disks, initiators;
  for (size_t i = 0; i < target.portal_groups.size(); ++i) {
    const std::string at = daemon::place_of(place + ".portal_groups", i);
    if (source_.reported(at)) continue;
    const uint16_t tag = target.portal_groups[i];
    if (!tags_.contains(std::to_string(tag))) {
      report(at, fmt::format("portal group {} is not in this file: add a [[portal_group]] with "
                             "tag = {}",
                             tag, tag));
    }
    check_unique(groups, std::to_string(tag), at, fmt::format("portal group {}", tag));
  }
  for (size_t i = 0; i < target.luns.size(); ++i) {
    check_lun(target.luns[i], daemon::place_of(place + ".luns", i), luns, disks);
  }
  for (size_t i = 0; i < target.initiators.size(); ++i) {
    check_initiator(target.initiators[i], daemon::place_of(place + ".initiator", i), initiators);
  }
}

void Validator::check_lun(const LunConfig& lun, const std::string& place, Seen& luns, Seen& disks) {
  check_unique(luns, std::to_string(lun.lun), place + ".lun", fmt::format("LUN {}", lun.lun));
  const std::string at = place + ".disk";
  if (source_.reported(at)) return;
  if (!disk_names_.contains(lun.disk)) {
    std::vector<std::string_view> names;
    for (const auto& [name, where] : disk_names_) names.push_back(name);
    const std::string guess = daemon::suggestion(lun.disk, names);
    std::string message = fmt::format(
        "no disk is named `{}`: {}", lun.disk,
        guess.empty() ? "add a [[disk]], or make it with `holdfast target disk create`" : guess);
    config_.unknown_disks.push_back(
        {.disk = lun.disk, .error = source_.make_error(at, std::move(message))});
  }
  // Two LUNs of one identity in one session look like two paths to a multipath initiator.
  check_unique(disks, lun.disk, at, fmt::format("disk `{}` of this target", lun.disk));
}

void Validator::check_initiator(InitiatorConfig& initiator, const std::string& place, Seen& names) {
  if (initiator.name != "*") {
    if (daemon::Problem problem = daemon::iscsi_name_problem(initiator.name))
      report(place + ".name", *problem);
  }
  check_unique(names, initiator.name, place + ".name",
               fmt::format("initiator {} of this target", initiator.name));
  daemon::check_chap_pair(initiator.chap, initiator.mutual_chap, place, source_);
}

}  // namespace

void validate_config(Config& config, daemon::ConfigSource& source) {
  Validator(config, source).run();
}

}  // namespace holdfast::target
