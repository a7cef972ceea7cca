#include "mpio/reservations.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "mpio/device.h"

namespace holdfast::mpio {
namespace {

using base::Errc;
using base::Result;

constexpr const char* kLog = "mpio";

}  // namespace

Reservations::Reservations(Device& device, io::Loop& loop)
    : device_(device), loop_(loop), client_(loop) {}

Result<> Reservations::no_way(const Path* path) const {
  if (path != nullptr) return base::fail(Errc::invalid_argument, "this node has no key");
  if (device_.node_fenced_) return base::fail(Errc::permission, "this node's key is gone");
  return base::fail(Errc::closed, "no path is usable");
}

Path* Reservations::any_path() {
  for (const auto& path : device_.paths()) {
    if (path->carries_io() && path->session()->has_slot()) return path.get();
  }
  return nullptr;
}

void Reservations::stop() { client_.stop(); }

// --- registering ---

void Reservations::use_key(uint64_t key, Done done) {
  if (device_.options().session_keys) {
    loop_.post([done = std::move(done)]() mutable noexcept {
      done(base::fail(Errc::invalid_argument,
                      "the device's sessions have keys of their own (`session_keys`): a node's key "
                      "is for devices without"));
    });
    return;
  }
  add([this, key, done = std::move(done)]() mutable noexcept {
    key_ = key;
    unregistered_yet_ = true;
    registered_ = 0;
    std::vector<Path*> paths;
    for (const auto& path : device_.paths()) {  // those that come up later are admitted then
      const bool waits = path->state() == PathState::unregistered;
      if (in_service(path->state()) || waits) paths.push_back(path.get());
    }
    register_next(std::move(paths),
                  [this, done = std::move(done)](Result<> result) mutable noexcept {
                    if (result.has_value() && registered_ == 0) {
                      result = base::fail(Errc::closed,
                                          "no path is usable: the key is registered "
                                          "when one is");
                    }
                    if (result.has_value()) let_in();
                    done(result);
                    finish();
                  });
  });
}

// The owner has decided: this node is not fenced.
void Reservations::let_in() {
  doubts_.clear();
  device_.node_fenced_ = false;
  for (const auto& path : device_.paths()) path->apply(PathEvent::readmitted);
}

// With IGNORE EXISTING KEY: the nexus outlives our sessions, and with them the key of an earlier
// incarnation. Only here and in readmit(), where the owner has decided.
void Reservations::register_next(std::vector<Path*> left, Done done) {
  if (left.empty()) return done({});
  Path& path = *left.back();
  left.pop_back();
  if (path.session() == nullptr || !path.session()->up()) {
    return register_next(std::move(left), std::move(done));  // it is admitted when it returns
  }
  const scsi::PrOutParameters parameters{.service_action_key = key_, .aptpl = true};
  run(path,
      scsi::build::persistent_reserve_out(scsi::ReserveOut::register_and_ignore, std::nullopt),
      &parameters,
      [this, left = std::move(left),
       done = std::move(done)](Result<base::Bytes> result) mutable noexcept {
        if (!result.has_value() && result.error().code != Errc::closed) {
          return done(std::unexpected(result.error()));
        }
        if (result.has_value()) {
          ++registered_;
          unregistered_yet_ = false;
        }
        register_next(std::move(left), std::move(done));
      });
}

void Reservations::readmit(Done done) {
  add([this, done = std::move(done)]() mutable noexcept {
    std::vector<Path*> paths;
    for (const auto& path : device_.paths()) {
      if (path->session() != nullptr && path->session()->up()) paths.push_back(path.get());
    }
    register_next(std::move(paths),
                  [this, done = std::move(done)](Result<> result) mutable noexcept {
                    if (result.has_value()) let_in();
                    done(result);
                    finish();
                  });
  });
}

// --- a path that comes up ---
//
// Its nexus may have our key still: REGISTER with that key then succeeds, in one step. Otherwise
// the key has to be there by another nexus of ours, and between that look and the registration
// somebody may have preempted us: then it is taken back.

void Reservations::admit(Path& path) {
  if (key_ == 0) return path.probed(PathEvent::probe_passed);
  add([this, &path, session = path.session_number()]() mutable noexcept {
    if (path.session_number() != session || path.state() != PathState::probe) return finish();
    if (unregistered_yet_) {  // the owner chose it just now
      return register_next({&path}, [this, &path](Result<> result) noexcept {
        admitted(path, result.has_value() ? PathEvent::probe_passed : PathEvent::attempt_failed,
                 result.has_value() ? "" : result.error().what);
      });
    }
    if (doubts_.contains(&path)) return settle_doubt(path);
    renew(path);
  });
}

void Reservations::admitted(Path& path, PathEvent event, const char* why) {
  *why == '\0' ? path.probed(event) : path.probed(event, why);
  finish();
}

void Reservations::renew(Path& path) {
  const scsi::PrOutParameters parameters{.key = key_, .service_action_key = key_, .aptpl = true};
  run(path, scsi::build::persistent_reserve_out(scsi::ReserveOut::register_key, std::nullopt),
      &parameters, [this, &path](Result<base::Bytes> result) noexcept {
        if (result.has_value()) return admitted(path, PathEvent::probe_passed);
        if (result.error().code == Errc::permission) return look_for_key(path);
        admitted(path, PathEvent::attempt_failed, result.error().what);
      });
}

void Reservations::look_for_key(Path& path) {
  read_keys(path, [this, &path](Result<scsi::ReportedKeys> keys) noexcept {
    if (!keys.has_value()) return admitted(path, PathEvent::attempt_failed, keys.error().what);
    if (!contains(*keys)) return admitted(path, PathEvent::key_missing);
    // It may be there by a nexus in doubt alone, and nobody can tell: that is no leave. A path that
    // carries I/O finds out by itself.
    const bool told = beyond_doubt(*keys);
    if (!told && any_path() == nullptr) return admitted(path, PathEvent::key_missing);
    if (!told) {
      return admitted(path, PathEvent::attempt_failed, "another path's registration is in doubt");
    }
    doubts_[&path] = keys->generation;
    const scsi::PrOutParameters parameters{.service_action_key = key_, .aptpl = true};
    run(path,
        scsi::build::persistent_reserve_out(scsi::ReserveOut::register_and_ignore, std::nullopt),
        &parameters, [this, &path](Result<base::Bytes> result) noexcept {
          if (!result.has_value()) {
            return admitted(path, PathEvent::attempt_failed, result.error().what);
          }
          settle_doubt(path);
        });
  });
}

// Its nexus was registered, or may have been. If nothing else has changed, nobody preempted us
// before that; else it is taken back, and the others tell.
void Reservations::settle_doubt(Path& path) {
  read_keys(path, [this, &path](Result<scsi::ReportedKeys> keys) noexcept {
    if (!keys.has_value()) return admitted(path, PathEvent::attempt_failed, keys.error().what);
    const bool alone = keys->generation - doubts_.at(&path) <= 1;
    if (contains(*keys) && !alone) return take_back(path);
    doubts_.erase(&path);
    contains(*keys) ? renew(path) : admitted(path, PathEvent::key_missing);
  });
}

void Reservations::take_back(Path& path) {
  const scsi::PrOutParameters parameters{.key = key_};
  run(path, scsi::build::persistent_reserve_out(scsi::ReserveOut::register_key, std::nullopt),
      &parameters, [this, &path](Result<base::Bytes> result) noexcept {
        // A conflict: it is not there.
        if (!result.has_value() && result.error().code != Errc::permission) {
          return admitted(path, PathEvent::attempt_failed, result.error().what);
        }
        doubts_.erase(&path);
        look_for_key(path);
      });
}

bool Reservations::contains(const scsi::ReportedKeys& keys) const {
  return std::ranges::find(keys.keys, key_) != keys.keys.end();
}

// Had somebody preempted us since, that and a registration of ours would be two changes.
bool Reservations::beyond_doubt(const scsi::ReportedKeys& keys) const {
  return std::ranges::all_of(
      doubts_, [&](const auto& doubt) { return keys.generation - doubt.second <= 1; });
}

// --- is it still there? ---

// Where it may be there by a nexus in doubt alone, the path's own nexus tells: REGISTER with the
// key conflicts without it.
void Reservations::ask_for_key(Path& path, Done done) {
  read_keys(path, [this, &path,
                   done = std::move(done)](Result<scsi::ReportedKeys> keys) mutable noexcept {
    const auto gone = base::fail(Errc::permission, "this node's key is gone");
    if (!keys.has_value()) return done(std::unexpected(keys.error()));
    if (!contains(*keys)) return done(gone);
    if (beyond_doubt(*keys)) return done({});
    const scsi::PrOutParameters parameters{.key = key_, .service_action_key = key_, .aptpl = true};
    run(path, scsi::build::persistent_reserve_out(scsi::ReserveOut::register_key, std::nullopt),
        &parameters, [gone, done = std::move(done)](Result<base::Bytes> result) mutable noexcept {
          if (result.has_value()) return done({});
          done(result.error().code == Errc::permission ? gone : std::unexpected(result.error()));
        });
  });
}

void Reservations::verify(Path& path) {
  if (key_ == 0) return;
  add([this, &path, session = path.session_number()]() mutable noexcept {
    if (path.session_number() != session || !in_service(path.state())) return finish();
    ask_for_key(path, [this, &path](Result<> there) noexcept {
      if (!there.has_value() && there.error().code == Errc::permission) key_is_gone(path);
      finish();
    });
  });
}

void Reservations::key_is_gone(Path& path) {
  LOG_WARNING(kLog, "path {}: the key {:016x} of this node is gone: no I/O until it is readmitted",
              path.settings().name, key_);
  path.apply(PathEvent::key_missing);
}

void Reservations::verify_key(Done done) {
  add([this, done = std::move(done)]() mutable noexcept {
    Path* path = any_path();
    if (path == nullptr || key_ == 0) {
      done(no_way(path));
      return finish();
    }
    ask_for_key(*path, [this, done = std::move(done)](Result<> there) mutable noexcept {
      if (!there.has_value() && there.error().code == Errc::permission) {
        for (const auto& each : device_.paths()) {
          if (in_service(each->state())) key_is_gone(*each);
        }
      }
      done(there);
      finish();
    });
  });
}

// --- the owner's calls ---

void Reservations::change(scsi::ReserveOut action, scsi::PrType type, uint64_t victim, Done done) {
  add([this, action, type, victim, done = std::move(done)]() mutable noexcept {
    Path* path = any_path();
    if (path == nullptr || key_ == 0) {
      done(no_way(path));
      return finish();
    }
    const bool typed = action != scsi::ReserveOut::clear;
    const scsi::PrOutParameters parameters{.key = key_, .service_action_key = victim};
    run(*path,
        scsi::build::persistent_reserve_out(action, typed ? std::optional(type) : std::nullopt),
        &parameters, [this, done = std::move(done)](Result<base::Bytes> answer) mutable noexcept {
          // Not repeated when the answer was lost: the owner reads the state and decides.
          done(answer.has_value() ? Result<>{} : std::unexpected(answer.error()));
          finish();
        });
  });
}

void Reservations::reserve(scsi::PrType type, Done done) {
  change(scsi::ReserveOut::reserve, type, 0, std::move(done));
}

void Reservations::preempt_and_abort(uint64_t victim, scsi::PrType type, Done done) {
  if (victim == key_) {
    // It would unregister every daemon of this node.
    loop_.post([done = std::move(done)]() mutable noexcept {
      done(base::fail(Errc::invalid_argument, "a node does not preempt its own key"));
    });
    return;
  }
  change(scsi::ReserveOut::preempt_and_abort, type, victim, std::move(done));
}

void Reservations::clear(Done done) {
  change(scsi::ReserveOut::clear, scsi::PrType::write_exclusive, 0, std::move(done));
}

void Reservations::read(GotState done) {
  add([this, done = std::move(done)]() mutable noexcept {
    Path* path = any_path();
    if (path == nullptr) {
      done(base::fail(Errc::closed, "no path is usable"));
      return finish();
    }
    run(*path, scsi::build::persistent_reserve_in(scsi::ReserveIn::read_keys, kReservationBytes),
        nullptr, [this, path, done = std::move(done)](Result<base::Bytes> answer) mutable noexcept {
          auto keys =
              answer.has_value() ? scsi::parse_read_keys(*answer) : std::unexpected(answer.error());
          if (!keys.has_value()) {
            done(std::unexpected(keys.error()));
            return finish();
          }
          run(*path, scsi::build::persistent_reserve_in(scsi::ReserveIn::read_reservation, 64),
              nullptr,
              [this, keys = std::move(*keys),
               done = std::move(done)](Result<base::Bytes> held_answer) mutable noexcept {
                const auto held = held_answer.has_value()
                                      ? scsi::parse_read_reservation(*held_answer)
                                      : std::unexpected(held_answer.error());
                if (!held.has_value()) {
                  done(std::unexpected(held.error()));
                } else if (held->generation != keys.generation) {
                  done(base::fail(Errc::busy, "the reservations changed while they were read"));
                } else {
                  io::ReservationState state{.generation = keys.generation,
                                             .keys = std::move(keys.keys)};
                  if (held->held.has_value()) {
                    state.type = static_cast<io::ReservationType>(held->held->type);
                    state.holder_key = held->held->key;
                  }
                  done(std::move(state));
                }
                finish();
              });
        });
  });
}

}  // namespace holdfast::mpio
