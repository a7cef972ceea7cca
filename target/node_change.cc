#include "target/node_change.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/base/units.h"
#include "target/login_policy.h"

namespace holdfast::target {
namespace {

// Also when getting ready took most of the time, so that quick drains are waited for.
constexpr io::Duration kLeastDrainWait = std::chrono::milliseconds(500);

// A block device has its own size, so that its configuration says none.
void note_size(DiskConfig& disk, uint64_t bytes) {
  if (disk.backing.kind != io::BackingKind::block) disk.backing.size_bytes = bytes;
}
constexpr io::Duration kGatherWait = std::chrono::seconds(2);

// Why the session must end under this map, or null.
const char* end_of_session(const NodeMap& map, const SessionStatus& session) {
  if (session.target_name.empty()) return nullptr;  // discovery
  const auto portal = io::Endpoint::parse(session.portal);
  const auto peer = io::Endpoint::parse(session.peer);
  if (!portal.has_value() || !peer.has_value()) return nullptr;  // the socket is gone already
  const auto obstacle = find_obstacle(map,
                                      {.initiator_name = session.initiator_name,
                                       .isid = session.isid,
                                       .target_name = session.target_name,
                                       .portal_group_tag = session.portal_group_tag},
                                      *portal, *peer);
  return obstacle ? obstacle->reason : nullptr;
}

}  // namespace

template <auto kMethod, class... Bound>
auto NodeChange::callback(Bound... bound) {
  return [this, serial = serial_, bound...](auto result) noexcept {
    if (serial == serial_) (this->*kMethod)(bound..., std::move(result));
  };
}

void NodeChange::begin(ChangePlan plan, Reply reply) {
  ASSERT(!busy());
  ++serial_;
  plan_ = std::move(plan);
  reply_ = std::move(reply);
  begun_at_ = node_.loop().now();
  opened_.clear();
  grown_ = 0;
  node_.loop().start(timer_, kPrepareWait);
  step_ = Step::opening;
  open_next();
}

void NodeChange::open_next() {
  if (opened_.size() == plan_.added_disks.size()) return prepare_portals();
  opened_.push_back({.config = plan_.added_disks[opened_.size()]});
  const DiskConfig& disk = opened_.back().config;
  StateStore& store = node_.services.store;
  // Its data went with whoever had it before.
  if (disk.backing.kind == io::BackingKind::memory) {
    return store.renew(key_of(disk), node_.loop(), callback<&NodeChange::on_identified>());
  }
  store.identify(key_of(disk), node_.loop(), callback<&NodeChange::on_identified>());
}

void NodeChange::on_identified(base::Result<DiskRecord> record) {
  Opened& disk = opened_.back();
  if (!record.has_value()) {
    return fail(fmt::format("disk `{}`: its identity cannot be stored: {}", disk.config.name,
                            record.error().what));
  }
  disk.record = *record;
  auto reservations = node_.reservations.restore(record->identity);
  if (!reservations.has_value()) {
    return fail(
        fmt::format("disk `{}`: its stored reservations are damaged: {}: restore the state "
                    "directory from a backup",
                    disk.config.name, reservations.error().what));
  }
  disk.reservations = std::move(*reservations);
  disk.config.backing.served_bytes = record->served_bytes;
  ticket_ = node_.opener.open(disk.config, callback<&NodeChange::on_opened>());
}

void NodeChange::on_opened(base::Result<std::shared_ptr<io::Backing>> backing) {
  ticket_ = 0;
  Opened& disk = opened_.back();
  if (!backing.has_value()) {
    return fail(fmt::format("disk `{}`: {}", disk.config.name,
                            describe_failure(disk.config, backing.error())));
  }
  disk.config.backing.served_bytes = 0;  // it is not of the configuration
  if ((*backing)->info().size_bytes < disk.config.backing.size_bytes) {
    return fail(fmt::format(
        "disk `{}`: {}: the file system is too full to grow it to {}: free space", disk.config.name,
        disk.config.backing.path, base::format_size(disk.config.backing.size_bytes)));
  }
  disk.backing = std::move(*backing);
  open_next();
}

void NodeChange::prepare_portals() {
  if (plan_.config) {
    const std::vector<std::string> problems =
        node_.portals.prepare(portals_of(*plan_.config), false);
    if (!problems.empty()) return fail(fmt::format("{}", fmt::join(problems, "; ")));
  }
  store();
}

void NodeChange::store() {
  step_ = Step::storing;
  if (plan_.remember) {
    node_.services.store.save_created_disk(
        *plan_.remember, node_.loop(),
        callback<&NodeChange::on_stored>("the disk cannot be remembered"));
  } else if (plan_.forget) {
    node_.services.store.forget_created_disk(
        *plan_.forget, node_.loop(),
        callback<&NodeChange::on_stored>("that the disk was removed cannot be stored"));
  } else {
    step_ = Step::growing;
    grow_next();
  }
}

void NodeChange::on_stored(const char* what, base::Result<> result) {
  if (!result.has_value()) return fail(fmt::format("{}: {}", what, result.error().what));
  step_ = Step::growing;
  grow_next();
}

void NodeChange::grow_next() {
  if (grown_ == plan_.grown_disks.size()) return commit();
  const ConfigDiff::Growth& growth = plan_.grown_disks[grown_];
  Unit* const unit = node_.units.find(growth.disk);
  ASSERT(unit != nullptr && unit->backing != nullptr);  // the plan was made for what there is
  ++growing_;
  // The backing must live until it answers, whatever becomes of the unit.
  unit->backing->grow(
      growth.to_bytes, node_.loop(),
      [this, backing = unit->backing, serial = serial_](base::Result<> result) noexcept {
        --growing_;
        if (serial == serial_) return on_grown(result);
        if (result.has_value()) backing->undo_grow();  // it was given up
      });
}

void NodeChange::give_up_growth() {
  ASSERT(waits_for_growth());
  on_grown(base::fail(base::Errc::timed_out, "its storage does not answer: given up"));
}

void NodeChange::on_grown(base::Result<> result) {
  const ConfigDiff::Growth& growth = plan_.grown_disks[grown_];
  if (!result.has_value()) {
    const Unit& unit = *node_.units.find(growth.disk);
    const std::string reason = fmt::format("disk `{}` cannot be grown: {}", growth.disk,
                                           describe_failure(unit.config, result.error()));
    if (plan_.remember) {
      node_.services.store.save_created_disk(
          unit.config, node_.loop(), [](base::Result<> undone) noexcept {
            if (!undone.has_value())
              LOG_ERROR("change", "the old size is not stored: {}", undone.error().what);
          });
    }
    return fail(reason);
  }
  ++grown_;
  grow_next();
}

void NodeChange::commit() {
  step_ = Step::ending;
  const io::Duration used = node_.loop().now() - begun_at_;
  node_.loop().start(timer_, std::max(node_.drain_deadline() - used, kLeastDrainWait));
  parts_left_ = 1;  // so that no part is the last before all have begun
  apply_to_state();
  publish(node_.make_map());
  if (plan_.config) {
    node_.portals.commit();
    end_sessions();
  }
  remove_disks();
  part_ended(true);
}

void NodeChange::apply_to_state() {
  for (Opened& disk : opened_) {
    Unit& unit = node_.units.add(std::move(disk.config), plan_.origin, disk.record.identity);
    unit.backing = std::move(disk.backing);
    unit.served_bytes = disk.record.served_bytes;
    node_.note_served(unit);
    unit.reservations = std::move(disk.reservations);
    disk.unit = unit.id;
  }
  if (plan_.config) node_.config = std::move(*plan_.config);
  for (const ConfigDiff::Growth& growth : plan_.grown_disks) {
    Unit& unit = *node_.units.find(growth.disk);
    unit.backing->use_grown();
    note_size(unit.config, growth.to_bytes);
    node_.note_served(unit);
    for (DiskConfig& disk : node_.config.disks) {
      if (disk.name == growth.disk) note_size(disk, growth.to_bytes);
    }
  }
}

// In one step on every shard: what is new, then the map that names it, then who must be told.
void NodeChange::publish(std::shared_ptr<const NodeMap> map) {
  std::vector<std::shared_ptr<const UnitState>> added, units;
  std::vector<AttentionRequest> attentions;
  for (const Opened& disk : opened_) added.push_back(node_.units.find(disk.unit)->snapshot());
  for (const ConfigDiff::Growth& growth : plan_.grown_disks) {
    const Unit& unit = *node_.units.find(growth.disk);
    units.push_back(unit.snapshot());
    attentions.push_back({.unit = unit.id, .sense = scsi::kCapacityChanged});
  }
  for (const std::string& target : plan_.other_lun_inventory) {
    attentions.push_back({.target = target, .sense = scsi::kReportedLunsChanged});
  }
  std::vector<Shards::Ask> steps = lun_drains();
  steps.insert(steps.begin(), [added, units, map = std::move(map), attentions](
                                  ShardControl& shard, ShardControl::Done done) {
    for (const auto& unit : added) shard.add_unit(unit);
    for (const auto& unit : units) shard.publish_unit(unit);
    shard.set_map(map);
    for (const AttentionRequest& attention : attentions) {
      shard.raise_attention(attention);
    }
    done();
  });
  ++parts_left_;
  node_.shards.ask_all(std::move(steps), kNoDeadline, callback<&NodeChange::part_ended>());
}

std::vector<Shards::Ask> NodeChange::lun_drains() {
  std::vector<Shards::Ask> steps;
  for (const ConfigDiff::LunRemoval& removal : plan_.removed_luns) {
    const Unit* const unit = node_.units.find(removal.disk);
    if (unit == nullptr) continue;  // its removal drains it
    AbortRequest abort{.unit = unit->id, .target = removal.target};
    steps.push_back([abort](ShardControl& shard, ShardControl::Done done) {
      shard.abort_tasks(abort, std::move(done));
    });
  }
  return steps;
}

void NodeChange::remove_disks() {
  for (const std::string& name : plan_.removed_disks) {
    Unit& unit = *node_.units.find(name);
    unit.leaving = true;
    if (const auto opening = node_.opening.find(unit.id); opening != node_.opening.end()) {
      node_.opener.cancel(opening->second);
      node_.opening.erase(opening);
    }
    ++parts_left_;
    // Outside of the change's life: the disk is let go of when its last command has ended.
    node_.shards.ask_all({[id = unit.id](ShardControl& shard, ShardControl::Done done) {
                           shard.remove_unit(id, std::move(done));
                         }},
                         kNoDeadline,
                         [this, id = unit.id,
                          ended = callback<&NodeChange::part_ended>()](bool all) mutable noexcept {
                           operations_.on_unit_removed(id);
                           LOG_INFO("disk", "let go: disk={}", node_.units.find(id)->config.name);
                           node_.units.erase(id);
                           ended(all);
                         });
    node_.reservations.abort_waiting(
        [id = unit.id](const PrOutCall& waiting) { return waiting.unit == id; });
  }
}

// Sessions whose target, portal group, portal or permission is no more; the others notice nothing.
void NodeChange::end_sessions() {
  ++parts_left_;
  node_.shards.gather(kGatherWait,
                      [this, map = node_.map, ended = callback<&NodeChange::part_ended>()](
                          std::vector<ShardStatus> all) mutable noexcept {
                        for (const ShardStatus& shard : all) {
                          for (const SessionStatus& session : shard.sessions) {
                            const char* const reason = end_of_session(*map, session);
                            if (reason != nullptr) node_.sessions.drop(session.id, reason);
                          }
                        }
                        ended(true);
                      });
}

void NodeChange::part_ended(bool) {
  if (--parts_left_ == 0) finish();
}

void NodeChange::on_deadline() noexcept {
  if (step_ == Step::opening) {
    const Opened& disk = opened_.back();
    const bool locked = ticket_ != 0 && node_.opener.waits_for_lock(ticket_);
    return fail(fmt::format(
        "disk `{}`: {}", disk.config.name,
        locked ? "locked: another process serves it, or a killed one still has requests in flight"
               : "its storage, or the state store, does not answer"));
  }
  if (step_ == Step::ending) {
    plan_.sentences.push_back(
        "commands of what was removed have not ended yet: a disk stays locked until its last one "
        "has");
    return finish();
  }
  if (!reply_) return;
  std::exchange(reply_, {})(std::unexpected(std::vector<std::string>{
      "this takes long; it goes on in the background: look at `holdfast target status` for what "
      "becomes of it"}));
}

void NodeChange::fail(std::string reason) {
  ++serial_;
  node_.loop().stop(timer_);
  step_ = Step::idle;
  if (ticket_ != 0) node_.opener.cancel(std::exchange(ticket_, 0));
  node_.portals.rollback();
  for (const Opened& disk : opened_) {
    if (disk.backing != nullptr) disk.backing->undo_open();
  }
  opened_.clear();
  for (size_t i = 0; i < grown_; ++i) {
    node_.units.find(plan_.grown_disks[i].disk)->backing->undo_grow();
  }
  LOG_ERROR("change", "not made: {}", reason);
  if (reply_) std::exchange(reply_, {})(std::unexpected(std::vector{std::move(reason)}));
  if (on_idle_) on_idle_();
}

void NodeChange::finish() {
  ++serial_;
  node_.loop().stop(timer_);
  step_ = Step::idle;
  opened_.clear();
  for (const std::string& sentence : plan_.sentences) LOG_INFO("change", "{}", sentence);
  if (reply_) std::exchange(reply_, {})(std::move(plan_.sentences));
  if (on_idle_) on_idle_();
}

void NodeChange::stop() {
  ++serial_;
  step_ = Step::idle;
  node_.loop().stop(timer_);
}

}  // namespace holdfast::target
