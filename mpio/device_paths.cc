// What the device does for its paths: identity, access states, unit attentions, fences.

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "mpio/device.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "mpio";

std::optional<scsi::AluaState> to_alua(const initiator::LunFacts& facts) {
  if (facts.inquiry.tpgs == 0) return std::nullopt;
  switch (facts.access_state()) {
    case scsi::AccessState::active_optimized:
      return scsi::AluaState::active_optimized;
    case scsi::AccessState::active_non_optimized:
    case scsi::AccessState::lba_dependent:
      return scsi::AluaState::active_non_optimized;
    case scsi::AccessState::standby:
      return scsi::AluaState::standby;
    case scsi::AccessState::transitioning:
      return scsi::AluaState::transitioning;
    default:
      return scsi::AluaState::unavailable;
  }
}

bool is_preferred(const initiator::LunFacts& facts) {
  const auto tag = facts.identification.target_port_group;
  const scsi::ReportedPortGroup* group = tag.has_value() ? facts.port_groups.find(*tag) : nullptr;
  return group != nullptr && group->preferred;
}

}  // namespace

// --- service ---

void Device::update_tier(Path& path) {
  PathLoad& load = path.load();
  if (!path.carries_io() || !path.facts().has_value()) {
    load.tier = PathTier::unusable;
  } else {
    load.tier = tier_of(path.state(), to_alua(*path.facts()), is_preferred(*path.facts()));
  }
  update_no_path();
}

// As many in flight as slow start, TASK SET FULL and our own bound allow.
void Device::widen(Path& path) {
  uint32_t& slow = slow_start_[path.index()];
  if (slow < kQueueDepth) ++slow;
  path.load().limit = std::min(slow, queue_limits_[path.index()].limit());
}

void Device::on_path_state(Path& path) noexcept {
  update_tier(path);
  if (path.state() == PathState::unregistered) {
    tell(io::BlockEvent::Kind::key_lost, path.settings().name.c_str(), path.machine().reason());
    if (!std::exchange(node_fenced_, true)) fail_all(-EBADE);
  }
  start_left_fences();
  check_stopped();
  if (!stopping_) pump();
}

void Device::on_path_up(Path& path) noexcept {
  slow_start_[path.index()] = kSlowStart;
  path.load().limit = std::min(kSlowStart, queue_limits_[path.index()].limit());
  // A path that returns beside others is tried with a little first.
  const bool others = std::ranges::any_of(
      paths_, [&](const auto& each) { return each.get() != &path && each->carries_io(); });
  const bool returns = others && path.session_number() > 1;
  path.load().failback_ready = !returns;
  path.load().weight = returns ? 0 : kFullWeight;
  tell(io::BlockEvent::Kind::path_restored, path.settings().name.c_str(), path.machine().reason());
  for (size_t i = 0; i < fences_.size(); ++i) fences_[i]->on_survivors_changed();
}

void Device::on_path_down(Path& path) noexcept {
  ++counters_.failovers;
  if (path.state() == PathState::failed) {
    LOG_WARNING(kLog, "{}: path {} is lost: {}", options_.name, path.settings().name,
                path.machine().reason());
    failed_at_[path.index()] = services_.loop.now();
  }
  path.load().tier = PathTier::unusable;
  tell(io::BlockEvent::Kind::path_failed, path.settings().name.c_str(), path.machine().reason());
  for (size_t i = 0; i < fences_.size(); ++i) fences_[i]->on_survivors_changed();
}

// --- identity ---

void Device::on_path_facts(Path& path) noexcept {
  const initiator::LunFacts& facts = *path.facts();
  if (!facts.identification.unit.has_value()) {
    return path.probed(PathEvent::identity_mismatch,
                       "the unit has no identity (VPD page 83h): paths to it cannot be told apart");
  }
  if (identity_.has_value() && *identity_ != *facts.identification.unit) {
    LOG_ERROR(kLog, "{}: path {} leads to {}, not to {}: it is not used", options_.name,
              path.settings().name, scsi::to_string(*facts.identification.unit), wwid());
    return path.probed(PathEvent::identity_mismatch, "another logical unit answers");
  }
  if (facts.capacity.protection) {
    return path.probed(PathEvent::attempt_failed, "a unit with protection information");
  }
  const bool first = !identity_.has_value();
  if (!first && facts.capacity.block_size != info_.block_size) {
    return path.probed(PathEvent::identity_mismatch, "the unit has another block size");
  }
  identity_ = *facts.identification.unit;
  take_facts(facts);
  if (first) fence_left_sessions();
  // It has logged in with its ISID, which reinstates what an earlier session of it left: at the
  // same unit, as is known only now.
  for (size_t i = 0; i < fences_.size(); ++i) {
    if (fences_[i]->session().path != path.index()) continue;
    if (!fences_[i]->started()) fences_[i]->start();
    fences_[i]->on_own_login(path.portal_group_tag());
  }
  if (first) {
    LOG_INFO(kLog, "{}: {} ({} {} {}), {} bytes", options_.name, wwid(), facts.inquiry.vendor,
             facts.inquiry.product, facts.inquiry.revision, info_.size_bytes);
  }
  admit(path);
}

