#include "target/config_reader.h"

#include <fmt/format.h>

#include "common/daemon/config_section.h"
#include "target/config_keys.h"
#include "target/config_limits.h"
#include "target/config_values.h"

namespace holdfast::target {
namespace {

using daemon::Need;
using daemon::Section;

void read_portal_group(Section& section, PortalGroupConfig& group) {
  section.read("tag", group.tag, {.min = 1, .max = 65535}, Need::required);
  section.each(
      "portals", kMaxPortals, Need::required, [&](const toml::node& node, const std::string& at) {
        std::string text;
        section.string(at, "portals", node, text);
        group.portals.emplace_back();
        if (section.source().reported(at)) return;
        if (auto parsed = io::Endpoint::parse(text)) {
          group.portals.back() = *parsed;
        } else {
          section.source().report(at, fmt::format("portal \"{}\": {}", text, parsed.error().what));
        }
      });
}

void read_disk(Section& section, DiskConfig& disk) {
  section.read("name", disk.name, Need::required);
  std::string kind;
  section.read("kind", kind, Need::required);
  if (const auto known = backing_kind_of(kind)) {
    disk.backing.kind = *known;
  } else {
    section.source().report(
        section.place("kind"),
        fmt::format("`kind` is \"{}\": it must be \"file\", \"block\" or \"memory\"", kind));
  }
  section.read("path", disk.backing.path);
  section.read_size("size", disk.backing.size_bytes);
  section.read("thin", disk.backing.thin);
  section.read("block_size", disk.backing.block_size, {.max = kMaxPhysicalBlock});
  section.read("physical_block_size", disk.backing.physical_block_size, {.max = kMaxPhysicalBlock});
  section.read("read_only", disk.backing.read_only);
  section.read("removable", disk.removable);
  section.read("write_cache", disk.write_cache);
}

void read_initiator(Section& section, InitiatorConfig& initiator) {
  section.read("name", initiator.name, Need::required);
  section.each("addresses", kMaxAddressesPerInitiator, Need::optional,
               [&](const toml::node& node, const std::string& at) {
                 std::string text;
                 section.string(at, "addresses", node, text);
                 initiator.addresses.emplace_back();
                 if (section.source().reported(at)) return;
                 if (auto parsed = io::AddressRange::parse(text)) {
                   initiator.addresses.back() = *parsed;
                 } else {
                   section.source().report(
                       at, fmt::format("address \"{}\": {}", text, parsed.error().what));
                 }
               });
  // An empty list would read as "any address" to us and as "none" to its author.
  if (initiator.addresses.empty() && section.has("addresses")) {
    section.source().report(section.place("addresses"),
                            "`addresses` must not be empty: leave it out to allow any address");
  }
  section.read_chap("chap", initiator.chap);
  section.read_chap("mutual_chap", initiator.mutual_chap);
}

void read_target(Section& section, TargetConfig& target) {
  section.read("name", target.name, Need::required);
  section.each("portal_groups", kMaxPortals, Need::required,
               [&](const toml::node& node, const std::string& at) {
                 target.portal_groups.emplace_back();
                 section.number(at, "portal_groups", node, {.min = 1, .max = 65535},
                                target.portal_groups.back());
               });
  section.each_table("luns", kMaxLunsPerTarget, Need::optional,
                     [&](Section& lun, const std::string&) {
                       LunConfig& made = target.luns.emplace_back();
                       lun.read("lun", made.lun, {.max = kMaxLun}, Need::required);
                       lun.read("disk", made.disk, Need::required);
                     });
  section.each_table("initiator", kMaxInitiatorsPerTarget, Need::optional,
                     [&](Section& initiator, const std::string&) {
                       read_initiator(initiator, target.initiators.emplace_back());
                     });
}

void read_top(Section& file, Config& config) {
  file.read("state_dir", config.state_dir);
  file.read("control_socket", config.control_socket);
  file.read("threads", config.threads, {.max = kMaxThreads});
  file.read("metrics", config.metrics);
  file.read("spin_us", config.spin_us, {.max = kMaxSpinUs});
  file.read_size("buffer_memory", config.buffer_memory_bytes);
  file.read("max_connections", config.max_connections, {.min = 1, .max = kMaxConnections});
  file.read_duration_ms("drain_deadline", config.drain_deadline_ms,
                        {.min = kMinDrainMs, .max = kMaxDrainMs});
  file.read("chap_md5", config.chap_allow_md5);
  file.read("chap_sha1", config.chap_allow_sha1);
  file.table("discovery", [&](Section& discovery) {
    discovery.read_chap("chap", config.discovery.chap);
    discovery.read_chap("mutual_chap", config.discovery.mutual_chap);
  });
  file.each_table("portal_group", kMaxPortals, Need::optional,
                  [&](Section& group, const std::string&) {
                    read_portal_group(group, config.portal_groups.emplace_back());
                  });
  file.each_table("disk", kMaxDisks, Need::optional, [&](Section& disk, const std::string&) {
    read_disk(disk, config.disks.emplace_back());
  });
  file.each_table("target", kMaxTargets, Need::optional, [&](Section& target, const std::string&) {
    read_target(target, config.targets.emplace_back());
  });
}

}  // namespace

std::optional<Config> read_config(std::string_view text, daemon::ConfigSource& source) {
  Config config;
  const bool read = daemon::read_toml(text, kConfigKeys, source,
                                      [&config](Section& file) { read_top(file, config); });
  if (!read) return std::nullopt;
  return config;
}

}  // namespace holdfast::target
