#pragma once
// The quorum daemon's configuration file as plain data: docs/config.md, "holdfast-qdiskd".

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/daemon/config_source.h"
#include "common/io/network.h"
#include "mpio/config.h"
#include "qdisk/decision.h"
#include "qdisk/quorum.h"
#include "qdisk/timers.h"

namespace holdfast::qdisk {

// One host of the cluster, which may be this one.
struct NodeConfig {
  std::string name;  // that its certificate proves
  NodeId id = kNoNode;
  std::vector<io::Endpoint> addresses;  // one for each cluster network, in the same order for all
  // Switches it off: a program, by its whole path, and its arguments. Empty: there is none.
  std::vector<std::string> fence_agent;
  uint32_t fence_deadline_ms = 60'000;
};

// A disk that all hosts reach: the witness or a volume.
struct DiskConfig {
  std::string name;
  std::string path;    // a block device of the kernel, or a file
  std::string device;  // or the name of a multipath device
  uint8_t number = 0;  // of a volume: its place in the decision
};

struct WatchdogConfig {
  bool there = false;  // its table
  std::string device;  // /dev/watchdog
  std::string lab;     // or the file of a test double
};

struct TlsConfig {
  std::string ca;
  std::string certificate;
  std::string key;
};

struct Config {
  std::string file;  // its path, for messages
  std::string control_socket = "/run/holdfast/qdiskd.sock";
  std::string state_dir = "/var/lib/holdfast/qdiskd";
  std::string lease_page = "/run/holdfast/qdiskd.lease";
  std::string metrics;  // address:port; empty: no page
  std::string node;     // the name of this host
  std::string cluster_name;
  Uuid cluster{};
  QuorumMode mode = QuorumMode::node_and_disk_majority;
  Timers timers{};
  std::string lower_priority;
  bool last_man_solo = false;
  TlsConfig tls;
  std::vector<NodeConfig> nodes;
  std::optional<DiskConfig> witness;
  std::vector<DiskConfig> volumes;
  WatchdogConfig watchdog;
  mpio::Config multipath;  // its devices and what they need; nothing where there are none

  const NodeConfig* find(std::string_view name) const;
  const NodeConfig& self() const;  // of a configuration that was found to be right
  NodeSet configured() const;
  VoterPolicy policy() const;
  std::string name_of(NodeId id) const;  // its number, where it is none of the configured
};

// Reads, parses and validates the file.
std::expected<Config, std::vector<daemon::ConfigError>> load_config(const std::string& path);
// The same from text; `path` only names it in messages. For tests.
std::expected<Config, std::vector<daemon::ConfigError>> parse_config(std::string_view text,
                                                                     const std::string& path);

}  // namespace holdfast::qdisk
