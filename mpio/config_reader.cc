#include "mpio/config_reader.h"

#include <algorithm>

#include "common/daemon/config_section.h"
#include "mpio/config_keys.h"

namespace holdfast::mpio {
namespace {

using daemon::Need;
using daemon::Section;

// One of two words, for what is on or off.
struct Words {
  const char* on;
  const char* off;
  bool boolean_too;
};

void read_choice(Section& section, std::string_view key, bool& out, const Words& words) {
  const toml::node* node = section.find(key, Need::optional);
  if (node == nullptr) return;
  if (const auto* value = node->as_boolean(); value != nullptr && words.boolean_too) {
    out = value->get();
    return;
  }
  const auto* text = node->as_string();
  if (text != nullptr && (text->get() == words.on || text->get() == words.off)) {
    out = text->get() == words.on;
    return;
  }
  section.source().report(section.place(key),
                          fmt::format("`{}` must be \"{}\" or \"{}\"{}", key, words.on, words.off,
                                      words.boolean_too ? ", or true or false" : ""));
}

void read_endpoint(Section& section, std::string_view key, Need need,
                   std::optional<io::Endpoint>& out) {
  std::string text;
  section.read(key, text, need);
  if (!section.has(key) || section.source().reported(section.place(key))) return;
  // A source has no port: the kernel gives one.
  const bool v6 = text.find(':') != std::string::npos;
  const bool source = key == "source";
  const auto parsed = io::Endpoint::parse(source ? (v6 ? "[" + text + "]:0" : text + ":0") : text);
  if (parsed) {
    out = *parsed;
    return;
  }
  section.source().report(
      section.place(key),
      fmt::format("`{}` = \"{}\": {}", key, text,
                  source ? "a numeric address without a port is wanted" : parsed.error().what));
}

void read_portals(Section& section, DeviceConfig& device) {
  section.each_table("portals", kMaxPaths, Need::required,
                     [&](Section& portal, const std::string&) {
                       PortalConfig& made = device.portals.emplace_back();
                       std::optional<io::Endpoint> address;
                       read_endpoint(portal, "address", Need::required, address);
                       made.address = address.value_or(io::Endpoint());
                       read_endpoint(portal, "source", Need::optional, made.source);
                     });
}

void read_device(Section& section, const std::string& at, Config& config) {
  DeviceConfig& device = config.devices.emplace_back();
  section.read("name", device.name, Need::required);
  section.read("target", device.target, Need::required);
  section.read("lun", device.lun, {.max = kMaxLun}, Need::required);
  read_portals(section, device);
  std::string policy, profile;
  section.read("policy", policy);
  if (const auto known = parse_policy(policy)) {
    device.policy = *known;
  } else if (section.has("policy")) {
    section.source().report(section.place("policy"),
                            "`policy` must be \"failover\", \"round-robin\", "
                            "\"least-queue-depth\" or \"adaptive\"");
  }
  section.read("profile", profile);
  if (const Profile* known = find_profile(profile)) {
    device.profile = known;
  } else if (section.has("profile")) {
    section.source().report(section.place("profile"), "`profile` must be \"lan\" or \"safe\"");
  }
  section.read_duration_ms("no_path_timeout", device.no_path_timeout_ms,
                           {.min = kMinNoPathMs, .max = kMaxNoPathMs});
  section.read_chap("chap", device.chap);
  section.read_chap("mutual_chap", device.mutual_chap);
  constexpr Words kDigest{.on = "crc32c", .off = "none", .boolean_too = true};
  bool digests = false;
  read_choice(section, "digests", digests, kDigest);
  device.header_digest = device.data_digest = digests;
  read_choice(section, "header_digest", device.header_digest, kDigest);
  read_choice(section, "data_digest", device.data_digest, kDigest);
  uint32_t io_threads = 1;  // of the daemon, at least
  section.read("io_threads", io_threads, {.min = 1, .max = kMaxIoThreads});
  config.io_threads = std::max(config.io_threads, io_threads);
  section.read("sessions_per_portal", device.sessions_per_portal,
               {.min = 1, .max = kMaxSessionsPerPortal});
  read_choice(section, "ghost_mode", device.ghost_tracked,
              {.on = "ghost-tracked", .off = "strict", .boolean_too = false});
  section.read_duration_ms("ghost_hold", device.ghost_hold_ms,
                           {.min = kMinGhostHoldMs, .max = kMaxGhostHoldMs});
  section.read("drains_on_reinstatement", device.target_override.drains_on_reinstatement);
  section.read("unit_reset_waits", device.target_override.unit_reset_waits);
  section.read("preempt_drains", device.target_override.preempt_drains);
  section.read("session_keys", device.session_keys);
  for (std::string_view key : kConfigKeys) {
    if (!key.starts_with("device.")) continue;
    key.remove_prefix(sizeof("device.") - 1);
    if (!section.has(key)) continue;
    device.lines.emplace(key, section.source().line(at + "." + std::string(key)));
  }
}

void read_top(Section& file, Config& config) {
  file.read("control_socket", config.control_socket);
  file.read("initiator_name", config.initiator_name, Need::required);
  file.read("state_dir", config.state_dir);
  file.read("io_threads", config.io_threads, {.min = 1, .max = kMaxIoThreads});
  file.read_size("buffer_memory", config.buffer_memory_bytes);
  read_device_tables(file, config);
  file.each_table("export", kMaxExports, Need::optional, [&](Section& section, const std::string&) {
    ExportConfig& made = config.exports.emplace_back();
    section.read("device", made.device, Need::required);
    section.read("nbd", made.nbd, Need::required);
  });
}

}  // namespace

void read_device_tables(Section& file, Config& config) {
  file.each_table("device", kMaxDevices, Need::optional,
                  [&](Section& device, const std::string& at) { read_device(device, at, config); });
}

std::optional<Config> read_config(std::string_view text, daemon::ConfigSource& source) {
  Config config;
  const bool read = daemon::read_toml(text, kConfigKeys, source,
                                      [&config](Section& file) { read_top(file, config); });
  if (!read) return std::nullopt;
  return config;
}

}  // namespace holdfast::mpio
