#pragma once
// Single values of the configuration. Each function returns what is wrong in plain words, or
// nothing.

#include <optional>
#include <string>
#include <string_view>

#include "target/config.h"

namespace holdfast::target {

using Problem = std::optional<std::string>;

// An iqn., eui. or naa. name in its one normal form (RFC 7143 4.2.7). Names that differ only in
// case would be one name to some initiators and two to us, so upper case is refused.
Problem iscsi_name_problem(std::string_view name);
Problem disk_name_problem(std::string_view name);
Problem chap_user_problem(std::string_view user);
// Absolute, no "..", no control characters.
Problem path_problem(std::string_view path, size_t max_bytes);

// Fills chap.secret from chap.secret_file.
Problem read_secret(ChapConfig& chap);

// "512", "4096": what is wrong with a disk by itself, with the key it concerns ("size").
struct DiskProblem {
  std::string key;
  std::string message;
};
std::vector<DiskProblem> disk_problems(const DiskConfig& disk);

// "did you mean `size`?" from the names allowed; empty when none is near.
std::string suggestion(std::string_view wrong, const std::vector<std::string_view>& allowed);

std::string_view to_string(io::BackingKind kind);
std::optional<io::BackingKind> backing_kind_of(std::string_view name);

}  // namespace holdfast::target
