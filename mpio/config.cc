#include "mpio/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "common/daemon/config_file.h"
#include "mpio/config_reader.h"
#include "mpio/config_validate.h"

namespace holdfast::mpio {
namespace {

using Errors = std::vector<daemon::ConfigError>;

// All but what is changed while it runs.
bool same_session(const DeviceConfig& a, const DeviceConfig& b) {
  return a.target == b.target && a.lun == b.lun && a.portals == b.portals && a.chap == b.chap &&
         a.mutual_chap == b.mutual_chap && a.header_digest == b.header_digest &&
         a.data_digest == b.data_digest && a.sessions_per_portal == b.sessions_per_portal;
}

bool same_fence(const DeviceConfig& a, const DeviceConfig& b) {
  const TargetOverride& x = a.target_override;
  const TargetOverride& y = b.target_override;
  return a.ghost_tracked == b.ghost_tracked && a.ghost_hold_ms == b.ghost_hold_ms &&
         x.drains_on_reinstatement == y.drains_on_reinstatement &&
         x.unit_reset_waits == y.unit_reset_waits && x.preempt_drains == y.preempt_drains &&
         a.session_keys == b.session_keys;
}

const DeviceConfig* find(const Config& config, std::string_view name) {
  const auto found = std::ranges::find(config.devices, name, &DeviceConfig::name);
  return found == config.devices.end() ? nullptr : &*found;
}

}  // namespace

std::expected<Config, Errors> parse_config(std::string_view text, const std::string& path) {
  daemon::ConfigSource source(path);
  std::optional<Config> config = read_config(text, source);
  if (config) validate_config(*config, source);
  if (!source.empty()) return std::unexpected(source.take_errors());
  config->file = path;
  return std::move(*config);
}

std::expected<Config, Errors> load_config(const std::string& path) {
  auto text = daemon::read_config_file(path);
  if (!text) return std::unexpected(std::move(text.error()));
  return parse_config(*text, path);
}

std::vector<ExportConfig> exports_of(const std::vector<ExportConfig>& all,
                                     std::string_view device) {
  std::vector<ExportConfig> out;
  std::ranges::copy_if(all, std::back_inserter(out),
                       [device](const ExportConfig& each) { return each.device == device; });
  return out;
}

std::vector<std::string> reload_obstacles(const Config& running, const Config& wanted) {
  std::vector<std::string> out;
  const auto fixed = [&out](bool same, const char* key) {
    if (!same) out.push_back(fmt::format("`{}` cannot be changed while the daemon runs", key));
  };
  fixed(running.control_socket == wanted.control_socket, "control_socket");
  fixed(running.initiator_name == wanted.initiator_name, "initiator_name");
  fixed(running.state_dir == wanted.state_dir, "state_dir");
  fixed(running.io_threads == wanted.io_threads, "io_threads");
  fixed(running.buffer_memory_bytes == wanted.buffer_memory_bytes, "buffer_memory");
  for (const DeviceConfig& device : wanted.devices) {
    const DeviceConfig* before = find(running, device.name);
    if (before == nullptr) continue;
    const char* keys = nullptr;
    if (!same_session(*before, device)) {
      keys = "`target`, `lun`, `portals`, `chap`, `mutual_chap`, digests and `sessions_per_portal`";
    } else if (!same_fence(*before, device)) {
      keys = "`ghost_mode`, `ghost_hold`, `session_keys` and what is said of the target";
    }
    if (keys == nullptr) continue;
    out.push_back(
        fmt::format("device {}: {} cannot be changed while it is there: reload a file without it, "
                    "then one with it, which cuts its clients off",
                    device.name, keys));
  }
  return out;
}

}  // namespace holdfast::mpio
