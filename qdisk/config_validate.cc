#include "qdisk/config_validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/daemon/config_values.h"
#include "common/daemon/limits.h"
#include "common/rpc/tls_identity.h"
#include "mpio/config_validate.h"

namespace holdfast::qdisk {
namespace {

using daemon::place_of;
using daemon::Problem;

class Validator {
 public:
  Validator(Config& config, daemon::ConfigSource& source) : config_(config), source_(source) {}

  void run() {
    check_path("control_socket", config_.control_socket, daemon::kMaxSocketPath);
    check_path("state_dir", config_.state_dir, daemon::kMaxPath);
    check_lease_page();
    check_metrics();
    for (size_t i = 0; i < config_.nodes.size(); ++i) {
      check_node(config_.nodes[i], place_of("node", i));
    }
    check_self();
    check_cluster();
    check_tls();
    if (config_.witness) check_disk(*config_.witness, "witness");
    for (size_t i = 0; i < config_.volumes.size(); ++i) {
      check_volume(config_.volumes[i], place_of("volume", i));
    }
    check_watchdog();
    check_multipath();
  }

 private:
  // value -> where it was first seen. Values that could not be read are not compared.
  using Seen = std::map<std::string, std::string>;

  void report(const std::string& place, std::string message) {
    source_.report(place, std::move(message));
  }

  // Of a table that is missing, or none, that alone is said.
  void check_tls() {
    if (source_.reported("tls")) return;
    check_path("tls.ca", config_.tls.ca, daemon::kMaxPath);
    check_path("tls.certificate", config_.tls.certificate, daemon::kMaxPath);
    check_path("tls.key", config_.tls.key, daemon::kMaxPath);
  }

  // The page would be written over what is there.
  void check_lease_page() {
    check_path("lease_page", config_.lease_page, daemon::kMaxPath);
    if (source_.reported("lease_page")) return;
    for (const std::string& other : {config_.control_socket, config_.state_dir}) {
      if (other != config_.lease_page) continue;
      report("lease_page", fmt::format("`{}` is already another key's", other));
    }
  }

  void check_path(const std::string& place, const std::string& path, size_t max_bytes) {
    if (source_.reported(place)) return;
    if (Problem problem = daemon::path_problem(path, max_bytes)) report(place, *problem);
  }

  void check_metrics() {
    if (config_.metrics.empty() || source_.reported("metrics")) return;
    const auto endpoint = io::Endpoint::parse(config_.metrics);
    if (!endpoint) report("metrics", endpoint.error().what);
  }

  void check_unique(Seen& seen, const std::string& value, const std::string& place,
                    const std::string& what) {
    if (source_.reported(place)) return;
    const auto [first, fresh] = seen.try_emplace(value, place);
    if (fresh) return;
    report(place,
           fmt::format("{} is there already, in line {}", what, source_.line(first->second)));
  }

  void check_node(const NodeConfig& node, const std::string& place) {
    if (!source_.reported(place + ".name") && !rpc::is_name(node.name)) {
      report(place + ".name",
             "a node's name has 1 to 63 letters, digits, '-', '_' and '.', as its certificate");
    }
    check_unique(names_, node.name, place + ".name", fmt::format("node `{}`", node.name));
    check_unique(ids_, std::to_string(node.id), place + ".id", fmt::format("id {}", node.id));
    if (!source_.reported(place + ".addresses") &&
        node.addresses.size() != config_.nodes[0].addresses.size()) {
      report(place + ".addresses",
             fmt::format("{} addresses, and the first node has {}: every node has one on each "
                         "cluster network, in the same order",
                         node.addresses.size(), config_.nodes[0].addresses.size()));
    }
    for (size_t i = 0; i < node.addresses.size(); ++i) {
      const std::string at = place_of(place + ".addresses", i);
      check_address(node.addresses[i], at);
      const auto& first = config_.nodes[0].addresses;
      if (source_.reported(at) || i >= first.size() || first[i].port() == 0) continue;
      if (node.addresses[i].address().size() == first[i].address().size()) continue;
      report(at, "one cluster network has either IPv4 or IPv6 addresses, for all nodes");
    }
    if (!node.fence_agent.empty() && !source_.reported(place_of(place + ".fence_agent", 0)) &&
        !node.fence_agent[0].starts_with('/')) {
      report(place_of(place + ".fence_agent", 0),
             "the program by its whole path, then its arguments, each a string of its own");
    }
  }

  void check_address(const io::Endpoint& address, const std::string& place) {
    if (source_.reported(place)) return;
    if (address.is_unspecified() || address.port() == 0) {
      return report(place,
                    "the address and the port at which the others reach this node are "
                    "wanted");
    }
    check_unique(addresses_, address.to_string(), place, address.to_string());
  }

