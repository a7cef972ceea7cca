#pragma once
// Lines of a control socket: docs/operations.md, "Control socket". What is read is checked, for
// either side may be of another version.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::daemon {

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

}  // namespace holdfast::daemon
