#pragma once
// Single values of the target's configuration; those of any daemon are in
// common/daemon/config_values.h.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "target/config.h"

namespace holdfast::target {

// "512", "4096": what is wrong with a disk by itself, with the key it concerns ("size").
struct DiskProblem {
  std::string key;
  std::string message;
};
std::vector<DiskProblem> disk_problems(const DiskConfig& disk);

// "/a//b/./c" and "/a/b/c" are one file. Links are not followed: looking at a disk's path may hang
// with its storage, and the lock on the open file catches what gets through here.
std::string normal_path(std::string_view path);

std::string_view to_string(io::BackingKind kind);
std::optional<io::BackingKind> backing_kind_of(std::string_view name);

}  // namespace holdfast::target
