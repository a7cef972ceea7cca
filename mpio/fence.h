#pragma once
// Carries out the fence plan of one dead session that left writes of unknown fate: through
// surviving paths, until it is proved that none of them can land any more. docs/mpio.md, "The
// fence".
//
// Owner: Device, from the end of the session until finished().

#include <memory>
#include <string>

#include "initiator/session.h"
#include "mpio/fence_plan.h"
#include "mpio/ghosts.h"
#include "mpio/path.h"
#include "mpio/preemption.h"

namespace holdfast::mpio {

// A session that ended, and whose writes may still land.
struct DeadSession {
  std::string path;  // its name
  SessionId id;
  initiator::Session::Options login;         // with its ISID; through which portal does not matter
  std::optional<uint16_t> portal_group_tag;  // of its login; none: not known
  uint64_t key = 0;                          // that it registered for itself; 0: none
  io::Instant socket_reset_at{};             // since then our kernel sends nothing of it
};

class Fence;

class FenceOwner {
 public:
  virtual ~FenceOwner() = default;
  // A path in service to the same unit, preferably of this portal group; null: none.
  virtual Path* survivor(const DeadSession& dead) noexcept = 0;
  // The path of the fence need not wait for it: it is cleared, or only time or the path's own login
  // can clear it.
  virtual void on_fence_waits(Fence& fence) noexcept = 0;
  // Proved. The fence is destroyed once finished().
  virtual void on_fence_cleared(Fence& fence) noexcept = 0;
  virtual void on_fence_finished(Fence& fence) noexcept = 0;
  // Another fence has sent a reset, and waits for its answer: this one does so after it.
  virtual bool unit_is_being_reset(const Fence& by_others_than) noexcept = 0;
  virtual void on_unit_reset_over(const Fence& fence) noexcept = 0;
  // The unit is about to be reset, and has been.
  virtual void on_unit_reset() noexcept = 0;
  virtual void on_unit_reset_done() noexcept = 0;
  virtual Preemption::Keys preemption_keys(const DeadSession& dead, const Path& by) noexcept = 0;
  // Perhaps because of the survivor's own key, or the reservation.
  virtual void on_preempt_failed(Path& survivor) noexcept = 0;
};

class Fence final : public initiator::SessionEvents {
 public:
  Fence(const Path::Services& services, FenceOwner& owner, DeadSession dead,
        const FenceSituation& situation);
  Fence(const Fence&) = delete;
  Fence& operator=(const Fence&) = delete;
  ~Fence() override;

  void start();
  bool started() const { return started_; }
  // Paths have come or gone.
  void on_survivors_changed();
  // The dead session's own path has logged in with its ISID, to a portal of this group.
  void on_own_login(std::optional<uint16_t> portal_group_tag);
  // The path is about to use the ISID itself: no login of the fence may follow it.
  void cancel_login();
  // Another's reset is over.
  void on_reset_turn();
  bool resets() const { return reset_.busy() && !reset_given_up_ && !plan_.cleared(); }
  // The device ends: nothing is promised any more.
  void abandon();

  const std::string& path() const { return dead_.path; }
  const DeadSession& dead() const { return dead_; }
  SessionId session() const { return dead_.id; }
  std::optional<uint16_t> portal_group_tag() const { return dead_.portal_group_tag; }
  const FencePlan& plan() const { return plan_; }
  io::Instant since() const { return since_; }
  const char* failure() const { return failure_; }  // of the last step that failed; static text
  // Cleared or abandoned, and nothing of it is under way.
  bool finished() const {
    return (plan_.cleared() || abandoned_) && login_ == nullptr && !reset_.busy() &&
           !preemption_.busy();
  }

 private:
  void on_up() noexcept override;
  void on_ended(const initiator::SessionEnd& end) noexcept override;
  void on_timer() noexcept;
  void on_reset_done() noexcept;

  void take(FenceStep step);
  void begin(FenceStep step);
  void begin_reinstatement();
  void begin_unit_reset();
  void begin_preemption();
  void on_preempted(Path& survivor, FenceOutcome outcome, const char* why);
  void answer(FenceStep step, FenceOutcome outcome);
  void arm_timer();
  void check_finished();
  bool same_portal_group(const Path& survivor) const;
  std::string name() const;

  Path::Services services_;
  FenceOwner& owner_;
  const DeadSession dead_;
  io::Instant since_;
  FencePlan plan_;
  FenceStep begun_ = FenceStep::wait;  // what is under way
  bool started_ = false;
  const char* failure_ = "";
  bool told_waits_ = false;
  bool told_late_ = false;
  bool abandoned_ = false;
  bool told_finished_ = false;
  std::unique_ptr<initiator::Session> login_;
  bool login_was_up_ = false;
  initiator::TaskManagement reset_{[](initiator::TaskManagement& function) noexcept {
    static_cast<Fence*>(function.owner)->on_reset_done();
  }};
  initiator::Session* reset_session_ = nullptr;  // while reset_ is busy
  bool reset_given_up_ = false;                  // its step is, and may begin anew
  Preemption preemption_;
  io::TimerOf<Fence, &Fence::on_timer> timer_{*this};
};

}  // namespace holdfast::mpio
