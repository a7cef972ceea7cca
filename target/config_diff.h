#pragma once
// What an apply would do, or why it will not: from two configurations. Pure.

#include <span>
#include <string>
#include <vector>

#include "target/config.h"

namespace holdfast::target {

struct ConfigDiff {
  struct Growth {
    std::string disk;
    uint64_t from_bytes = 0;
    uint64_t to_bytes = 0;
    bool operator==(const Growth&) const = default;
  };
  struct LunRemoval {
    std::string target;
    std::string disk;
    bool operator==(const LunRemoval&) const = default;
  };

  std::vector<std::string> refusals;   // not empty: change nothing
  std::vector<std::string> sentences;  // one for each change; empty: nothing to change
  std::vector<DiskConfig> added_disks;
  std::vector<std::string> removed_disks;
  std::vector<Growth> grown_disks;
  std::vector<LunRemoval> removed_luns;          // of targets that stay
  std::vector<std::string> other_lun_inventory;  // targets that stay, with LUNs added or removed
};

// What makes a configuration unfit to be served beside the disks made by `disk create`. A LUN may
// name one of those.
std::vector<std::string> config_conflicts(const Config& config,
                                          std::span<const DiskConfig> created_disks);

// For the sentence about a disk that is taken away.
const char* fate_of_data(const DiskConfig& removed);

ConfigDiff diff_configs(const Config& running, const Config& wanted,
                        std::span<const DiskConfig> created_disks);

}  // namespace holdfast::target
