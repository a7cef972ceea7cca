#include "target/node_start.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "target/config_diff.h"

namespace holdfast::target {

void NodeStart::begin(Config config, Reply reply) {
  reply_ = std::move(reply);
  node_.config = std::move(config);
  node_.started_at = node_.loop().now();
  node_.reservations.set_deadline(node_.drain_deadline());
  node_.sessions.set_deadline(node_.drain_deadline());
  node_.portals.set_max_connections(node_.config.max_connections);

  base::Result<StoredState> stored = node_.services.store.load();
  if (!stored.has_value()) {
    problems_.push_back(fmt::format("the state in {} cannot be read: {}: restore it from a backup",
                                    node_.config.state_dir, stored.error().what));
    return fail();
  }
  problems_ = config_conflicts(node_.config, stored->created_disks);
  if (!problems_.empty()) return fail();
  for (StoredDisk& disk : stored->disks) {
    node_.reservations.remember(disk.identity, std::move(disk.reservations));
  }
  for (const auto& [tag, text] : stored->alua) {
    if (const auto state = scsi::parse_alua_state(text)) node_.alua[tag].state = *state;
  }

  node_.loop().start(wait_, kStartWait);
  unidentified_ = node_.config.disks.size() + stored->created_disks.size();
  const auto identify = [this](const DiskConfig& disk, DiskOrigin origin) {
    node_.services.store.identify(
        key_of(disk), node_.loop(),
        [this, disk, origin](auto record) noexcept { on_identified(disk, origin, record); });
  };
  for (const DiskConfig& disk : node_.config.disks) identify(disk, DiskOrigin::file);
  for (const DiskConfig& disk : stored->created_disks) identify(disk, DiskOrigin::cli);
  if (unidentified_ == 0) open_disks();
}

void NodeStart::on_identified(const DiskConfig& disk, DiskOrigin origin,
                              base::Result<DiskRecord> record) {
  if (!reply_) return;
  --unidentified_;
  if (!record.has_value()) {
    problems_.push_back(fmt::format("disk `{}`: its identity cannot be stored: {}", disk.name,
                                    record.error().what));
  } else {
    Unit& unit = node_.units.add(disk, origin, record->identity);
    unit.served_bytes = record->served_bytes;
    if (auto reservations = node_.reservations.restore(record->identity)) {
      unit.reservations = std::move(*reservations);
    } else {
      // Serving it without them could let a fenced node write.
      unit.unfit = true;
      unit.failure = fmt::format(
          "its stored reservations are damaged: {}: restore the state "
          "directory from a backup",
          reservations.error().what);
      if (origin == DiskOrigin::file) {
        problems_.push_back(fmt::format("disk `{}`: {}", disk.name, unit.failure));
      }
    }
  }
  if (unidentified_ > 0) return;
  if (problems_.empty()) {
    open_disks();
  } else {
    fail();
  }
}

void NodeStart::open_disks() {
  unsettled_ = 1;  // so that none of the answers is the last before all are asked for
  for (const auto& [id, unit] : node_.units.all()) {
    if (!unit->failure.empty()) continue;
    ++unsettled_;
    node_.open(*unit, [this](Unit& settled) noexcept { on_settled(settled); });
  }
  if (--unsettled_ == 0) listen();
}

void NodeStart::on_settled(const Unit& unit) {
  if (!reply_ || unsettled_ == 0) return;  // after the wait
  // What the file asks for must be had; a disk made by `disk create` must not keep the others from
  // being served.
  if (!unit.failure.empty() && unit.origin == DiskOrigin::file) {
    problems_.push_back(fmt::format("disk `{}`: {}", unit.config.name, unit.failure));
  }
  if (--unsettled_ > 0) return;
  if (problems_.empty()) {
    listen();
  } else {
    fail();
  }
}

void NodeStart::on_wait_over() noexcept {
  if (unidentified_ > 0) {
    problems_.push_back("the state store does not answer");
    return fail();
  }
  if (!problems_.empty()) return fail();
  unsettled_ = 0;
  for (const auto& [id, unit] : node_.units.all()) {
    if (!node_.opening.contains(id)) continue;
    LOG_WARNING("disk", "not open yet, served as not ready: disk={}", unit->config.name);
  }
  listen();
}

void NodeStart::listen() {
  node_.loop().stop(wait_);
  problems_ = node_.portals.prepare(portals_of(node_.config), true);
  if (!problems_.empty()) return fail();
  publish();
}

void NodeStart::publish() {
  node_.serving = true;
  node_.note_all_served();
  std::vector<std::shared_ptr<const UnitState>> units;
  for (const auto& [id, unit] : node_.units.all()) units.push_back(unit->snapshot());
  node_.shards.ask_all(
      {[units, map = node_.make_map()](ShardControl& shard, ShardControl::Done done) {
        for (const auto& unit : units) shard.add_unit(unit);
        shard.set_map(map);
        done();
      }},
      kNoDeadline, [this](bool) noexcept {
        node_.portals.commit();
        std::vector<std::string> done;
        done.push_back(fmt::format("serving {} targets with {} disks", node_.config.targets.size(),
                                   node_.units.all().size()));
        std::exchange(reply_, {})(std::move(done));
      });
}

void NodeStart::fail() {
  stop();
  node_.opener.cancel_all();
  node_.opening.clear();
  node_.units.clear();
  std::exchange(reply_, {})(std::unexpected(std::move(problems_)));
}

void NodeStart::stop() { node_.loop().stop(wait_); }

}  // namespace holdfast::target
