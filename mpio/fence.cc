#include "mpio/fence.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/log.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "fence";

}  // namespace

Fence::Fence(const Path::Services& services, FenceOwner& owner, DeadSession dead,
             const FenceSituation& situation)
    : services_(services),
      owner_(owner),
      dead_(std::move(dead)),
      since_(services.loop.now()),
      plan_(situation, dead_.socket_reset_at, since_),
      preemption_(services.loop) {
  reset_.owner = this;
}

Fence::~Fence() {
  ASSERT(login_ == nullptr && !reset_.busy() && !preemption_.busy());
  services_.loop.stop(timer_);
}

// "path 10.1.0.10:3260, session 3"
std::string Fence::name() const {
  if (is_left_behind(dead_.id)) {
    return fmt::format("path {}, the session of an earlier process", dead_.path);
  }
  return fmt::format("path {}, session {}", dead_.path, dead_.id.incarnation);
}

void Fence::start() {
  started_ = true;
  LOG_INFO(kLog, "{}: its writes are of unknown fate: {}", name(), to_string(plan_.step()));
  take(plan_.step());
}

bool Fence::same_portal_group(const Path& survivor) const {
  return dead_.portal_group_tag.has_value() &&
         dead_.portal_group_tag == survivor.portal_group_tag();
}

void Fence::on_survivors_changed() {
  if (!started_ || plan_.cleared() || abandoned_) return;
  Path* survivor = owner_.survivor(dead_);
  take(plan_.on_survivor(survivor != nullptr, survivor != nullptr && same_portal_group(*survivor),
                         services_.loop.now()));
}

void Fence::on_own_login(std::optional<uint16_t> portal_group_tag) {
  if (!started_ || plan_.cleared() || abandoned_) return;
  // To another portal group, as after a redirection: another nexus (RFC 7143 4.2.2.1), no proof.
  if (!dead_.portal_group_tag || portal_group_tag != dead_.portal_group_tag) return;
  take(plan_.on_own_login(services_.loop.now()));
}

void Fence::cancel_login() {
  if (login_ != nullptr) login_->close(true, "the path logs in itself");
}

void Fence::abandon() {
  abandoned_ = true;
  services_.loop.stop(timer_);
  cancel_login();
  check_finished();
}

void Fence::on_timer() noexcept {
  if (plan_.cleared() || abandoned_) return;
  if (plan_.hold_until().has_value() && services_.loop.now() >= *plan_.hold_until() &&
      !std::exchange(told_late_, true)) {
    LOG_WARNING(
        kLog,
        "{}: its writes are still of unknown fate, and what overlaps them waits: the target, or "
        "the disk behind it, has not ended them (step {}; {})",
        name(), to_string(plan_.step()),
        owner_.survivor(dead_) == nullptr ? "no path reaches the target to ask it"
        : *failure_ == '\0'               ? "no answer yet"
                                          : failure_);
  }
  // What is under way is given up; its answer, should it come, is noted.
  cancel_login();
  if (resets()) {
    reset_given_up_ = true;
    failure_ = "the reset was not answered in time";
    owner_.on_unit_reset_over(*this);
  }
  take(plan_.on_time(services_.loop.now()));
}

void Fence::answer(FenceStep step, FenceOutcome outcome) {
  if (plan_.cleared() || abandoned_) return;
  take(plan_.on_answer(step, outcome, services_.loop.now()));
}

// The plan's word on what to do now.
void Fence::take(FenceStep step) {
  if (step == FenceStep::cleared) {
    services_.loop.stop(timer_);
    const auto took =
        std::chrono::duration_cast<std::chrono::milliseconds>(services_.loop.now() - since_);
    LOG_INFO(kLog, "{}: fenced after {} ms: {}", name(), took.count(), to_string(plan_.proof()));
    owner_.on_fence_cleared(*this);
    if (!std::exchange(told_waits_, true)) owner_.on_fence_waits(*this);
    check_finished();
    return;
  }
  arm_timer();
  if (step == FenceStep::wait) {
    begun_ = step;
    if (!std::exchange(told_waits_, true)) owner_.on_fence_waits(*this);
    return;
  }
  begin(step);
}

void Fence::arm_timer() {
  services_.loop.stop(timer_);
  if (const std::optional<io::Instant> deadline = plan_.deadline()) {
    services_.loop.start(timer_, *deadline - services_.loop.now());
  }
}

void Fence::begin(FenceStep step) {
  begun_ = step;
  if (step == FenceStep::reinstate) return begin_reinstatement();
  if (step == FenceStep::unit_reset) return begin_unit_reset();
  begin_preemption();
}

void Fence::check_finished() {
  if (finished() && !std::exchange(told_finished_, true)) owner_.on_fence_finished(*this);
}

