#include "mpio/preemption.h"

#include <algorithm>
#include <utility>

namespace holdfast::mpio {

using base::Errc;
using base::Result;

void Preemption::start(Path& survivor, const Keys& keys, Done done) {
  ASSERT(!busy());
  survivor_ = &survivor;
  keys_ = keys;
  done_ = std::move(done);
  if (!keys_.under_reservation) return preempt();
  client_.read_reservation(survivor, [this](Result<scsi::ReportedReservation> found) noexcept {
    if (!found.has_value()) return answer(FenceOutcome::failed, found.error().what);
    if (!found->held.has_value()) return reserve();
    if (found->held->type == kSessionReservation) return preempt();
    answer(FenceOutcome::failed, "the unit is reserved in another way");
  });
}

// Somebody took it away. What keeps the dead session out has to be there first.
void Preemption::reserve() {
  const scsi::PrOutParameters parameters{.key = keys_.own};
  client_.run(*survivor_,
              scsi::build::persistent_reserve_out(scsi::ReserveOut::reserve, kSessionReservation),
              &parameters, [this](Result<base::Bytes> result) noexcept {
                if (result.has_value()) return preempt();
                answer(FenceOutcome::failed, result.error().code == Errc::permission
                                                 ? "no reservation of ours is in force at the unit"
                                                 : result.error().what);
              });
}

void Preemption::preempt() {
  const scsi::PrOutParameters parameters{.key = keys_.own, .service_action_key = keys_.dead};
  client_.run(
      *survivor_,
      scsi::build::persistent_reserve_out(scsi::ReserveOut::preempt_and_abort, kSessionReservation),
      &parameters, [this](Result<base::Bytes> answer) noexcept { on_preempted(answer); },
      ReservationClient::Patience::any_time);
}

void Preemption::on_preempted(Result<base::Bytes> result) {
  if (result.has_value()) {
    return look(FenceOutcome::done, "the reservation went away while it preempted");
  }
  switch (result.error().code) {
    case Errc::permission:
      return find_keys();
    case Errc::unsupported:
      return answer(FenceOutcome::refused, "the target refuses PREEMPT AND ABORT");
    default:  // it may have been done, or half of it: then the key is gone at the next try
      return answer(FenceOutcome::failed, result.error().what);
  }
}

// A conflict: one of the two keys is not registered. When it is the dead session's, it was
// preempted before, perhaps by a command whose answer was lost, or its nexus has a new session and
// key, or the target has restarted. Whatever it was, nothing of the old session begins any more
// while a reservation is in force; that what had begun has ended is not said.
void Preemption::find_keys() {
  client_.read_keys(*survivor_, [this](Result<scsi::ReportedKeys> found) noexcept {
    if (!found.has_value()) return answer(FenceOutcome::failed, found.error().what);
    const auto has = [&](uint64_t key) { return std::ranges::count(found->keys, key) > 0; };
    if (!has(keys_.own)) {
      return answer(FenceOutcome::failed, "the key of the surviving path is gone");
    }
    if (has(keys_.dead)) {
      return answer(FenceOutcome::refused, "the target refuses to preempt a key that is there");
    }
    look(FenceOutcome::kept_out, "the key is gone, and no reservation of ours is in force");
  });
}

void Preemption::look(FenceOutcome then, const char* otherwise) {
  const char* why = then == FenceOutcome::kept_out
                        ? "the key was gone already: whether what had begun has ended is not known"
                        : "";
  if (!keys_.under_reservation) return answer(then, why);
  client_.read_reservation(
      *survivor_, [this, then, why, otherwise](Result<scsi::ReportedReservation> found) noexcept {
        if (!found.has_value()) return answer(FenceOutcome::failed, found.error().what);
        const bool held = found->held.has_value() && found->held->type == kSessionReservation;
        held ? answer(then, why) : answer(FenceOutcome::failed, otherwise);
      });
}

void Preemption::answer(FenceOutcome outcome, const char* why) {
  std::exchange(done_, nullptr)(outcome, why);
}

}  // namespace holdfast::mpio
