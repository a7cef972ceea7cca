#include "target/config_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/base/units.h"

namespace holdfast::target {
namespace {

template <class T, class Key>
const T* find_by(const std::vector<T>& list, Key T::* member,
                 const std::type_identity_t<Key>& key) {
  const auto found = std::ranges::find(list, key, member);
  return found == list.end() ? nullptr : &*found;
}

const DiskConfig* find_disk(std::span<const DiskConfig> disks, const std::string& name) {
  const auto found = std::ranges::find(disks, name, &DiskConfig::name);
  return found == disks.end() ? nullptr : &*found;
}

std::string join(const std::vector<uint16_t>& numbers) {
  std::string text;
  for (const uint16_t number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return text.empty() ? "none" : text;
}

std::string who(const InitiatorConfig& initiator) {
  return initiator.name == "*" ? "any initiator" : fmt::format("initiator {}", initiator.name);
}

class Diff {
 public:
  Diff(const Config& running, const Config& wanted, std::span<const DiskConfig> created)
      : running_(running), wanted_(wanted), created_(created) {}

  ConfigDiff run() {
    for (std::string& conflict : config_conflicts(wanted_, created_)) refuse(std::move(conflict));
    daemon();
    disks();
    portal_groups();
    targets();
    if (running_.discovery != wanted_.discovery) {
      say("discovery: authentication changed; it holds from the next login on");
    }
    if (running_.chap_allow_md5 != wanted_.chap_allow_md5) {
      say(fmt::format("CHAP with MD5 is {}", wanted_.chap_allow_md5 ? "allowed" : "switched off"));
    }
    if (running_.chap_allow_sha1 != wanted_.chap_allow_sha1) {
      say(fmt::format("CHAP with SHA1 is {}",
                      wanted_.chap_allow_sha1 ? "allowed" : "switched off"));
    }
    return std::move(diff_);
  }

 private:
  void say(std::string sentence) { diff_.sentences.push_back(std::move(sentence)); }
  void refuse(std::string reason) { diff_.refusals.push_back(std::move(reason)); }

  template <class T>
  void needs_restart(const char* key, const T& running, const T& wanted) {
    if (running == wanted) return;
    refuse(
        fmt::format("`{}` cannot change from {} to {} while the target runs: put the old value "
                    "back, or restart holdfast-targetd",
                    key, running, wanted));
  }

  void daemon() {
    needs_restart("state_dir", running_.state_dir, wanted_.state_dir);
    needs_restart("control_socket", running_.control_socket, wanted_.control_socket);
    needs_restart("threads", running_.threads, wanted_.threads);
    needs_restart<std::string>("metrics", running_.metrics.empty() ? "off" : running_.metrics,
                               wanted_.metrics.empty() ? "off" : wanted_.metrics);
    needs_restart("spin_us", running_.spin_us, wanted_.spin_us);
    needs_restart("buffer_memory", running_.buffer_memory_bytes, wanted_.buffer_memory_bytes);
    needs_restart("max_connections", running_.max_connections, wanted_.max_connections);
    needs_restart("drain_deadline", fmt::format("{}ms", running_.drain_deadline_ms),
                  fmt::format("{}ms", wanted_.drain_deadline_ms));
  }

  void disks() {
    for (const DiskConfig& disk : wanted_.disks) {
      if (const DiskConfig* old = find_disk(running_.disks, disk.name)) {
        changed_disk(*old, disk);
        continue;
      }
      for (const DiskConfig& other : running_.disks) {
        if (disk.backing.path.empty() || other.backing.path != disk.backing.path) continue;
        refuse(
            fmt::format("disk `{}`: {} is served as disk `{}`: take that one out of the file and "
                        "apply, then add this one and apply again",
                        disk.name, disk.backing.path, other.name));
      }
      diff_.added_disks.push_back(disk);
      say(fmt::format("disk `{}` added", disk.name));
    }
    for (const DiskConfig& disk : running_.disks) {
      if (find_disk(wanted_.disks, disk.name) != nullptr) continue;
      diff_.removed_disks.push_back(disk.name);
      say(fmt::format("disk `{}` removed; {}", disk.name, fate_of_data(disk)));
    }
  }

  void changed_disk(const DiskConfig& old, const DiskConfig& disk) {
    if (old == disk) return;
    DiskConfig same_size = disk;
    same_size.backing.size_bytes = old.backing.size_bytes;
    if (same_size != old) {
      refuse(
          fmt::format("disk `{}`: {} cannot change while it is served: take the disk and its LUNs "
                      "out of the file and apply, then put them back with the new value and "
                      "apply again",
                      disk.name, difference(old, disk)));
      return;
    }
    const uint64_t from = old.backing.size_bytes;
    const uint64_t to = disk.backing.size_bytes;
    if (to < from) {
      refuse(fmt::format("disk `{}`: it has {} and is never shrunk to {}: set size to at least {}",
                         disk.name, base::format_size(from), base::format_size(to),
                         base::format_size(from)));
      return;
    }
    diff_.grown_disks.push_back({disk.name, from, to});
    say(fmt::format("disk `{}` grown from {} to {}", disk.name, base::format_size(from),
                    base::format_size(to)));
  }

  static const char* difference(const DiskConfig& a, const DiskConfig& b) {
    if (a.backing.kind != b.backing.kind) return "kind";
    if (a.backing.path != b.backing.path) return "path";
    if (a.backing.block_size != b.backing.block_size) return "block_size";
    if (a.backing.physical_block_size != b.backing.physical_block_size)
      return "physical_block_size";
    if (a.backing.thin != b.backing.thin) return "thin";
    if (a.backing.read_only != b.backing.read_only) return "read_only";
    return a.removable != b.removable ? "removable" : "write_cache";
  }

  void portal_groups() {
    for (const PortalGroupConfig& group : wanted_.portal_groups) {
      const PortalGroupConfig* const old =
          find_by(running_.portal_groups, &PortalGroupConfig::tag, group.tag);
      if (old == nullptr) say(fmt::format("portal group {} added", group.tag));
      for (const io::Endpoint& portal : group.portals) {
        if (old != nullptr && std::ranges::find(old->portals, portal) != old->portals.end())
          continue;
        say(fmt::format("portal {} added to portal group {}", portal.to_string(), group.tag));
      }
    }
    for (const PortalGroupConfig& old : running_.portal_groups) {
      const PortalGroupConfig* const group =
          find_by(wanted_.portal_groups, &PortalGroupConfig::tag, old.tag);
      if (group == nullptr) {
        say(fmt::format("portal group {} removed; its sessions end", old.tag));
        continue;
      }
      for (const io::Endpoint& portal : old.portals) {
        if (std::ranges::find(group->portals, portal) != group->portals.end()) continue;
        say(fmt::format("portal {} removed from portal group {}; its sessions end",
                        portal.to_string(), old.tag));
      }
    }
  }

  void targets() {
    for (const TargetConfig& target : wanted_.targets) {
      const TargetConfig* const old = find_by(running_.targets, &TargetConfig::name, target.name);
      if (old == nullptr) {
        say(fmt::format("target {} added", target.name));
        continue;
      }
      luns(*old, target);
      if (old->portal_groups != target.portal_groups) {
        say(fmt::format("target {}: portal groups {} instead of {}", target.name,
                        join(target.portal_groups), join(old->portal_groups)));
      }
      initiators(*old, target);
    }
    for (const TargetConfig& old : running_.targets) {
      if (find_by(wanted_.targets, &TargetConfig::name, old.name) != nullptr) continue;
      say(fmt::format("target {} removed; its sessions end", old.name));
    }
  }

  void luns(const TargetConfig& old, const TargetConfig& target) {
    bool changed = false;
    for (const LunConfig& lun : target.luns) {
      if (std::ranges::find(old.luns, lun) != old.luns.end()) continue;
      changed = true;
      say(fmt::format("target {}: LUN {} added: disk `{}`", target.name, lun.lun, lun.disk));
    }
    for (const LunConfig& lun : old.luns) {
      if (std::ranges::find(target.luns, lun) != target.luns.end()) continue;
      changed = true;
      diff_.removed_luns.push_back({target.name, lun.disk});
      say(fmt::format("target {}: LUN {} removed: disk `{}`", target.name, lun.lun, lun.disk));
    }
    if (changed) diff_.other_lun_inventory.push_back(target.name);
  }

  void initiators(const TargetConfig& old, const TargetConfig& target) {
    for (const InitiatorConfig& initiator : target.initiators) {
      const InitiatorConfig* const before =
          find_by(old.initiators, &InitiatorConfig::name, initiator.name);
      if (before == nullptr) {
        say(fmt::format("target {}: {} may log in", target.name, who(initiator)));
        continue;
      }
      if (before->addresses != initiator.addresses) {
        say(fmt::format("target {}: {}: addresses changed; sessions from others end", target.name,
                        who(initiator)));
      }
      if (before->chap != initiator.chap || before->mutual_chap != initiator.mutual_chap) {
        say(fmt::format("target {}: {}: authentication changed; it holds from the next login on",
                        target.name, who(initiator)));
      }
    }
    for (const InitiatorConfig& before : old.initiators) {
      if (find_by(target.initiators, &InitiatorConfig::name, before.name) != nullptr) continue;
      const bool any = find_by(target.initiators, &InitiatorConfig::name, "*") != nullptr;
      say(fmt::format("target {}: {} {}", target.name, who(before),
                      any ? "has no entry of its own any more: it is let in as any initiator"
                          : "may no longer log in; its sessions end"));
    }
  }

  const Config& running_;
  const Config& wanted_;
  std::span<const DiskConfig> created_;
  ConfigDiff diff_;
};

}  // namespace

const char* fate_of_data(const DiskConfig& removed) {
  return removed.backing.kind == io::BackingKind::memory ? "it was in memory: its data is lost"
                                                         : "its data stays where it is";
}

std::vector<std::string> config_conflicts(const Config& config,
                                          std::span<const DiskConfig> created_disks) {
  std::vector<std::string> conflicts;
  for (const DiskConfig& disk : config.disks) {
    for (const DiskConfig& created : created_disks) {
      if (created.name == disk.name) {
        conflicts.push_back(fmt::format(
            "disk `{}`: `holdfast target disk create` made one of this name: give this one another "
            "name, or leave it out of the file: a LUN may name the other as well",
            disk.name));
      } else if (!disk.backing.path.empty() && created.backing.path == disk.backing.path) {
        conflicts.push_back(fmt::format(
            "disk `{}`: {} is disk `{}`, which `holdfast target disk create` made: use one of them",
            disk.name, disk.backing.path, created.name));
      }
    }
  }
  for (const TargetConfig& target : config.targets) {
    for (const LunConfig& lun : target.luns) {
      if (find_disk(config.disks, lun.disk) != nullptr ||
          find_disk(created_disks, lun.disk) != nullptr) {
        continue;
      }
      const auto located =
          std::find_if(config.unknown_disks.begin(), config.unknown_disks.end(),
                       [&](const UnknownDisk& one) { return one.disk == lun.disk; });
      if (located != config.unknown_disks.end()) {
        conflicts.push_back(located->error.to_string());
        continue;
      }
      conflicts.push_back(fmt::format(
          "target {}: LUN {} names disk `{}`, which is neither in the file nor made by `holdfast "
          "target disk create`",
          target.name, lun.lun, lun.disk));
    }
  }
  return conflicts;
}

ConfigDiff diff_configs(const Config& running, const Config& wanted,
                        std::span<const DiskConfig> created_disks) {
  return Diff(running, wanted, created_disks).run();
}

}  // namespace holdfast::target
