#include "target/node_plans.h"

#include <fmt/format.h>

#include "common/base/units.h"
#include "target/config_diff.h"
#include "target/config_limits.h"

namespace holdfast::target {
namespace {

std::unexpected<std::vector<std::string>> refuse(std::string reason) {
  return std::unexpected(std::vector<std::string>{std::move(reason)});
}

std::string unknown_disk(const std::string& name) {
  return fmt::format("there is no disk `{}`: `holdfast target disk list` shows those there are",
                     name);
}

std::string not_open(const Unit& unit) {
  return fmt::format("disk `{}` is not open ({}): it can be grown once it is ready",
                     unit.config.name, unit.state_text());
}

// "LUN 1 of target iqn..., LUN 0 of target ..."; empty: nowhere.
std::string mappings(const Config& config, const std::string& disk) {
  std::string text;
  for (const TargetConfig& target : config.targets) {
    for (const LunConfig& lun : target.luns) {
      if (lun.disk != disk) continue;
      text += fmt::format("{}LUN {} of target {}", text.empty() ? "" : ", ", lun.lun, target.name);
    }
  }
  return text;
}

// Empty: nothing that was removed uses its file any more.
std::string still_draining(const NodeState& node, const DiskConfig& disk) {
  for (const auto& [id, unit] : node.units.all()) {
    const std::string& path = unit->config.backing.path;
    if (!unit->leaving || path.empty() || path != disk.backing.path) continue;
    return fmt::format(
        "{}: the last commands of disk `{}`, which was removed, have not ended yet: try again "
        "later",
        path, unit->config.name);
  }
  return {};
}

}  // namespace

Planned plan_apply(const NodeState& node, Config config, bool force) {
  ConfigDiff diff = diff_configs(node.config, config, node.created_disks());
  for (const ConfigDiff::Growth& growth : diff.grown_disks) {
    const Unit* const unit = node.units.find(growth.disk);
    if (unit != nullptr && unit->backing == nullptr) diff.refusals.push_back(not_open(*unit));
  }
  for (const DiskConfig& added : diff.added_disks) {
    if (const std::string still = still_draining(node, added); !still.empty()) {
      diff.refusals.push_back(fmt::format("disk `{}`: {}", added.name, still));
    }
  }
  if (config.targets.empty() && !node.config.targets.empty() && !force) {
    diff.refusals.push_back(
        fmt::format("the file has no target, and {} are served: is it the right file? `holdfast "
                    "target apply --force FILE` takes all of them away",
                    node.config.targets.size()));
  }
  if (!diff.refusals.empty()) return std::unexpected(std::move(diff.refusals));
  ChangePlan plan;
  plan.sentences = std::move(diff.sentences);
  plan.added_disks = std::move(diff.added_disks);
  plan.grown_disks = std::move(diff.grown_disks);
  plan.removed_disks = std::move(diff.removed_disks);
  plan.removed_luns = std::move(diff.removed_luns);
  plan.other_lun_inventory = std::move(diff.other_lun_inventory);
  plan.config = std::move(config);
  return plan;
}

Planned plan_disk_create(const NodeState& node, DiskConfig disk) {
  if (node.units.find(disk.name) != nullptr) {
    return refuse(fmt::format("there is a disk `{}` already: choose another name", disk.name));
  }
  if (node.units.all().size() >= kMaxDisks) {
    return refuse(fmt::format("there are {} disks already, and no more are served", kMaxDisks));
  }
  for (const auto& [id, unit] : node.units.all()) {
    if (disk.backing.path.empty() || unit->config.backing.path != disk.backing.path) continue;
    if (unit->leaving) continue;
    return refuse(fmt::format("{} is disk `{}` already", disk.backing.path, unit->config.name));
  }
  if (std::string still = still_draining(node, disk); !still.empty())
    return refuse(std::move(still));
  ChangePlan plan;
  plan.sentences = {
      fmt::format("disk `{}` created; a LUN of the configuration file may name it", disk.name)};
  plan.origin = DiskOrigin::cli;
  plan.remember = disk;
  plan.added_disks = {std::move(disk)};
  return plan;
}

Planned plan_disk_resize(const NodeState& node, const std::string& name, uint64_t size_bytes) {
  const Unit* const unit = node.units.find(name);
  if (unit == nullptr) return refuse(unknown_disk(name));
  if (unit->backing == nullptr) return refuse(not_open(*unit));
  const uint64_t from = unit->size_bytes();
  const uint32_t block_size = unit->config.backing.block_size;
  if (size_bytes < from) {
    return refuse(
        fmt::format("disk `{}` has {} and is never shrunk: the data beyond {} would be lost", name,
                    base::format_size(from), base::format_size(size_bytes)));
  }
  if (size_bytes > kMaxDiskBytes || size_bytes % block_size != 0) {
    return refuse(
        fmt::format("disk `{}` cannot have {} bytes: the size must be a multiple of its "
                    "block size, {}, and at most {}",
                    name, size_bytes, block_size, base::format_size(kMaxDiskBytes)));
  }
  ChangePlan plan;
  if (size_bytes == from) return plan;
  plan.grown_disks = {{name, from, size_bytes}};
  plan.sentences = {fmt::format("disk `{}` grown from {} to {}", name, base::format_size(from),
                                base::format_size(size_bytes))};
  if (unit->origin == DiskOrigin::cli) {
    plan.remember = unit->config;
    plan.remember->backing.size_bytes = size_bytes;
  } else if (unit->config.backing.kind != io::BackingKind::block) {
    plan.sentences.push_back(fmt::format(
        "write size = \"{}\" for it into the configuration file too: with the smaller size there "
        "the next apply or start is refused",
        base::format_size(size_bytes)));
  }
  return plan;
}

Planned plan_disk_remove(const NodeState& node, const std::string& name) {
  const Unit* const unit = node.units.find(name);
  if (unit == nullptr) return refuse(unknown_disk(name));
  if (unit->origin == DiskOrigin::file) {
    return refuse(
        fmt::format("disk `{}` is in the configuration file: take it and its LUNs out "
                    "there, then run `holdfast target apply FILE`",
                    name));
  }
  if (const std::string where = mappings(node.config, name); !where.empty()) {
    return refuse(
        fmt::format("disk `{}` is served as {}: take that out of the configuration file "
                    "and apply it, then remove the disk",
                    name, where));
  }
  ChangePlan plan;
  plan.sentences = {fmt::format("disk `{}` removed; {}", name, fate_of_data(unit->config))};
  plan.removed_disks = {name};
  plan.forget = name;
  return plan;
}

}  // namespace holdfast::target
