#include "mpio/device.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace holdfast::mpio {

Device::Device(const Path::Services& services, io::BufferPool& buffers, DeviceOptions options)
    : services_(services),
      buffers_(buffers),
      options_(std::move(options)),
      loads_(options_.paths.size()),
      flights_(options_.paths.size()),
      selector_(make_selector(options_.policy, services.random.next())),
      judge_(services.loop.now()),
      failed_at_(options_.paths.size()),
      queue_limits_(options_.paths.size()),
      slow_start_(options_.paths.size(), kSlowStart),
      cleared_(options_.paths.size()),
      reservations_(std::make_unique<Reservations>(*this, services.loop)),
      session_keys_(std::make_unique<SessionKeys>(*this, services.loop, services.random)) {
  ASSERT(!options_.paths.empty() && options_.paths.size() <= kMaxPaths);
  ASSERT(!options_.session_keys || !options_.in_cluster);
  for (size_t i = 0; i < options_.paths.size(); ++i) {
    options_.paths[i].device = options_.name;
    noted_.push_back({.traces = options_.paths[i].traces});
    loads_[i].order = static_cast<uint16_t>(i);
    loads_[i].limit = kSlowStart;
    paths_.push_back(std::make_unique<Path>(services_, *this, *options_.profile, options_.paths[i],
                                            i, loads_[i]));
  }
  for (size_t i = 0; i < kMaxJobs; ++i) {
    jobs_.push_back(std::make_unique<Job>(*this));
    free_jobs_.push_back(jobs_.back().get());
  }
  for (size_t i = 0; i < kMaxTasks; ++i) {
    tasks_.push_back(std::make_unique<Task>(*this));
    free_tasks_.push_back(tasks_.back().get());
  }
}

Device::~Device() {
  ASSERT(jobs_in_use_ == 0 && fences_.empty());
  for (io::Timer* timer :
       {static_cast<io::Timer*>(&delay_timer_), static_cast<io::Timer*>(&no_path_timer_),
        static_cast<io::Timer*>(&housekeeping_timer_), static_cast<io::Timer*>(&marginal_timer_)}) {
    services_.loop.stop(*timer);
  }
}

void Device::start() {
  started_at_ = services_.loop.now();
  update_no_path();
  services_.loop.start(housekeeping_timer_, kHousekeeping);
  for (const auto& path : paths_) path->apply(PathEvent::enable, "started");
}

void Device::stop(std::move_only_function<void() noexcept> stopped) {
  ASSERT(!stopping_);
  stopping_ = true;
  stopped_ = std::move(stopped);
  services_.loop.stop(no_path_timer_);
  reservations_->stop();
  fail_all(-ENOLINK);
  for (auto& watch : std::exchange(ghost_watches_, {})) give_up(std::move(watch));
  for (const auto& path : paths_) path->apply(PathEvent::disable, "the device ends");
  for (size_t i = 0; i < fences_.size(); ++i) {
    if (!fences_[i]->finished()) fences_[i]->abandon();
  }
  if (!completions_op_.busy()) services_.loop.at_turn_end(completions_op_);
}

void Device::check_stopped() {
  if (!stopping_ || !stopped_) return;
  const bool rest = std::ranges::all_of(paths_, [](const auto& path) { return path->at_rest(); });
  const bool notes = std::ranges::any_of(noted_, [](const Noted& each) { return each.open > 0; });
  if (!rest || notes || jobs_in_use_ > 0 || !fences_.empty() || !completed_.empty()) return;
  if (!reservations_->idle() || !session_keys_->idle()) return;
  services_.loop.stop(delay_timer_);
  services_.loop.stop(housekeeping_timer_);
  services_.loop.stop(marginal_timer_);
  std::exchange(stopped_, nullptr)();
}

// --- administration ---

void Device::set_policy(Policy policy) {
  options_.policy = policy;
  selector_ = make_selector(policy, services_.random.next());
  pump();
}

void Device::set_profile(const Profile& profile) {
  options_.profile = &profile;
  for (const auto& path : paths_) path->set_profile(profile);
}

