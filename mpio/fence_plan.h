#pragma once
// How to make sure that nothing of a dead session lands any more: docs/mpio.md, "The fence". Pure:
// the plan names the step to take, the driver takes it and says how it went. It says `cleared` only
// with a proof.

#include <array>
#include <cstdint>
#include <optional>

#include "common/io/loop.h"
#include "mpio/limits.h"
#include "mpio/target_table.h"

namespace holdfast::mpio {

enum class FenceStep : uint8_t {
  // F1: log in through a surviving portal with the dead session's ISID, TSIH 0, beginning in the
  // security stage (RFC 7143 6.3.5; tgt reinstates in no other). Until deadline(), which is the
  // fence's and not the login's: a target that drains answers only when it has.
  reinstate,
  // F2: LOGICAL UNIT RESET on a surviving session, once the old session has ended. Before, commands
  // that the target has not read yet would run after it. Where the old session cannot be ended
  // (another portal group), after the hold: the target has read by then what ever came to it.
  unit_reset,
  // F3: PREEMPT AND ABORT of the dead session's key, under a reservation of registrants only: what
  // the target has not read yet is kept out, and what it has is ended.
  preempt,
  wait,     // F4: until deadline(), or until something happens
  cleared,  // see proof()
};

enum class FenceOutcome : uint8_t {
  done,
  failed,   // no answer: it may still come to it
  refused,  // the target answered that it will not
  // Of a preempt: the key is not registered any more, under a reservation in force. Nothing of the
  // session begins any more, but whether what had begun has ended was told to nobody.
  kept_out,
};

enum class FenceProof : uint8_t {
  none,
  reinstated,            // by a target that drains
  unit_reset,            // after the session had ended
  late_reset,            // after the hold
  preempted,             // at a target that drains then
  preempted_then_reset,  // kept out by a preempt, then the unit reset
  time,  // the hold has gone by since the socket was reset, and nothing better can be had
};

const char* to_string(FenceStep step) noexcept;
const char* to_string(FenceProof proof) noexcept;

struct FenceSituation {
  bool survivor = false;  // a path in service to the same logical unit
  bool same_portal_group =
      false;  // its portal and the dead session's: tags from SendTargets or login
  TargetKnowledge target{};
  // The reservation key is the node's, not the session's: preempting it would unregister every
  // daemon of this node. And a reset aborts the commands of other nodes.
  bool in_cluster = false;
  bool unit_reset_in_cluster = false;  // the administrator allows it
  // The dead session registered a key of its own before it carried I/O. Whether a reservation is in
  // force, without which preempting keeps nothing out, is for the driver to see when it preempts.
  bool session_key = false;
  // After this no write of a dead session lands: the target's bound, as declared. It counts only
  // where no step can prove it: a target that drains says itself how long its storage hangs. None:
  // there is no such time, only a step clears.
  std::optional<io::Duration> hold = io::Duration(kDefaultGhostHold);
};

// Owner: the device; one per dead session that left ghosts.
class FencePlan {
 public:
  // `socket_reset_at`: since then our kernel sends nothing of the session.
  FencePlan(const FenceSituation& situation, io::Instant socket_reset_at, io::Instant now);

  FenceStep step() const { return step_; }
  FenceProof proof() const { return proof_; }
  bool cleared() const { return step_ == FenceStep::cleared; }
  std::optional<io::Instant> hold_until() const { return hold_until_; }
  // What the target has not read yet is kept out by the reservation alone.
  bool relies_on_reservation() const { return kept_out_ && !old_session_ended_; }
  // Call on_time() then; the current step is given up at this time.
  std::optional<io::Instant> deadline() const { return deadline_; }

  // Each answers the step to take now. An answer to another step than the current is only noted.
  FenceStep on_answer(FenceStep step, FenceOutcome outcome, io::Instant now);
  FenceStep on_time(io::Instant now);
  FenceStep on_survivor(bool present, bool same_portal_group, io::Instant now);
  // The dead session's path itself has logged in again with its ISID, which reinstates too.
  FenceStep on_own_login(io::Instant now);

 private:
  static size_t index(FenceStep step) { return static_cast<size_t>(step); }
  bool may_reset_unit(io::Instant now) const;
  bool held(io::Instant now) const { return hold_until_ && now < *hold_until_; }
  bool cannot_end_session() const;
  bool reset_allowed() const;
  bool may_preempt() const;
  bool may_try(FenceStep step) const { return tries_[index(step)] < kFenceTries; }
  // Once a step has been refused so often, what is known of the target does not count any more.
  bool refuses(FenceStep step) const { return refusals_[index(step)] >= kFenceTries; }
  bool may_prove() const;
  FenceStep choose(io::Instant now) const;
  FenceStep go_on(io::Instant now);
  void begin(FenceStep step, io::Instant now);
  FenceStep clear(FenceProof proof);

  FenceSituation situation_;
  std::optional<io::Instant> hold_until_;
  std::optional<io::Instant> deadline_;
  FenceStep step_ = FenceStep::wait;
  FenceProof proof_ = FenceProof::none;
  bool old_session_ended_ = false;
  bool kept_out_ = false;
  std::array<uint8_t, 5> tries_{};  // failures of each step
  std::array<uint8_t, 5> refusals_{};
};

}  // namespace holdfast::mpio
