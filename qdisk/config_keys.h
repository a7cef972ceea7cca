#pragma once
// Every key of the configuration file, but for those of its [[device]] tables, which are
// mpio/config_keys.h's. The reader takes nothing else; docs/config.md describes each under the same
// name.

#include <string_view>

namespace holdfast::qdisk {

inline constexpr std::string_view kConfigKeys[] = {
    "control_socket",
    "state_dir",
    "metrics",
    "lease_page",
    "initiator_name",
    "node_name",
    "cluster",
    "cluster.name",
    "cluster.uuid",
    "cluster.quorum",
    "cluster.profile",
    "cluster.timers",
    "cluster.lower_priority",
    "cluster.last_man_solo",
    "tls",
    "tls.ca",
    "tls.certificate",
    "tls.key",
    "node",
    "node.name",
    "node.id",
    "node.addresses",
    "node.fence_agent",
    "node.fence_deadline",
    "witness",
    "witness.path",
    "witness.device",
    "volume",
    "volume.name",
    "volume.number",
    "volume.path",
    "volume.device",
    "watchdog",
    "watchdog.device",
    "watchdog.lab",
};

}  // namespace holdfast::qdisk