void Device::set_no_path_timeout(io::Duration timeout) {
  options_.no_path_timeout = timeout;
  if (!no_path_since_.has_value() || no_path_expired_) return;
  const io::Duration left = *no_path_since_ + timeout - services_.loop.now();
  services_.loop.start(no_path_timer_, std::max(left, io::Duration(0)));
}

bool Device::set_path_enabled(std::string_view name, bool enabled) {
  for (const auto& path : paths_) {
    if (path->settings().name != name) continue;
    path->apply(enabled ? PathEvent::enable : PathEvent::disable);
    return true;
  }
  return false;
}

void Device::link_changed(const io::Endpoint& source, bool up) {
  for (const auto& path : paths_) {
    const io::Endpoint& own = path->settings().session.connect.source;
    const auto same = std::ranges::equal(own.address(), source.address());
    if (same) path->link_changed(up);
  }
}

std::string Device::wwid() const {
  return identity_.has_value() ? scsi::to_string(*identity_) : std::string();
}

void Device::tell(io::BlockEvent::Kind kind, const char* path, const char* why) {
  if (listener_ != nullptr) listener_->on_block_event({.kind = kind, .path = path, .why = why});
}

// Weights of paths that came back; ghosts of several sessions, which no single fence clears.
void Device::on_housekeeping() noexcept {
  const io::Instant now = services_.loop.now();
  for (const auto& path : paths_) {
    PathLoad& load = path->load();
    if (load.failback_ready) continue;
    const io::Duration served = now - path->machine().since();
    load.weight = ramp_weight(kFullWeight, served, kFailbackHold);
    load.failback_ready = served >= kFailbackHold + kRamp;
    if (load.failback_ready) load.weight = kFullWeight;
  }
  services_.loop.start(housekeeping_timer_, kHousekeeping);
  // A device that ends has given its fences up: what they had to tell is left to the next one.
  if (!stopping_ && !ghosts_.empty()) {
    std::vector<SessionId> open;
    for (const auto& fence : fences_) {
      if (!fence->plan().cleared()) open.push_back(fence->session());
    }
    for (const auto& path : paths_) {
      if (path->state() == PathState::failed) open.push_back(session_of(*path));
    }
    ghosts_.clear_expired(now, open);
    release_ghost_waiters();
  }
  if (!stopping_) {
    judge_paths();
    ask_silent_commands();
  }
  check_stopped();
  if (!stopping_) pump();
}

// --- reservations ---

void Device::use_key(uint64_t key, Done done) { reservations_->use_key(key, std::move(done)); }
void Device::readmit(Done done) { reservations_->readmit(std::move(done)); }
void Device::verify_key(Done done) { reservations_->verify_key(std::move(done)); }
void Device::reserve(io::ReservationType type, Done done) {
  reservations_->reserve(static_cast<scsi::PrType>(type), std::move(done));
}
void Device::preempt_and_abort(uint64_t victim, io::ReservationType type, Done done) {
  reservations_->preempt_and_abort(victim, static_cast<scsi::PrType>(type), std::move(done));
}
void Device::clear_reservations(Done done) { reservations_->clear(std::move(done)); }
void Device::read_reservations(GotState done) { reservations_->read(std::move(done)); }

void Device::register_path(Path& path) {
  options_.session_keys ? session_keys_->admit(path) : reservations_->admit(path);
}

void Device::verify_registration(Path& path) {
  options_.session_keys ? session_keys_->verify(path) : reservations_->verify(path);
}

// A command met a reservation conflict: a path that lost its key, or a node that was fenced.
void Device::check_registration(Task& task) {
  if (reservations_->key() == 0 && !options_.session_keys) return finish(task, -EBADE);
  Path& path = *paths_[task.session.path];
  verify_registration(path);
  task.scratch = {};
  task.avoid = task.session.path;
  if (task.retry.path_changes++ >= kMaxPathChanges) return finish(task, -EBADE);
  delay(task, kBusyDelay);
}

}  // namespace holdfast::mpio
