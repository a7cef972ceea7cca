#pragma once
// The control socket's messages: docs/operations.md, "Control socket". Both sides use these; what
// is read is checked, for either side may be of another version. Secrets are never written.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "target/node_control.h"

namespace holdfast::target {

nlohmann::json to_json(const NodeStatus& status);
nlohmann::json to_json(const DiskConfig& disk);
nlohmann::json to_json(const NodeControl::Outcome& outcome);
// Absent members keep their defaults, unknown ones are ignored; nothing when one has a wrong type.
std::optional<NodeStatus> status_from_json(const nlohmann::json& json);
std::optional<DiskConfig> disk_from_json(const nlohmann::json& json);

}  // namespace holdfast::target