  void check_self() {
    if (source_.reported("node_name") || config_.find(config_.node) != nullptr) return;
    std::vector<std::string_view> names;
    for (const NodeConfig& node : config_.nodes) names.push_back(node.name);
    const std::string guess = daemon::suggestion(config_.node, names);
    report("node_name", fmt::format("no [[node]] is named `{}`{}{}", config_.node,
                                    guess.empty() ? "" : ": ", guess));
  }

  void check_cluster() {
    if (source_.reported("cluster")) return;
    if (!source_.reported("cluster.uuid") && config_.cluster == Uuid{}) {
      report("cluster.uuid", "all zeroes is nobody's uuid: take what `uuidgen` prints");
    }
    if (!source_.reported("cluster.name") && !rpc::is_name(config_.cluster_name)) {
      report("cluster.name",
             "a cluster's name has 1 to 63 letters, digits, '-', '_' and '.', as its certificates");
    }
    if (config_.mode == QuorumMode::node_and_disk_majority && !config_.witness) {
      report(
          "cluster.quorum",
          "node and disk majority needs a [witness]: name it, or set quorum = \"node-majority\"");
    }
    for (const std::string& problem : violations(config_.timers)) {
      source_.report_at(source_.line("cluster.timers"), problem);
    }
    if (!config_.lower_priority.empty() && config_.find(config_.lower_priority) == nullptr) {
      report("cluster.lower_priority",
             fmt::format("no [[node]] is named `{}`", config_.lower_priority));
    }
  }

  void check_disk(const DiskConfig& disk, const std::string& place) {
    if (source_.reported(place + ".path") || source_.reported(place + ".device")) return;
    if (disk.path.empty() == disk.device.empty()) {
      return report(place, fmt::format("{} needs either `path` or `device`", disk.name));
    }
    if (!disk.path.empty()) check_path(place + ".path", disk.path, daemon::kMaxPath);
    if (!disk.device.empty()) {
      used_.insert(disk.device);
      const auto& devices = config_.multipath.devices;
      if (std::ranges::find(devices, disk.device, &mpio::DeviceConfig::name) == devices.end()) {
        return report(place + ".device", fmt::format("no [[device]] is named `{}`", disk.device));
      }
    }
    check_unique(disks_, disk.path + disk.device, place, disk.path + disk.device);
  }

  void check_volume(const DiskConfig& volume, const std::string& place) {
    if (!source_.reported(place + ".name")) {
      if (Problem problem = daemon::name_problem("volume", volume.name)) {
        report(place + ".name", *problem);
      }
    }
    check_unique(volumes_, volume.name, place + ".name", fmt::format("volume `{}`", volume.name));
    check_unique(numbers_, std::to_string(volume.number), place + ".number",
                 fmt::format("number {}", volume.number));
    check_disk(volume, place);
  }

  // A key of each session would be another than the node's.
  void check_multipath() {
    mpio::Config& multipath = config_.multipath;
    if (multipath.devices.empty()) return;
    multipath.state_dir = config_.state_dir + "/paths";
    for (size_t i = 0; i < multipath.devices.size(); ++i) {
      if (!multipath.devices[i].session_keys) continue;
      report(place_of("device", i) + ".session_keys",
             "in a cluster a device has the key of its node");
    }
    mpio::validate_config(multipath, source_);
    for (size_t i = 0; i < multipath.devices.size(); ++i) {
      const mpio::DeviceConfig& device = multipath.devices[i];
      const std::string place = place_of("device", i);
      if (!used_.contains(device.name)) {
        report(place, fmt::format("device `{}` is neither the witness nor a volume", device.name));
      }
    }
  }

  void check_watchdog() {
    const WatchdogConfig& watchdog = config_.watchdog;
    if (source_.reported("watchdog.device") || source_.reported("watchdog.lab")) return;
    if (watchdog.there && watchdog.device.empty() == watchdog.lab.empty()) {
      report("watchdog",
             "either `device` or `lab` is wanted, and not both; without one, and without "
             "this table, nothing ends this host when the daemon hangs");
    }
    if (!watchdog.device.empty()) check_path("watchdog.device", watchdog.device, daemon::kMaxPath);
    if (!watchdog.lab.empty()) check_path("watchdog.lab", watchdog.lab, daemon::kMaxPath);
  }

  Config& config_;
  daemon::ConfigSource& source_;
  std::set<std::string> used_;
  Seen names_, ids_, addresses_, disks_, volumes_, numbers_;
};

}  // namespace

void validate_config(Config& config, daemon::ConfigSource& source) {
  Validator(config, source).run();
}

}  // namespace holdfast::qdisk