// Into service, once the next process will know that this session may have left something here.
void Device::admit(Path& path) {
  Noted& noted = noted_[path.index()];
  const SessionTrace here{.portal_group = path.portal_group_tag(), .unit = wwid()};
  if (!options_.note || (noted.open == 0 && noted.traces.contains(here))) {
    return register_path(path);
  }
  std::set<SessionTrace> wanted = open_traces(path);
  wanted.insert(here);
  ++noted.open;
  options_.note(path.settings().session.login.isid, wanted,
                [this, &path, wanted, session = path.session_number()](bool done) noexcept {
                  Noted& its = noted_[path.index()];
                  --its.open;
                  its.traces = done ? wanted : std::set<SessionTrace>();
                  if (stopping_) return check_stopped();
                  if (path.state() != PathState::probe || path.session_number() != session) return;
                  if (done) return register_path(path);
                  path.probed(PathEvent::attempt_failed,
                              "the state directory cannot be written: see the log");
                });
}

// Where earlier sessions of its ISID may still have something.
std::set<SessionTrace> Device::open_traces(const Path& path) const {
  std::set<SessionTrace> open;
  for (size_t i = 0; i < options_.left.size(); ++i) {
    const LeftSession& left = options_.left[i];
    if (left.isid != path.settings().session.login.isid) continue;
    if (!takes(left) || ghosts_.has_session(left_id(i))) open.insert(left.trace);
  }
  for (const auto& fence : fences_) {
    if (fence->session().path != path.index() || is_left_behind(fence->session())) continue;
    if (!fence->plan().cleared()) {
      open.insert({.portal_group = fence->portal_group_tag(), .unit = wwid()});
    }
  }
  return open;
}

void Device::on_path_refreshed(Path& path) noexcept {
  const initiator::LunFacts& facts = *path.facts();
  if (!facts.identification.unit.has_value() || *facts.identification.unit != *identity_) {
    return path.apply(PathEvent::identity_mismatch, "another logical unit answers");
  }
  take_facts(facts);
  update_tier(path);
  pump();
}

void Device::take_facts(const initiator::LunFacts& facts) {
  const uint64_t size = facts.capacity.blocks * facts.capacity.block_size;
  const uint64_t before = info_.size_bytes;
  limits_ = facts.limits;
  provisioning_ = facts.provisioning;
  info_.size_bytes = size;
  info_.block_size = facts.capacity.block_size;
  info_.physical_block_size = facts.capacity.block_size << facts.capacity.physical_block_exponent;
  info_.volatile_cache = facts.mode.write_cache.value_or(true);
  info_.read_only = facts.mode.write_protected;
  info_.can_discard = facts.capacity.thin && provisioning_.unmap && provisioning_.reads_zeroes;
  target_row_ = find_target(facts.inquiry.vendor, facts.inquiry.product, facts.inquiry.revision);
  if (before != 0 && before != size) {
    LOG_INFO(kLog, "{}: {} bytes, before {}", options_.name, size, before);
    tell(io::BlockEvent::Kind::capacity_changed);
  }
}

// --- attentions ---

// Did we cause this reset ourselves? The first attention of a session tells of the login, unless
// no other session was there to see that the target did not restart meanwhile.
bool Device::is_ours(Path& path, const scsi::Sense& sense) const {
  if (sense.same_code(scsi::kNexusLoss)) return true;
  if (in_service(path.state())) return path.take_expected_reset();
  const bool witness =
      std::ranges::any_of(paths_, [](const auto& each) { return each->carries_io(); });
  return witness || path.session_number() == 1;
}

// A unit attention comes once per nexus. What belongs to a nexus (key, access state) is looked at
// on each path, what belongs to the unit is told once.
void Device::on_unit_attention(Path& path, const scsi::Sense& sense) noexcept {
  if (sense.key != scsi::SenseKey::unit_attention) return;
  const Attention attention = classify_attention(sense.asc, sense.ascq);
  const bool ours = attention == Attention::reset && is_ours(path, sense);
  const bool first = attentions_.first(attention, ours, services_.loop.now());
  const AttentionTasks tasks = tasks_of(attention, ours, info_.volatile_cache);
  if (first && tasks.has(AttentionTask::report_preempted)) {
    tell(io::BlockEvent::Kind::preempted, path.settings().name.c_str());
  }
  if (first && tasks.has(AttentionTask::report_cache_lost)) {
    tell(io::BlockEvent::Kind::cache_lost, path.settings().name.c_str());
  }
  if (tasks.has(AttentionTask::ask_for_commands)) ask_for_commands(path);
  if (tasks.has(AttentionTask::verify_registration)) verify_registration(path);
  const bool asks = tasks.has(AttentionTask::read_mode) || tasks.has(AttentionTask::read_access) ||
                    tasks.has(AttentionTask::read_capacity) || tasks.has(AttentionTask::rescan) ||
                    tasks.has(AttentionTask::reprobe);
  if (asks) path.refresh();
}

