#include "mpio/session_keys.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "mpio/device.h"
#include "mpio/preemption.h"

namespace holdfast::mpio {
namespace {

using base::Errc;
using base::Result;
using scsi::ReserveOut;

constexpr const char* kLog = "mpio";
constexpr const char* kDone = "";

bool good(const char* why) { return *why == '\0'; }

}  // namespace

SessionKeys::SessionKeys(Device& device, io::Loop& loop, base::Random& random)
    : device_(device),
      loop_(loop),
      random_(random),
      keys_(device.options().paths.size()),
      client_(loop) {}

uint64_t SessionKeys::draw() {
  uint64_t low = 0;
  while (low == 0) low = random_.next() & 0xffff'ffff'ffff;
  return kSessionKeyPrefix << 48 | low;
}

uint64_t SessionKeys::key_of(const Path& path, uint64_t session) const {
  const Key& key = keys_[path.index()];
  return key.session == session ? key.key : 0;
}

bool SessionKeys::is_up(const Path& path, uint64_t session) const {
  return path.session_number() == session && path.session_up();
}

// --- a path that comes up ---

void SessionKeys::admit(Path& path) {
  client_.add([this, &path, session = path.session_number()]() noexcept {
    if (path.session_number() != session || path.state() != PathState::probe) {
      return client_.finish();
    }
    keys_[path.index()] = {.key = draw(), .session = session};
    take(path, [this, &path](const char* why) noexcept {
      if (!good(why)) {
        path.probed(PathEvent::attempt_failed, why);
        return client_.finish();
      }
      path.probed(PathEvent::probe_passed);
      client_.finish();
    });
  });
}

// With IGNORE EXISTING KEY: the nexus outlives our sessions, and with it the key of the one before,
// which the login of this one has ended.
void SessionKeys::take(Path& path, Then then) {
  const scsi::PrOutParameters parameters{.service_action_key = keys_[path.index()].key};
  client_.run(path,
              scsi::build::persistent_reserve_out(ReserveOut::register_and_ignore, std::nullopt),
              &parameters,
              [this, &path, then = std::move(then)](Result<base::Bytes> result) mutable noexcept {
                if (!result.has_value()) return then(result.error().what);
                const uint64_t isid = path.settings().session.login.isid;
                std::erase_if(kept_out_, [&](const KeptOut& each) {
                  return each.isid == isid && each.portal_group_tag.has_value() &&
                         each.portal_group_tag == path.portal_group_tag();
                });
                reserve(path, std::move(then));
              });
}

void SessionKeys::reserve(Path& path, Then then) {
  if (!device_.options().reserve_for_sessions) return then(kDone);
  const scsi::PrOutParameters parameters{.key = keys_[path.index()].key};
  client_.run(path, scsi::build::persistent_reserve_out(ReserveOut::reserve, kSessionReservation),
              &parameters,
              [this, &path, then = std::move(then)](Result<base::Bytes> result) mutable noexcept {
                in_force_ = result.has_value();
                if (result.has_value()) return then(kDone);
                if (result.error().code == Errc::permission) {
                  return explain_conflict(path, std::move(then));
                }
                then(result.error().what);
              });
}

// Somebody else has reserved the unit in another way. What we have registered goes: we do not stay.
void SessionKeys::explain_conflict(Path& path, Then then) {
  client_.read_reservation(path, [this, &path, then = std::move(then)](
                                     Result<scsi::ReportedReservation> found) mutable noexcept {
    if (!found.has_value()) return then(found.error().what);
    const bool ours = found->held.has_value() && found->held->type == kSessionReservation;
    in_force_ = ours;
    if (ours) return then(kDone);
    const char* why = found->held.has_value()
                          ? "the unit is reserved in another way: sessions with keys of their "
                            "own (session_keys) cannot use it beside that"
                          : "the unit's reservations are being changed by others";
    give_back(path, [why, then = std::move(then)](const char*) mutable noexcept { then(why); });
  });
}

void SessionKeys::give_back(Path& path, Then then) {
  const scsi::PrOutParameters parameters{.key = keys_[path.index()].key};
  client_.run(path, scsi::build::persistent_reserve_out(ReserveOut::register_key, std::nullopt),
              &parameters,
              [this, &path, then = std::move(then)](Result<base::Bytes> result) mutable noexcept {
                keys_[path.index()].key = 0;
                then(result.has_value() ? kDone : result.error().what);
              });
}

// --- is it still there? ---

void SessionKeys::verify(Path& path) {
  if (!verifying_.insert(&path).second) return;
  client_.add([this, &path, session = path.session_number()]() noexcept {
    verifying_.erase(&path);
    if (!is_up(path, session) || !in_service(path.state())) return client_.finish();
    const auto over = [this, &path](const char* why) noexcept {
      if (!good(why)) path.apply(PathEvent::lost, why);
      client_.finish();
    };
    client_.read_keys(path, [this, &path, over](Result<scsi::ReportedKeys> keys) noexcept {
      if (!keys.has_value()) return client_.finish();  // another time, or another session
      const bool registered = std::ranges::count(keys->keys, keys_[path.index()].key) > 0;
      if (!registered) {
        LOG_WARNING(kLog, "{}: path {}: its session's key is gone: it is registered anew",
                    path.settings().device, path.settings().name);
        return take(path, over);
      }
      client_.read_reservation(
          path, [this, &path, over](Result<scsi::ReportedReservation> found) noexcept {
            if (!found.has_value()) return client_.finish();
            in_force_ = found->held.has_value() && found->held->type == kSessionReservation;
            if (*in_force_) return client_.finish();
            LOG_WARNING(kLog, "{}: path {}: the reservation is gone: it is made anew",
                        path.settings().device, path.settings().name);
            reserve(path, over);
          });
    });
  });
}

// --- a path that leaves ---

void SessionKeys::keep_out(uint64_t isid, std::optional<uint16_t> portal_group_tag,
                           io::Instant until) {
  kept_out_.push_back({.isid = isid, .portal_group_tag = portal_group_tag, .until = until});
}

bool SessionKeys::must_stay() {
  const io::Instant now = loop_.now();
  std::erase_if(kept_out_, [now](const KeptOut& each) { return each.until <= now; });
  return !kept_out_.empty();
}

void SessionKeys::leave(Path& path) {
  const uint64_t session = path.session_number();
  if (key_of(path, session) == 0) return path.log_out();
  client_.add([this, &path, session]() noexcept {
    const auto over = [this, &path, session](const char* why) noexcept {
      if (!good(why)) {
        left_behind_.insert(path.settings().session.login.isid);
        LOG_INFO(kLog, "{}: path {}: its key stays at the unit: {}", path.settings().device,
                 path.settings().name, why);
      }
      if (path.session_number() == session) path.log_out();
      client_.finish();
    };
    if (!is_up(path, session)) return over("the session has ended");
    if (must_stay()) {
      return over("it keeps out what a dead session may have left; the next start removes it");
    }
    sweep(path, [this, &path, over](const char*) mutable noexcept { give_back(path, over); });
  });
}

// --- keys without a session ---

void SessionKeys::remove_orphans() {
  client_.add([this]() noexcept {
    for (const auto& path : device_.paths()) {
      if (!path->carries_io() || key_of(*path, path->session_number()) == 0) continue;
      return sweep(*path, [this](const char*) noexcept { client_.finish(); });
    }
    client_.finish();
  });
}

// A target that cannot say whose keys it has keeps one for each of our nexuses: no more.
void SessionKeys::sweep(Path& path, Then then) {
  client_.run(
      path, scsi::build::persistent_reserve_in(scsi::ReserveIn::full_status, kReservationBytes),
      nullptr, [this, &path, then = std::move(then)](Result<base::Bytes> answer) mutable noexcept {
        const auto found =
            answer.has_value() ? scsi::parse_full_status(*answer) : std::unexpected(answer.error());
        if (!found.has_value()) return then(found.error().what);
        std::vector<uint64_t> keys;
        for (const scsi::FullStatusEntry& entry : found->entries) {
          if (is_orphan(entry)) keys.push_back(entry.key);
        }
        remove(path, std::move(keys), std::move(then));
      });
}

void SessionKeys::remove(Path& path, std::vector<uint64_t> keys, Then then) {
  if (keys.empty()) return then(kDone);
  const scsi::PrOutParameters parameters{.key = keys_[path.index()].key,
                                         .service_action_key = keys.back()};
  keys.pop_back();
  client_.run(path, scsi::build::persistent_reserve_out(ReserveOut::preempt, kSessionReservation),
              &parameters,
              [this, &path, keys = std::move(keys),
               then = std::move(then)](Result<base::Bytes> result) mutable noexcept {
                const bool gone = result.has_value() || result.error().code == Errc::permission;
                gone ? remove(path, std::move(keys), std::move(then)) : then(result.error().what);
              });
}

// Of a session of ours that has ended, and of which nothing can land any more.
bool SessionKeys::is_orphan(const scsi::FullStatusEntry& entry) const {
  if (!is_session_key(entry.key) || !entry.initiator.has_value() ||
      !entry.initiator->isid.has_value()) {
    return false;
  }
  for (const auto& path : device_.paths()) {  // a session that lives, or comes up just now
    if (key_of(*path, path->session_number()) == entry.key && path->session() != nullptr) {
      return false;
    }
  }
  return device_.has_nothing_left(entry.initiator->initiator_name, *entry.initiator->isid);
}

}  // namespace holdfast::mpio
