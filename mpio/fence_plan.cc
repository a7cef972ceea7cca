#include "mpio/fence_plan.h"

#include <algorithm>

namespace holdfast::mpio {

const char* to_string(FenceStep step) noexcept {
  constexpr std::array kNames = {"reinstate", "unit-reset", "preempt", "wait", "cleared"};
  return kNames[static_cast<size_t>(step)];
}

const char* to_string(FenceProof proof) noexcept {
  constexpr std::array kNames = {"none",
                                 "reinstated at a target that drains",
                                 "logical unit reset after the session had ended",
                                 "logical unit reset after the hold time",
                                 "preempted at a target that drains",
                                 "preempted, then a logical unit reset",
                                 "hold time"};
  return kNames[static_cast<size_t>(proof)];
}

FencePlan::FencePlan(const FenceSituation& situation, io::Instant socket_reset_at, io::Instant now)
    : situation_(situation) {
  if (situation.hold) hold_until_ = socket_reset_at + *situation.hold;
  go_on(now);
}

// The survivor is no way to do so.
bool FencePlan::cannot_end_session() const {
  return !old_session_ended_ && situation_.survivor &&
         (!situation_.same_portal_group || refuses(FenceStep::reinstate));
}

bool FencePlan::reset_allowed() const {
  return !situation_.in_cluster || situation_.unit_reset_in_cluster;
}

bool FencePlan::may_reset_unit(io::Instant now) const {
  const bool read_out =
      old_session_ended_ || kept_out_ || (cannot_end_session() && hold_until_ && !held(now));
  return read_out && situation_.target.unit_reset_waits != Known::no && reset_allowed();
}

// Where it is a proof, or makes a reset one at once.
bool FencePlan::may_preempt() const {
  if (situation_.in_cluster || !situation_.session_key || kept_out_) return false;
  const Known drains = situation_.target.preempt_drains;
  return drains == Known::yes ||
         (drains == Known::unknown && situation_.target.unit_reset_waits != Known::no);
}

// Whether a step, now or when there is a survivor again, will tell what time only promises.
bool FencePlan::may_prove() const {
  const TargetKnowledge& target = situation_.target;
  const bool login = target.drains_on_reinstatement == Known::yes && !refuses(FenceStep::reinstate);
  const bool reset =
      target.unit_reset_waits == Known::yes && !refuses(FenceStep::unit_reset) && reset_allowed();
  const bool preempt =
      may_preempt() && target.preempt_drains == Known::yes && !refuses(FenceStep::preempt);
  if (preempt) return true;
  if (!situation_.survivor) return login || reset;
  return old_session_ended_ || cannot_end_session() ? reset : login || reset;
}

FenceStep FencePlan::choose(io::Instant now) const {
  if (!situation_.survivor) return FenceStep::wait;
  // Also where it proves nothing yet: it ends the session with what the target has not read.
  if (!old_session_ended_ && situation_.same_portal_group && may_try(FenceStep::reinstate)) {
    return FenceStep::reinstate;
  }
  if (may_reset_unit(now) && may_try(FenceStep::unit_reset)) return FenceStep::unit_reset;
  if (may_preempt() && may_try(FenceStep::preempt)) return FenceStep::preempt;
  return FenceStep::wait;
}

FenceStep FencePlan::go_on(io::Instant now) {
  if (cleared()) return step_;
  if (old_session_ended_ && situation_.target.drains_on_reinstatement == Known::yes) {
    return clear(FenceProof::reinstated);
  }
  if (hold_until_ && !held(now) && !may_prove()) return clear(FenceProof::time);
  const FenceStep next = choose(now);
  if (next != step_ || !deadline_) begin(next, now);
  return step_;
}

void FencePlan::begin(FenceStep step, io::Instant now) {
  step_ = step;
  if (step != FenceStep::wait) {
    deadline_ = held(now) ? *hold_until_ : now + kFenceStepLimit;
    return;
  }
  // What failed may work later, unless the hold comes first.
  deadline_ = held(now) ? hold_until_ : std::nullopt;
  const bool failed = std::ranges::any_of(tries_, [](uint8_t tries) { return tries > 0; });
  if (failed && situation_.survivor) {
    const io::Instant again = now + kFenceRetry;
    deadline_ = held(now) ? std::min(*hold_until_, again) : again;
  }
}

FenceStep FencePlan::clear(FenceProof proof) {
  step_ = FenceStep::cleared;
  proof_ = proof;
  deadline_.reset();
  return step_;
}

FenceStep FencePlan::on_answer(FenceStep step, FenceOutcome outcome, io::Instant now) {
  if (cleared()) return step_;
  if (outcome == FenceOutcome::done) {
    // Facts, whatever the plan does meanwhile. It resets and preempts only where that is a proof.
    if (step == FenceStep::reinstate) old_session_ended_ = true;
    if (step == FenceStep::unit_reset && may_reset_unit(now)) {
      if (old_session_ended_) return clear(FenceProof::unit_reset);
      return clear(kept_out_ ? FenceProof::preempted_then_reset : FenceProof::late_reset);
    }
    if (step == FenceStep::preempt && may_preempt()) {
      kept_out_ = true;
      if (situation_.target.preempt_drains == Known::yes) return clear(FenceProof::preempted);
    }
  } else if (outcome == FenceOutcome::kept_out) {
    kept_out_ = true;
  } else if (step == step_ && step != FenceStep::wait) {
    ++tries_[index(step)];
    if (outcome == FenceOutcome::refused && !refuses(step)) ++refusals_[index(step)];
    deadline_.reset();  // a second try has a time of its own
  }
  return go_on(now);
}

FenceStep FencePlan::on_time(io::Instant now) {
  if (cleared() || !deadline_ || now < *deadline_) return step_;
  if (step_ == FenceStep::wait) {
    tries_ = {};
  } else {
    ++tries_[index(step_)];
  }
  deadline_.reset();
  return go_on(now);
}

FenceStep FencePlan::on_survivor(bool present, bool same_portal_group, io::Instant now) {
  situation_.survivor = present;
  situation_.same_portal_group = present && same_portal_group;
  if (present) tries_ = refusals_ = {};  // another path, another chance
  return go_on(now);
}

FenceStep FencePlan::on_own_login(io::Instant now) {
  old_session_ended_ = true;
  return go_on(now);
}

}  // namespace holdfast::mpio