// F1. The login stays until the plan says more: it is the session that ended the old one.
void Fence::begin_reinstatement() {
  if (login_ != nullptr) return;  // the one before has not ended; on_ended() goes on
  Path* survivor = owner_.survivor(dead_);
  if (survivor == nullptr) return answer(FenceStep::reinstate, FenceOutcome::failed);
  initiator::Session::Options options = dead_.login;
  options.portal = survivor->settings().session.portal;
  options.connect = survivor->settings().session.connect;
  if (const std::optional<io::Instant> deadline = plan_.deadline()) {
    options.login_timeout = *deadline - services_.loop.now();
  }
  login_was_up_ = false;
  login_ = std::make_unique<initiator::Session>(services_.loop, services_.network, services_.random,
                                                std::move(options), *this);
  login_->start();
}

void Fence::on_up() noexcept {
  login_was_up_ = true;
  const bool same_group =
      dead_.portal_group_tag && login_->portal_group_tag() == dead_.portal_group_tag;
  login_->logout();  // it has done what it was for; the path will use the ISID again
  if (!same_group) failure_ = "the login led to another portal group";
  answer(FenceStep::reinstate, same_group ? FenceOutcome::done : FenceOutcome::refused);
}

void Fence::on_ended(const initiator::SessionEnd& end) noexcept {
  const std::unique_ptr<initiator::Session> ended = std::move(login_);
  if (!login_was_up_) {
    failure_ = end.why;
    LOG_INFO(kLog, "{}: the login of its fence failed: {}", name(), failure_);
    // Class 3 is a target that cannot yet, as one that still drains. A redirection leads away from
    // the portal group.
    const bool refused =
        end.kind == initiator::EndKind::redirected ||
        end.kind == initiator::EndKind::login_failed ||
        (end.kind == initiator::EndKind::login_refused && iscsi::status_class(end.status) == 2);
    if (!plan_.cleared() && !abandoned_) {
      return answer(FenceStep::reinstate, refused ? FenceOutcome::refused : FenceOutcome::failed);
    }
  } else if (!plan_.cleared() && !abandoned_ && plan_.step() == FenceStep::reinstate) {
    return begin_reinstatement();
  }
  check_finished();
}

// F2.
void Fence::begin_unit_reset() {
  if (resets() || owner_.unit_is_being_reset(*this)) return;
  Path* survivor = owner_.survivor(dead_);
  if (survivor == nullptr) return answer(FenceStep::unit_reset, FenceOutcome::failed);
  // tgt answers only the last of several, be they of another host. The new one ends what the old
  // one did.
  if (reset_.busy()) reset_session_->forget(reset_);
  reset_given_up_ = false;
  reset_session_ = survivor->session();
  owner_.on_unit_reset();
  reset_.function = iscsi::TaskFunction::logical_unit_reset;
  reset_.lun = survivor->settings().lun;
  survivor->session()->manage(reset_);
}

void Fence::on_reset_turn() {
  if (plan_.cleared() || abandoned_ || plan_.step() != FenceStep::unit_reset) return;
  begin_unit_reset();
}

void Fence::on_reset_done() noexcept {
  owner_.on_unit_reset_over(*this);
  const bool done = reset_.answered && reset_.response == iscsi::TaskResponse::function_complete;
  if (done) owner_.on_unit_reset_done();
  if (!plan_.cleared() && !abandoned_) {
    // Any other answer may mean that the commands have not ended in time.
    using iscsi::TaskResponse;
    const bool refused =
        reset_.answered && (reset_.response == TaskResponse::lun_does_not_exist ||
                            reset_.response == TaskResponse::function_not_supported ||
                            reset_.response == TaskResponse::authorization_failed);
    if (!done) {
      failure_ = refused ? "the target refused the reset" : "the reset was not answered in time";
    }
    const FenceOutcome outcome = done      ? FenceOutcome::done
                                 : refused ? FenceOutcome::refused
                                           : FenceOutcome::failed;
    return answer(FenceStep::unit_reset, outcome);
  }
  check_finished();
}

// F3.
void Fence::begin_preemption() {
  if (preemption_.busy()) return;  // a target that drains has not answered the one before yet
  Path* survivor = owner_.survivor(dead_);
  if (survivor == nullptr) return answer(FenceStep::preempt, FenceOutcome::failed);
  preemption_.start(*survivor, owner_.preemption_keys(dead_, *survivor),
                    [this, survivor](FenceOutcome outcome, const char* why) noexcept {
                      on_preempted(*survivor, outcome, why);
                    });
}

void Fence::on_preempted(Path& survivor, FenceOutcome outcome, const char* why) {
  if (outcome != FenceOutcome::done) {
    failure_ = why;
    LOG_INFO(kLog, "{}: the preemption by path {}: {}", name(), survivor.settings().name, why);
  }
  if (outcome == FenceOutcome::failed) owner_.on_preempt_failed(survivor);
  if (!plan_.cleared() && !abandoned_) return answer(FenceStep::preempt, outcome);
  check_finished();
}

}  // namespace holdfast::mpio
