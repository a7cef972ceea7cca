#include "target/config_values.h"

#include <fmt/format.h>

#include <bit>

#include "common/base/units.h"
#include "common/daemon/config_values.h"
#include "common/daemon/limits.h"
#include "target/config_limits.h"

namespace holdfast::target {
std::vector<DiskProblem> disk_problems(const DiskConfig& disk) {
  std::vector<DiskProblem> problems;
  const auto add = [&](const char* key, std::string message) {
    problems.push_back({key, std::move(message)});
  };
  const io::BackingSpec& backing = disk.backing;
  if (daemon::Problem problem = daemon::name_problem("disk", disk.name))
    add("name", std::move(*problem));
  if (backing.kind == io::BackingKind::memory) {
    if (!backing.path.empty()) add("path", "a disk of kind `memory` has no `path`");
  } else if (backing.path.empty()) {
    add("path", fmt::format("a disk of kind `{}` needs `path`", to_string(backing.kind)));
  } else if (daemon::Problem problem = daemon::path_problem(backing.path, daemon::kMaxPath)) {
    add("path", std::move(*problem));
  }
  const bool block_size_right = backing.block_size == 512 || backing.block_size == 4096;
  if (!block_size_right) {
    add("block_size",
        fmt::format("`block_size` is {}: it must be 512 or 4096", backing.block_size));
  }
  if (backing.kind == io::BackingKind::block) {
    if (backing.size_bytes != 0) {
      add("size", "a disk of kind `block` has the size of its device: remove `size`");
    }
  } else if (backing.size_bytes == 0) {
    add("size", fmt::format("a disk of kind `{}` needs `size`, such as \"64GiB\"",
                            to_string(backing.kind)));
  } else if (backing.size_bytes > kMaxDiskBytes) {
    add("size", "`size` is larger than " + base::format_size(kMaxDiskBytes));
  } else if (block_size_right && backing.size_bytes % backing.block_size != 0) {
    add("size", fmt::format("`size` is {} bytes: it must be a multiple of the block size {}",
                            backing.size_bytes, backing.block_size));
  }
  const uint32_t physical = backing.physical_block_size;
  if (block_size_right && (!std::has_single_bit(physical) || physical < backing.block_size ||
                           physical > kMaxPhysicalBlock)) {
    add("physical_block_size",
        fmt::format("`physical_block_size` is {}: it must be a power of two from the block size {} "
                    "to {}",
                    physical, backing.block_size, kMaxPhysicalBlock));
  }
  return problems;
}

std::string normal_path(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    if (part.empty() || part == ".") continue;
    out += '/';
    out += part;
  }
  return out;
}

std::string_view to_string(io::BackingKind kind) {
  switch (kind) {
    case io::BackingKind::file:
      return "file";
    case io::BackingKind::block:
      return "block";
    case io::BackingKind::memory:
      return "memory";
  }
  return "file";
}

std::optional<io::BackingKind> backing_kind_of(std::string_view name) {
  for (const auto kind : {io::BackingKind::file, io::BackingKind::block, io::BackingKind::memory}) {
    if (name == to_string(kind)) return kind;
  }
  return std::nullopt;
}

}  // namespace holdfast::target
