#pragma once
// The daemon's configuration file as plain data: docs/config.md.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/daemon/chap_config.h"
#include "common/daemon/config_source.h"
#include "common/io/backing.h"
#include "common/io/network.h"

namespace holdfast::target {

struct PortalGroupConfig {
  uint16_t tag = 0;
  std::vector<io::Endpoint> portals;
  bool operator==(const PortalGroupConfig&) const = default;
};

struct DiskConfig {
  std::string name;
  io::BackingSpec backing;
  bool removable = false;
  std::optional<bool> write_cache;  // absent: what the backing really does
  bool operator==(const DiskConfig&) const = default;
};

struct InitiatorConfig {
  std::string name;                               // "*" is any
  std::vector<io::AddressRange> addresses;        // empty: any
  std::optional<daemon::ChapConfig> chap;         // the initiator proves itself to us
  std::optional<daemon::ChapConfig> mutual_chap;  // we prove ourselves to the initiator
  bool operator==(const InitiatorConfig&) const = default;
};

struct LunConfig {
  uint16_t lun = 0;
  std::string disk;
  bool operator==(const LunConfig&) const = default;
};

struct TargetConfig {
  std::string name;
  std::vector<uint16_t> portal_groups;
  std::vector<LunConfig> luns;
  std::vector<InitiatorConfig> initiators;
  bool operator==(const TargetConfig&) const = default;
};

struct DiscoveryConfig {  // [discovery]: absent: discovery needs no authentication
  std::optional<daemon::ChapConfig> chap;
  std::optional<daemon::ChapConfig> mutual_chap;
  bool operator==(const DiscoveryConfig&) const = default;
};

// A LUN whose disk is not in the file. It is right when `holdfast target disk create` made the
// disk, which only the daemon knows: config_conflicts() decides.
struct UnknownDisk {
  std::string disk;
  daemon::ConfigError error;  // what to say if there is no such disk
  bool operator==(const UnknownDisk&) const = default;
};

struct Config {
  std::string state_dir = "/var/lib/holdfast/target";
  std::string control_socket = "/run/holdfast/target.sock";
  uint32_t threads = 0;              // 0: one per core
  std::string metrics;               // "127.0.0.1:9464"; empty: off
  uint32_t spin_us = 0;              // bounded adaptive spin before a loop sleeps
  uint64_t buffer_memory_bytes = 0;  // per thread; 0: limits.h default
  uint32_t max_connections = 1024;
  uint32_t drain_deadline_ms = 10'000;
  bool chap_allow_md5 = true;
  bool chap_allow_sha1 = true;
  std::vector<PortalGroupConfig> portal_groups;
  std::vector<DiskConfig> disks;
  std::vector<TargetConfig> targets;
  DiscoveryConfig discovery;
  std::vector<UnknownDisk> unknown_disks;
  bool operator==(const Config&) const = default;
};

// Reads, parses and validates the file and the secret files it names.
std::expected<Config, std::vector<daemon::ConfigError>> load_config(const std::string& path);
// The same from text; `path` only names it in messages. For tests.
std::expected<Config, std::vector<daemon::ConfigError>> parse_config(std::string_view text,
                                                                     const std::string& path);

}  // namespace holdfast::target
