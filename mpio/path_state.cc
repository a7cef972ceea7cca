#include "mpio/path_state.h"

#include <algorithm>

#include "common/base/assert.h"

namespace holdfast::mpio {
namespace {

using State = PathState;
using Event = PathEvent;
using Effect = PathEffect;

// Targets of the table beyond the states.
constexpr uint8_t kServe = 100;  // active, or marginal while in quarantine
constexpr uint8_t kRest = 101;   // where a path without a socket belongs: see resting_state()
constexpr uint8_t kNoRow = 255;

constexpr uint8_t to(State state) { return static_cast<uint8_t>(state); }

struct Row {
  State from;
  Event event;
  uint8_t target;
};

// clang-format off
constexpr Row kRows[] = {
    {State::down,         Event::enable,             kRest},
    {State::down,         Event::disable,            kRest},
    {State::down,         Event::evicted,            kRest},

    {State::connect,      Event::connected,          to(State::login)},
    {State::connect,      Event::timer,              to(State::failed)},
    {State::connect,      Event::attempt_failed,     to(State::failed)},
    {State::connect,      Event::refused,            to(State::failed)},
    {State::connect,      Event::lost,               to(State::failed)},
    {State::connect,      Event::link_down,          to(State::failed)},
    {State::connect,      Event::disable,            to(State::failed)},
    {State::connect,      Event::evicted,            to(State::failed)},

    {State::login,        Event::logged_in,          to(State::probe)},
    {State::login,        Event::timer,              to(State::failed)},
    {State::login,        Event::attempt_failed,     to(State::failed)},
    {State::login,        Event::refused,            to(State::failed)},
    {State::login,        Event::lost,               to(State::failed)},
    {State::login,        Event::link_down,          to(State::failed)},
    {State::login,        Event::disable,            to(State::failed)},
    {State::login,        Event::evicted,            to(State::failed)},

    {State::probe,        Event::probe_passed,       kServe},
    {State::probe,        Event::timer,              to(State::failed)},
    {State::probe,        Event::attempt_failed,     to(State::failed)},
    {State::probe,        Event::refused,            to(State::failed)},
    {State::probe,        Event::lost,               to(State::failed)},
    {State::probe,        Event::link_down,          to(State::failed)},
    {State::probe,        Event::identity_mismatch,  to(State::logout)},
    {State::probe,        Event::key_missing,        to(State::unregistered)},
    {State::probe,        Event::logout_requested,   to(State::failed)},
    {State::probe,        Event::disable,            to(State::failed)},
    {State::probe,        Event::evicted,            to(State::failed)},

    {State::active,       Event::suspected,          to(State::suspect)},
    {State::active,       Event::lost,               to(State::failed)},
    {State::active,       Event::went_marginal,      kServe},
    {State::active,       Event::logout_requested,   to(State::drain)},
    {State::active,       Event::identity_mismatch,  to(State::failed)},
    {State::active,       Event::key_missing,        to(State::unregistered)},
    {State::active,       Event::disable,            to(State::drain)},
    {State::active,       Event::evicted,            to(State::failed)},

    {State::marginal,     Event::suspected,          to(State::suspect)},
    {State::marginal,     Event::lost,               to(State::failed)},
    {State::marginal,     Event::went_healthy,       kServe},
    {State::marginal,     Event::logout_requested,   to(State::drain)},
    {State::marginal,     Event::identity_mismatch,  to(State::failed)},
    {State::marginal,     Event::key_missing,        to(State::unregistered)},
    {State::marginal,     Event::disable,            to(State::drain)},
    {State::marginal,     Event::evicted,            to(State::failed)},

    {State::suspect,      Event::progressed,         kServe},
    {State::suspect,      Event::lost,               to(State::failed)},
    {State::suspect,      Event::logout_requested,   to(State::drain)},
    {State::suspect,      Event::identity_mismatch,  to(State::failed)},
    {State::suspect,      Event::key_missing,        to(State::unregistered)},
    {State::suspect,      Event::disable,            to(State::drain)},
    {State::suspect,      Event::evicted,            to(State::failed)},

    {State::failed,       Event::closed,             kRest},
    {State::failed,       Event::closed_with_ghosts, to(State::fencing)},

    {State::fencing,      Event::fence_done,         kRest},
    {State::fencing,      Event::timer,              kRest},

    {State::backoff,      Event::timer,              to(State::connect)},
    {State::backoff,      Event::link_up,            to(State::connect)},
    {State::backoff,      Event::disable,            kRest},
    {State::backoff,      Event::evicted,            kRest},

    {State::drain,        Event::drained,            to(State::logout)},
    {State::drain,        Event::timer,              to(State::failed)},
    {State::drain,        Event::lost,               to(State::failed)},
    {State::drain,        Event::identity_mismatch,  to(State::failed)},
    {State::drain,        Event::evicted,            to(State::failed)},

    {State::logout,       Event::logged_out,         to(State::logout)},
    {State::logout,       Event::closed,             kRest},
    {State::logout,       Event::timer,              to(State::failed)},
    {State::logout,       Event::lost,               to(State::failed)},

    {State::disabled,     Event::enable,             kRest},
    {State::disabled,     Event::evicted,            kRest},

    {State::unregistered, Event::readmitted,         to(State::probe)},
    {State::unregistered, Event::lost,               to(State::failed)},
    {State::unregistered, Event::logout_requested,   to(State::drain)},
    {State::unregistered, Event::identity_mismatch,  to(State::failed)},
    {State::unregistered, Event::disable,            to(State::drain)},
    {State::unregistered, Event::evicted,            to(State::failed)},

    {State::rejected,     Event::enable,             kRest},
    {State::rejected,     Event::disable,            kRest},
    {State::rejected,     Event::evicted,            kRest},

    {State::fenced,       Event::readmitted,         kRest},
};
// clang-format on

using Table = std::array<std::array<uint8_t, kPathEvents>, kPathStates>;

constexpr Table make_table() {
  Table table{};
  for (auto& row : table) row.fill(kNoRow);
  for (const Row& row : kRows) {
    table[static_cast<size_t>(row.from)][static_cast<size_t>(row.event)] = row.target;
  }
  return table;
}
constexpr Table kTable = make_table();

constexpr bool is_answer(Event event) { return event <= Event::timer; }

// Without a socket and without a reason of its own to wait.
constexpr bool is_at_rest(State state) {
  return state == State::down || state == State::disabled || state == State::rejected ||
         state == State::fenced;
}

constexpr uint16_t bit(Effect effect) { return static_cast<uint16_t>(effect); }

// What entering a state asks for, besides its timer.
constexpr uint16_t entry_effects(State state) {
  switch (state) {
    case State::connect:
      return bit(Effect::start_connect);
    case State::login:
      return bit(Effect::start_login);
    case State::probe:
      return bit(Effect::start_probe);
    case State::active:
    case State::marginal:
      return bit(Effect::start_io);
    case State::suspect:
    case State::unregistered:
      return bit(Effect::stop_io);
    case State::failed:
      return bit(Effect::stop_io) | bit(Effect::reset_socket);
    case State::fencing:
      return bit(Effect::start_fence);
    case State::drain:
      return bit(Effect::stop_io) | bit(Effect::start_drain);
    case State::logout:
      return bit(Effect::send_logout);
    case State::down:
    case State::backoff:
    case State::disabled:
    case State::rejected:
    case State::fenced:
      return 0;
  }
  return 0;
}

constexpr std::array kStateNames = {
    "DOWN",    "CONNECT", "LOGIN", "PROBE",  "ACTIVE",   "MARGINAL",     "SUSPECT",  "FAILED",
    "FENCING", "BACKOFF", "DRAIN", "LOGOUT", "DISABLED", "UNREGISTERED", "REJECTED", "FENCED"};
static_assert(kStateNames.size() == kPathStates);

constexpr std::array kEventNames = {
    "connected",
    "logged in",
    "probe passed",
    "socket closed",
    "socket closed with writes outstanding",
    "fence done",
    "drained",
    "logged out",
    "time is up",
    "enabled",
    "disabled by the administrator",
    "attempt failed",
    "refused by the target",
    "another logical unit answers",
    "no progress",
    "progress",
    "connection lost",
    "worse than its siblings",
    "as good as its siblings",
    "logout asked for by the target",
    "link up",
    "link down",
    "reservation key is gone",
    "this node is fenced",
    "readmitted",
};
static_assert(kEventNames.size() == kPathEvents);

}  // namespace

const char* to_string(PathState state) noexcept { return kStateNames[static_cast<size_t>(state)]; }
const char* to_string(PathEvent event) noexcept { return kEventNames[static_cast<size_t>(event)]; }

PathMachine::PathMachine(const Profile& profile, base::Random& random, io::Instant now)
    : profile_(&profile), random_(&random), since_(now) {}

PathEffects PathMachine::step(PathEvent event, io::Instant now, const char* why) {
  note_wishes(event, why != nullptr ? why : to_string(event));
  const uint8_t target = kTable[static_cast<size_t>(state_)][static_cast<size_t>(event)];
  if (target == kNoRow) {
    ASSERT(!is_answer(event));  // an answer to what this state never asked
    return {};
  }
  // Told apart here, since both are one state to whoever looks: the logout, and the close after it.
  if (event == Event::logged_out) {
    PathEffects effects;
    effects.add(Effect::close_socket);
    return effects;
  }
  const PathState next = resolve(target);
  if (next == state_) return {};
  const bool left_fence_early = state_ == State::fencing && event == Event::timer;
  PathEffects effects = enter(next, now, why != nullptr ? why : to_string(event));
  if (left_fence_early) effects.add(Effect::cancel_fence);
  return effects;
}

// These hold whatever the state: an administrator's wish during a fence is not lost.
void PathMachine::note_wishes(PathEvent event, const char* why) {
  switch (event) {
    case Event::enable:
      disabled_ = false;
      rejected_ = false;
      attempts_ = 0;
      break;
    case Event::disable:
      disabled_ = true;
      disabled_why_ = why;
      break;
    case Event::identity_mismatch:
      rejected_ = true;
      rejected_why_ = why;
      break;
    case Event::evicted:
      evicted_ = true;
      evicted_why_ = why;
      break;
    case Event::readmitted:
      evicted_ = false;
      break;
    case Event::went_marginal:
      quarantined_ = true;
      break;
    case Event::went_healthy:
      quarantined_ = false;
      break;
    case Event::link_up:
      attempts_ = 0;
      break;
    case Event::refused:
      attempts_ = 32;  // beyond the longest back-off
      break;
    default:
      break;
  }
}

PathState PathMachine::resolve(uint8_t target) const {
  if (target == kServe) return quarantined_ ? State::marginal : State::active;
  if (target == kRest) return resting_state();
  return static_cast<PathState>(target);
}

PathState PathMachine::resting_state() const {
  if (evicted_) return State::fenced;
  if (rejected_) return State::rejected;
  if (disabled_) return State::disabled;
  return is_at_rest(state_) ? State::connect : State::backoff;
}

PathEffects PathMachine::enter(PathState next, io::Instant now, const char* why) {
  PathEffects effects;
  const PathState previous = state_;
  const bool served = in_service(previous);
  const bool serves = in_service(next);
  if (serves && !served) {
    in_service_since_ = now;
    effects.add(Effect::notify_up);
  }
  if (served && !serves) {
    ++failures_;
    if (now - in_service_since_ >= kStableService) attempts_ = 0;
    effects.add(Effect::notify_down);
  }
  const uint16_t entry = entry_effects(next);
  for (uint16_t one = 1; one != 0; one = static_cast<uint16_t>(one << 1)) {
    if ((entry & one) != 0) effects.add(static_cast<Effect>(one));
  }
  // It rests for what was wished or found, not for the close of its socket after that.
  if (next == State::fenced) why = evicted_why_;
  if (next == State::rejected) why = rejected_why_;
  if (next == State::disabled) why = disabled_why_;
  history_[history_next_] = {.at = now, .from = previous, .to = next, .why = why};
  history_next_ = (history_next_ + 1) % kPathHistory;
  history_count_ = std::min(history_count_ + 1, kPathHistory);
  state_ = next;
  since_ = now;
  // A path that waits after a failure says what failed, not that its socket was closed since.
  const bool failed = previous == State::failed || previous == State::fencing;
  if (!failed || (next != State::fencing && next != State::backoff)) reason_ = why;
  effects.timer = timer_of(next);
  effects.add(effects.timer > io::Duration{} ? Effect::arm_timer : Effect::stop_timer);
  return effects;
}

// None for a state that ends by itself: the detector watches a session in service, and the close of
// a socket needs nobody but our own kernel.
io::Duration PathMachine::timer_of(PathState state) {
  switch (state) {
    case State::connect:
      return profile_->connect;
    case State::login:
      return profile_->login;
    case State::probe:
      return profile_->probe;
    case State::fencing:
      return kFencingLimit;
    case State::backoff:
      return next_backoff();
    case State::drain:
      return kDrainLimit;
    case State::logout:
      return kLogoutLimit;
    default:
      return {};
  }
}

io::Duration PathMachine::next_backoff() {
  io::Duration wait = kFirstBackoff;
  for (uint32_t i = 0; i < attempts_ && wait < kLongestBackoff; ++i) wait *= 2;
  wait = std::min(wait, longest_backoff());
  ++attempts_;
  // In thousandths of the wait, from -spread to +spread.
  const uint64_t spread = uint64_t{kBackoffSpreadPercent} * 10;
  const auto shift =
      static_cast<int64_t>(random_->below(2 * spread + 1)) - static_cast<int64_t>(spread);
  return wait + wait * shift / 1000;
}

const PathTransition& PathMachine::history(size_t index) const {
  ASSERT(index < history_count_);
  return history_[(history_next_ + kPathHistory - 1 - index) % kPathHistory];
}

}  // namespace holdfast::mpio
