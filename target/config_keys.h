#pragma once
// Every key of the configuration file. The reader takes nothing else; docs/config.md describes each
// under the same name.

#include <string_view>

namespace holdfast::target {

inline constexpr std::string_view kConfigKeys[] = {
    "state_dir",
    "control_socket",
    "threads",
    "metrics",
    "spin_us",
    "buffer_memory",
    "max_connections",
    "drain_deadline",
    "chap_md5",
    "chap_sha1",
    "portal_group",
    "portal_group.tag",
    "portal_group.portals",
    "disk",
    "disk.name",
    "disk.kind",
    "disk.path",
    "disk.size",
    "disk.thin",
    "disk.block_size",
    "disk.physical_block_size",
    "disk.read_only",
    "disk.removable",
    "disk.write_cache",
    "target",
    "target.name",
    "target.portal_groups",
    "target.luns",
    "target.luns.lun",
    "target.luns.disk",
    "target.initiator",
    "target.initiator.name",
    "target.initiator.addresses",
    "target.initiator.chap",
    "target.initiator.chap.user",
    "target.initiator.chap.secret_file",
    "target.initiator.mutual_chap",
    "target.initiator.mutual_chap.user",
    "target.initiator.mutual_chap.secret_file",
    "discovery",
    "discovery.chap",
    "discovery.chap.user",
    "discovery.chap.secret_file",
    "discovery.mutual_chap",
    "discovery.mutual_chap.user",
    "discovery.mutual_chap.secret_file",
};

}  // namespace holdfast::target