void Device::on_access_refused(Path& path, const scsi::Sense&) noexcept {
  path.load().tier = PathTier::unusable;  // until it has said what it is now
  update_no_path();
  path.refresh();
}

// --- fences ---

bool Device::has_ghosts(const Path& path, uint64_t session) noexcept {
  return ghosts_.has_session({static_cast<uint32_t>(path.index()), static_cast<uint32_t>(session)});
}

// Of the dead session: its path may be back with another, which will do when no other path is.
Path* Device::survivor(const DeadSession& dead) noexcept {
  Path* found = nullptr;
  Path* itself = nullptr;
  for (const auto& path : paths_) {
    if (!path->carries_io() || !path->session()->has_slot()) continue;
    if (path->index() == dead.id.path) {
      itself = path.get();
      continue;
    }
    const bool same =
        path->portal_group_tag().has_value() && path->portal_group_tag() == dead.portal_group_tag;
    if (same) return path.get();
    if (found == nullptr) found = path.get();
  }
  return found != nullptr ? found : itself;
}

void Device::start_fence(Path& path) noexcept {
  ++counters_.fences;
  if (stopping_) return path.fenced();
  add_fence({.path = path.settings().name,
             .id = session_of(path),
             .login = path.settings().session,
             .portal_group_tag = path.portal_group_tag(),
             .key = session_keys_->key_of(path, path.session_number()),
             .socket_reset_at = services_.loop.now()});
  fences_.back()->start();
}

void Device::add_fence(DeadSession dead) {
  Path* other = survivor(dead);
  const FenceSituation situation{
      .survivor = other != nullptr,
      .same_portal_group = other != nullptr && dead.portal_group_tag.has_value() &&
                           other->portal_group_tag() == dead.portal_group_tag,
      .target = target_known(),
      .in_cluster = options_.in_cluster,
      .unit_reset_in_cluster = options_.unit_reset_in_cluster,
      .session_key = dead.key != 0,
      .hold = options_.ghost_hold};
  fences_.push_back(std::make_unique<Fence>(services_, *this, std::move(dead), situation));
}

void Device::on_path_leaves(Path& path) noexcept { session_keys_->leave(path); }

Preemption::Keys Device::preemption_keys(const DeadSession& dead, const Path& by) noexcept {
  return {.own = session_keys_->key_of(by, by.session_number()),
          .dead = dead.key,
          .under_reservation = options_.reserve_for_sessions};
}

void Device::on_preempt_failed(Path& survivor) noexcept {
  if (!stopping_) session_keys_->verify(survivor);
}

// One reset at a time: tgt answers only one of several.
bool Device::unit_is_being_reset(const Fence& by_others_than) noexcept {
  return std::ranges::any_of(fences_, [&](const auto& fence) {
    return fence.get() != &by_others_than && fence->resets();
  });
}

void Device::on_unit_reset_over(const Fence& fence) noexcept {
  for (size_t i = 0; i < fences_.size(); ++i) {
    if (fences_[i].get() != &fence) fences_[i]->on_reset_turn();
  }
}

// --- what an earlier process has left ---

// With the number of its path, or one beyond them if that is not of this device.
SessionId Device::left_id(size_t index) const {
  const auto path = std::ranges::find(options_.paths, options_.left[index].isid,
                                      [](const auto& each) { return each.session.login.isid; });
  const auto number = path != options_.paths.end()
                          ? static_cast<size_t>(path - options_.paths.begin())
                          : options_.paths.size() + index;
  return {.path = static_cast<uint32_t>(number),
          .incarnation = kLeftBehind + static_cast<uint32_t>(index)};
}

// It is of this unit, whoever had it. Precondition: known().
bool Device::takes(const LeftSession& left) const { return left.trace.unit == wwid(); }

