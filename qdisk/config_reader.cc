#include "qdisk/config_reader.h"

#include "common/daemon/config_section.h"
#include "mpio/config_keys.h"
#include "mpio/config_reader.h"
#include "qdisk/config_keys.h"
#include "qdisk/layout.h"
#include "qdisk/named_timers.h"

namespace holdfast::qdisk {
namespace {

using daemon::Need;
using daemon::Section;

constexpr size_t kMaxTimers = 9;
constexpr size_t kMaxFenceAgentWords = 64;

void read_uuid(Section& section, std::string_view key, Uuid& out) {
  std::string text;
  section.read(key, text, Need::required);
  if (!section.has(key) || section.source().reported(section.place(key))) return;
  if (const auto parsed = parse_uuid(text)) {
    out = *parsed;
    return;
  }
  section.source().report(section.place(key),
                          fmt::format("`{}` must be what `holdfast quorum witness format` has "
                                      "printed, as 6f1c0a52-9e7b-4c39-8f1e-0d2a4b6c8e10",
                                      key));
}

void read_times(Section& section, Timers& out) {
  std::string profile;
  section.read("profile", profile);
  if (profile == "lan-fast") {
    out = timers_of(TimerProfile::lan_fast);
  } else if (profile != "default" && section.has("profile")) {
    section.source().report(section.place("profile"),
                            "`profile` must be \"default\" or \"lan-fast\"");
  }
  section.each("timers", kMaxTimers, Need::optional,
               [&](const toml::node& element, const std::string& at) {
                 std::string assignment;
                 section.string(at, "timers", element, assignment);
                 if (section.source().reported(at)) return;
                 if (auto problem = set_timer(out, assignment))
                   section.source().report(at, *problem);
               });
}

void read_cluster(Section& section, Config& config) {
  section.read("name", config.cluster_name, Need::required);
  read_uuid(section, "uuid", config.cluster);
  std::string mode;
  section.read("quorum", mode);
  if (mode == "node-majority") {
    config.mode = QuorumMode::node_majority;
  } else if (mode != "node-and-disk-majority" && section.has("quorum")) {
    section.source().report(section.place("quorum"),
                            "`quorum` must be \"node-majority\" or \"node-and-disk-majority\"");
  }
  read_times(section, config.timers);
  section.read("lower_priority", config.lower_priority);
  section.read("last_man_solo", config.last_man_solo);
}

void read_fence_agent(Section& section, NodeConfig& node) {
  section.each("fence_agent", kMaxFenceAgentWords, Need::optional,
               [&](const toml::node& element, const std::string& at) {
                 section.string(at, "fence_agent", element, node.fence_agent.emplace_back());
               });
  section.read_duration_ms("fence_deadline", node.fence_deadline_ms, {.min = 1000, .max = 600'000});
}

void read_node(Section& section, Config& config) {
  NodeConfig& node = config.nodes.emplace_back();
  section.read("name", node.name, Need::required);
  section.read("id", node.id, {.max = kMaxNodes - 1}, Need::required);
  section.each("addresses", kMaxNetworks, Need::required,
               [&](const toml::node& element, const std::string& at) {
                 std::string text;
                 section.string(at, "addresses", element, text);
                 if (section.source().reported(at)) return;
                 const auto parsed = io::Endpoint::parse(text);
                 node.addresses.push_back(parsed.value_or(io::Endpoint()));
                 if (parsed) return;
                 section.source().report(at, fmt::format("\"{}\": {}", text, parsed.error().what));
               });
  read_fence_agent(section, node);
}

void read_disk(Section& section, DiskConfig& disk) {
  section.read("path", disk.path);
  section.read("device", disk.device);
}

void read_top(Section& file, Config& config) {
  file.read("control_socket", config.control_socket);
  file.read("state_dir", config.state_dir);
  file.read("lease_page", config.lease_page);
  file.read("metrics", config.metrics);
  file.read("node_name", config.node, Need::required);
  if (file.find("cluster", Need::required) != nullptr) {
    file.table("cluster", [&](Section& section) { read_cluster(section, config); });
  }
  if (file.find("tls", Need::required) != nullptr) {
    file.table("tls", [&](Section& section) {
      section.read("ca", config.tls.ca, Need::required);
      section.read("certificate", config.tls.certificate, Need::required);
      section.read("key", config.tls.key, Need::required);
    });
  }
  file.each_table("node", kMaxNodes, Need::required,
                  [&](Section& section, const std::string&) { read_node(section, config); });
  file.table("witness", [&](Section& section) {
    config.witness = DiskConfig{.name = "witness"};
    read_disk(section, *config.witness);
  });
  file.each_table("volume", kMaxVolumes, Need::optional, [&](Section& section, const std::string&) {
    DiskConfig& volume = config.volumes.emplace_back();
    section.read("name", volume.name, Need::required);
    section.read("number", volume.number, {.max = kMaxVolumes - 1}, Need::required);
    read_disk(section, volume);
  });
  file.read("initiator_name", config.multipath.initiator_name);
  mpio::read_device_tables(file, config.multipath);
  file.table("watchdog", [&](Section& section) {
    config.watchdog.there = true;
    section.read("device", config.watchdog.device);
    section.read("lab", config.watchdog.lab);
  });
}

}  // namespace

std::optional<Config> read_config(std::string_view text, daemon::ConfigSource& source) {
  Config config;
  std::vector<std::string_view> keys(std::begin(kConfigKeys), std::end(kConfigKeys));
  for (const std::string_view key : mpio::kConfigKeys) {
    if (key == "device" || key.starts_with("device.")) keys.push_back(key);
  }
  const bool read =
      daemon::read_toml(text, keys, source, [&config](Section& file) { read_top(file, config); });
  if (!read) return std::nullopt;
  return config;
}

}  // namespace holdfast::qdisk
