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

// {"ok": false, "problems": [...]}
nlohmann::json refusal(std::vector<std::string> problems);
// One line, newline included. Bytes that are not UTF-8 are replaced.
std::string to_line(const nlohmann::json& json);
// Nothing when it is not one JSON object.
std::optional<nlohmann::json> parse_line(std::string_view line);

// A member of the right type, or nothing.
std::optional<std::string> string_member(const nlohmann::json& json, const char* name);
std::optional<uint64_t> number_member(const nlohmann::json& json, const char* name);
std::vector<std::string> strings_member(const nlohmann::json& json, const char* name);

}  // namespace holdfast::target
