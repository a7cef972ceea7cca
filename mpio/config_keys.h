#pragma once
// Every key of the configuration file. The reader takes nothing else; docs/config.md describes each
// under the same name.

#include <string_view>

namespace holdfast::mpio {

inline constexpr std::string_view kConfigKeys[] = {
    "control_socket",
    "initiator_name",
    "state_dir",
    "io_threads",
    "buffer_memory",
    "device",
    "device.name",
    "device.target",
    "device.lun",
    "device.portals",
    "device.portals.address",
    "device.portals.source",
    "device.policy",
    "device.profile",
    "device.no_path_timeout",
    "device.chap",
    "device.chap.user",
    "device.chap.secret_file",
    "device.mutual_chap",
    "device.mutual_chap.user",
    "device.mutual_chap.secret_file",
    "device.digests",
    "device.header_digest",
    "device.data_digest",
    "device.sessions_per_portal",
    "device.io_threads",
    "device.ghost_mode",
    "device.ghost_hold",
    "device.drains_on_reinstatement",
    "device.unit_reset_waits",
    "device.preempt_drains",
    "device.session_keys",
    "export",
    "export.device",
    "export.nbd",
};

}  // namespace holdfast::mpio
