#pragma once
// Single values of a configuration. Each function returns what is wrong in plain words, or nothing.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::daemon {

using Problem = std::optional<std::string>;

// An iqn., eui. or naa. name in its one normal form (RFC 7143 4.2.7). Names that differ only in
// case would be one name to some and two to others, so upper case is refused.
Problem iscsi_name_problem(std::string_view name);
// What an administrator calls a disk or a device (`what`): letters, digits, '-', '_' and '.'.
Problem name_problem(const char* what, std::string_view name);
// Absolute, no "..", no control characters.
Problem path_problem(std::string_view path, size_t max_bytes);

// "did you mean `size`?" from the names allowed; empty when none is near.
std::string suggestion(std::string_view wrong, const std::vector<std::string_view>& allowed);

}  // namespace holdfast::daemon
