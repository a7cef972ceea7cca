#pragma once
// The daemon's configuration file as plain data: docs/config.md, "holdfast-mpiod".

#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/daemon/chap_config.h"
#include "common/daemon/config_source.h"
#include "common/io/network.h"
#include "mpio/config_limits.h"
#include "mpio/path_selector.h"
#include "mpio/profile.h"
#include "mpio/target_table.h"

namespace holdfast::mpio {

struct PortalConfig {
  io::Endpoint address;
  std::optional<io::Endpoint> source;  // port 0; absent: the kernel chooses
  bool operator==(const PortalConfig&) const = default;
};

struct DeviceConfig {
  std::string name;
  std::string target;
  uint16_t lun = 0;
  std::vector<PortalConfig> portals;
  Policy policy = Policy::adaptive;
  const Profile* profile = &kLan;
  uint32_t no_path_timeout_ms = 60'000;
  std::optional<daemon::ChapConfig> chap;         // we prove ourselves to the target
  std::optional<daemon::ChapConfig> mutual_chap;  // the target proves itself to us
  bool header_digest = false;
  bool data_digest = false;
  uint32_t sessions_per_portal = 1;
  bool ghost_tracked = false;
  uint32_t ghost_hold_ms = 15'000;
  TargetOverride target_override{};
  bool session_keys = false;
  // Where in the file each key stood: "policy" -> 12. What is not there has its default.
  std::map<std::string, uint32_t, std::less<>> lines;
};

struct ExportConfig {
  std::string device;
  std::string nbd;  // path of the socket
  bool operator==(const ExportConfig&) const = default;
};

struct Config {
  std::string file;  // its path, for messages
  std::string control_socket = "/run/holdfast/mpiod.sock";
  std::string initiator_name;
  std::string state_dir = "/var/lib/holdfast/mpiod";
  uint32_t io_threads = 1;
  uint64_t buffer_memory_bytes = kDefaultBufferMemory;
  std::vector<DeviceConfig> devices;
  std::vector<ExportConfig> exports;
};

// Reads, parses and validates the file and the secret files it names.
std::expected<Config, std::vector<daemon::ConfigError>> load_config(const std::string& path);
// The same from text; `path` only names it in messages. For tests.
std::expected<Config, std::vector<daemon::ConfigError>> parse_config(std::string_view text,
                                                                     const std::string& path);

std::vector<ExportConfig> exports_of(const std::vector<ExportConfig>& all, std::string_view device);

// What stands in the way of going from one to the other without a restart; empty: nothing.
std::vector<std::string> reload_obstacles(const Config& running, const Config& wanted);

}  // namespace holdfast::mpio
