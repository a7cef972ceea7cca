#include "target/node_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/log.h"

namespace holdfast::target {

std::string describe_failure(const DiskConfig& disk, const base::Error& error) {
  const std::string& path = disk.backing.path;
  std::string text = path.empty() ? "" : path + ": ";
  if (error.sys == ENOENT) {
    // A file that is written is made when it is absent, but not its directory.
    const bool made = disk.backing.kind == io::BackingKind::file && !disk.backing.read_only;
    if (!made) return text + error.what;
    // An empty disk under the identity of one with data would be taken for it. Mostly the file
    // system is not mounted, and all comes right without any change.
    if (disk.backing.served_bytes > 0) {
      return text +
             "this file is gone, and the disk was served from it before: is its file system "
             "mounted? To begin again with an empty disk, give it another name or path";
    }
    return text + fmt::format("the directory {} does not exist: create it",
                              path.substr(0, std::max<size_t>(path.rfind('/'), 1)));
  }
  text += error.what;
  if (error.sys != 0) text += fmt::format(" ({})", std::strerror(error.sys));
  return text;
}

std::shared_ptr<const NodeMap> NodeState::make_map() {
  auto made = std::make_shared<NodeMap>();
  for (const PortalGroupConfig& group : config.portal_groups) {
    const auto found = alua.find(group.tag);
    const Alua state = found == alua.end() ? Alua{} : found->second;
    made->portal_groups.push_back({.tag = group.tag,
                                   .portals = group.portals,
                                   .alua = state.state,
                                   .alua_changed = state.changed});
  }
  for (const TargetConfig& target : config.targets) {
    TargetView view{.name = target.name,
                    .portal_groups = target.portal_groups,
                    .luns = {},
                    .initiators = target.initiators};
    for (const LunConfig& lun : target.luns) {
      const Unit* const unit = units.find(lun.disk);
      ASSERT(unit != nullptr);  // config_conflicts() refused anything else
      view.luns[lun.lun] = unit->id;
    }
    made->targets.push_back(std::move(view));
  }
  made->discovery = config.discovery;
  made->chap_allow_md5 = config.chap_allow_md5;
  made->chap_allow_sha1 = config.chap_allow_sha1;
  map = made;
  return map;
}

std::vector<DiskConfig> NodeState::created_disks() const {
  std::vector<DiskConfig> disks;
  for (const auto& [id, unit] : units.all()) {
    if (unit->origin == DiskOrigin::cli && !unit->leaving) disks.push_back(unit->config);
  }
  return disks;
}

void NodeState::open(Unit& unit, std::move_only_function<void(Unit&) noexcept> settled) {
  DiskConfig disk = unit.config;
  disk.backing.served_bytes = unit.served_bytes;
  opening[unit.id] = opener.open(disk, [this, id = unit.id, disk, settled = std::move(settled)](
                                           auto backing) mutable noexcept {
    opening.erase(id);
    Unit* const opened = units.find(id);
    if (opened == nullptr) return;
    if (backing.has_value()) {
      const uint64_t expected = opened->size_bytes();
      opened->backing = std::move(*backing);
      note_smaller(*opened);
      if (serving) note_served(*opened);
      LOG_INFO("disk", "ready: disk={} bytes={}", opened->config.name, opened->size_bytes());
      if (serving) publish(*opened);
      // Who saw it before it was ready may have noted another size.
      if (serving && opened->size_bytes() != expected) {
        shards.tell_all([id](ShardControl& shard) {
          shard.raise_attention({.unit = id, .sense = scsi::kCapacityChanged});
        });
      }
    } else {
      opened->failure = describe_failure(disk, backing.error());
      LOG_ERROR("disk", "failed: disk={}: {}", opened->config.name, opened->failure);
    }
    settled(*opened);
  });
}

std::vector<std::string> NodeState::open_failed() {
  std::vector<std::string> sentences;
  for (const auto& [id, unit] : units.all()) {
    if (unit->failure.empty() || unit->unfit || unit->leaving) continue;
    sentences.push_back(fmt::format(
        "disk `{}` could not be opened before ({}) and is tried again: see `holdfast target disk "
        "list`",
        unit->config.name, std::exchange(unit->failure, {})));
    open(*unit, [](Unit&) noexcept {});
  }
  return sentences;
}

void NodeState::note_served(Unit& unit) {
  if (unit.config.backing.kind != io::BackingKind::file) return;
  const uint64_t before = std::exchange(unit.served_bytes, unit.size_bytes());
  if (before == unit.served_bytes) return;
  services.store.note_served(unit.identity, unit.served_bytes, loop(),
                             [this, id = unit.id, before](base::Result<> result) noexcept {
                               Unit* const noted = units.find(id);
                               if (result.has_value() || noted == nullptr || stopping) return;
                               LOG_WARNING("disk", "not noted as served, trying again: disk={}: {}",
                                           noted->config.name, result.error().what);
                               noted->served_bytes = before;
                               loop().start(note_again, kNoteAgain);
                             });
}

void NodeState::note_all_served() noexcept {
  for (const auto& [id, unit] : units.all()) {
    if (unit->backing != nullptr) note_served(*unit);
  }
}

void NodeState::note_smaller(Unit& unit) {
  const uint64_t bytes = unit.backing->info().size_bytes;
  if (bytes >= unit.config.backing.size_bytes) return;
  unit.config.backing.size_bytes = bytes;
  if (unit.origin != DiskOrigin::file) return;
  for (DiskConfig& disk : config.disks) {
    if (disk.name == unit.config.name) disk.backing.size_bytes = bytes;
  }
}

void NodeState::publish(const Unit& unit) {
  shards.tell_all([state = unit.snapshot()](ShardControl& shard) { shard.publish_unit(state); });
}

}  // namespace holdfast::target