// Before the first request: which writes are meant is not known, so all of the unit is held.
void Device::fence_left_sessions() {
  if (!options_.fence) return;
  for (size_t i = 0; i < options_.left.size(); ++i) {
    const LeftSession& left = options_.left[i];
    if (!takes(left)) continue;
    ++counters_.fences;
    ghosts_.add({.range = {0, UINT64_MAX},
                 .session = left_id(i),
                 .since = started_at_,
                 .held_until = options_.ghost_hold
                                   ? std::optional(started_at_ + *options_.ghost_hold)
                                   : std::nullopt,
                 .left_behind = true});
    const SessionId id = left_id(i);
    // The same unit may have been reached through another target: no login of ours ends that.
    const bool of_our_target = left.target == options_.paths.front().session.login.target_name;
    DeadSession dead{.path = id.path < paths_.size() ? paths_[id.path]->settings().name : left.path,
                     .id = id,
                     .login = options_.paths.front().session,
                     .portal_group_tag = of_our_target ? left.trace.portal_group : std::nullopt,
                     .socket_reset_at = started_at_};
    dead.login.login.initiator_name = left.initiator_name;
    dead.login.login.isid = left.isid;
    add_fence(std::move(dead));
  }
  start_left_fences();
}

// Its path's own login proves the same as the fence's, and the two would end each other: a path on
// its way into service is waited for, which its timers bound.
void Device::start_left_fences() {
  if (stopping_) return;
  for (size_t i = 0; i < fences_.size(); ++i) {
    Fence& fence = *fences_[i];
    if (fence.started()) continue;
    const size_t path = fence.session().path;
    if (path < paths_.size()) {
      const PathState state = paths_[path]->state();
      if (state == PathState::connect || state == PathState::login || state == PathState::probe) {
        continue;
      }
    }
    fence.start();
    fence.on_survivors_changed();
  }
}

DeviceRemains Device::remains() const {
  DeviceRemains out;
  for (size_t i = 0; known() && i < options_.left.size(); ++i) {
    const LeftSession& left = options_.left[i];
    if (takes(left) && !ghosts_.has_session(left_id(i))) out.fenced.push_back(left);
  }
  for (const auto& path : paths_) {
    const uint64_t isid = path->settings().session.login.isid;
    if (may_have_left(*path) || session_keys_->left_behind().contains(isid)) {
      out.unfenced.push_back(isid);
    }
  }
  return out;
}

void Device::cancel_fence(Path& path) noexcept {
  for (size_t i = 0; i < fences_.size(); ++i) {
    if (fences_[i]->session().path == path.index()) fences_[i]->cancel_login();
  }
}

void Device::on_fence_waits(Fence& fence) noexcept {
  // The path's own login reinstates too: it need not wait for the time.
  const SessionId session = fence.session();
  if (session.path < paths_.size() && session == session_of(*paths_[session.path])) {
    paths_[session.path]->fenced();
  }
}

void Device::on_fence_cleared(Fence& fence) noexcept {
  const FenceProof proof = fence.plan().proof();
  if (proof == FenceProof::time) ++counters_.fences_by_time;
  if (proof == FenceProof::preempted) ++counters_.fences_by_preempt;
  last_fence_ = {
      .path = fence.path(), .proof = proof, .took = services_.loop.now() - fence.since()};
  if (fence.plan().relies_on_reservation()) {
    const DeadSession& dead = fence.dead();
    session_keys_->keep_out(dead.login.login.isid, dead.portal_group_tag,
                            fence.plan().hold_until().value_or(io::Instant::max()));
  }
  after_fence(fence.session());
  if (options_.session_keys && is_left_behind(fence.session())) session_keys_->remove_orphans();
}

bool Device::has_nothing_left(std::string_view initiator_name, uint64_t isid) const {
  bool ours = false;
  for (size_t i = 0; i < options_.left.size(); ++i) {
    const LeftSession& left = options_.left[i];
    if (left.isid != isid || left.initiator_name != initiator_name || !takes(left)) continue;
    if (ghosts_.has_session(left_id(i))) return false;
    ours = true;
  }
  for (const auto& path : paths_) {
    const auto& login = path->settings().session.login;
    if (login.isid != isid || login.initiator_name != initiator_name) continue;
    if (may_have_left(*path)) return false;
    ours = true;
  }
  return ours;
}

// Sessions of it that this process has had.
bool Device::may_have_left(const Path& path) const {
  return std::ranges::any_of(ghosts_.all(), [&path](const Ghosts::Ghost& ghost) {
    return ghost.merged || (ghost.session.path == path.index() && !is_left_behind(ghost.session));
  });
}

// The reset is reported to every nexus.
void Device::on_unit_reset() noexcept {
  for (const auto& path : paths_) path->expect_reset();
}

// It ended the commands of all nexuses.
void Device::on_unit_reset_done() noexcept {
  for (const auto& path : paths_) ask_for_commands(*path);
}

void Device::on_fence_finished(Fence& fence) noexcept {
  // Not from within it: it may be on the stack.
  services_.loop.post([this, &fence]() noexcept {
    std::erase_if(fences_, [&fence](const auto& each) { return each.get() == &fence; });
    check_stopped();
  });
}

}  // namespace holdfast::mpio
