#include "mpio/path_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace holdfast::mpio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using State = PathState;
using Event = PathEvent;
using Effect = PathEffect;

class PathMachineTest : public testing::Test {
 protected:
  PathEffects step(Event event) { return last_ = machine_.step(event, now_); }
  State after(std::initializer_list<Event> events) {
    for (const Event event : events) step(event);
    return machine_.state();
  }
  void bring_up() {
    ASSERT_EQ(after({Event::enable, Event::connected, Event::logged_in, Event::probe_passed}),
              State::active);
  }
  bool asked(Effect effect) const { return last_.has(effect); }

  base::SeededRandom random_{7};
  io::Instant now_ = io::Instant{} + seconds(100);
  PathMachine machine_{kLan, random_, now_};
  PathEffects last_;
};

TEST_F(PathMachineTest, ComesUpStepByStepEachWithItsTimer) {
  EXPECT_EQ(machine_.state(), State::down);
  step(Event::enable);
  EXPECT_EQ(machine_.state(), State::connect);
  EXPECT_TRUE(asked(Effect::start_connect));
  EXPECT_EQ(last_.timer, kLan.connect);
  step(Event::connected);
  EXPECT_EQ(machine_.state(), State::login);
  EXPECT_TRUE(asked(Effect::start_login));
  EXPECT_EQ(last_.timer, kLan.login);
  step(Event::logged_in);
  EXPECT_EQ(machine_.state(), State::probe);
  EXPECT_TRUE(asked(Effect::start_probe));
  EXPECT_FALSE(asked(Effect::start_io)) << "no I/O before identity and registration are known";
  step(Event::probe_passed);
  EXPECT_EQ(machine_.state(), State::active);
  EXPECT_TRUE(asked(Effect::start_io));
  EXPECT_TRUE(asked(Effect::notify_up));
  EXPECT_TRUE(asked(Effect::stop_timer)) << "the detector watches now";
}

TEST_F(PathMachineTest, FailsFencesWaitsAndReturns) {
  bring_up();
  now_ += seconds(20);
  step(Event::suspected);
  EXPECT_EQ(machine_.state(), State::suspect);
  EXPECT_TRUE(asked(Effect::stop_io));
  EXPECT_FALSE(asked(Effect::notify_down)) << "suspect is still in service";
  step(Event::lost);
  EXPECT_EQ(machine_.state(), State::failed);
  EXPECT_TRUE(asked(Effect::reset_socket));
  EXPECT_TRUE(asked(Effect::notify_down));
  step(Event::closed_with_ghosts);
  EXPECT_EQ(machine_.state(), State::fencing);
  EXPECT_TRUE(asked(Effect::start_fence));
  EXPECT_EQ(last_.timer, io::Duration(kFencingLimit));
  step(Event::fence_done);
  EXPECT_EQ(machine_.state(), State::backoff);
  step(Event::timer);
  EXPECT_EQ(machine_.state(), State::connect);
  EXPECT_EQ(machine_.failures(), 1u);
}

TEST_F(PathMachineTest, WithoutGhostsThereIsNoFence) {
  bring_up();
  EXPECT_EQ(after({Event::lost, Event::closed}), State::backoff);
}

TEST_F(PathMachineTest, AFenceThatNeverAnswersIsCancelledBeforeThePathLogsIn) {
  bring_up();
  after({Event::lost, Event::closed_with_ghosts, Event::timer});
  EXPECT_EQ(machine_.state(), State::backoff);
  EXPECT_TRUE(asked(Effect::cancel_fence)) << "both would use the same ISID";
}

TEST_F(PathMachineTest, ProgressEndsSuspicion) {
  bring_up();
  EXPECT_EQ(after({Event::suspected, Event::progressed}), State::active);
  EXPECT_TRUE(asked(Effect::start_io));
  EXPECT_FALSE(asked(Effect::notify_up)) << "it was never away";
}

TEST_F(PathMachineTest, BackoffDoublesToItsBoundWithinTheSpread) {
  bring_up();
  after({Event::lost, Event::closed});
  io::Duration nominal = kFirstBackoff;
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(machine_.state(), State::backoff);
    EXPECT_GE(last_.timer, nominal * (100 - kBackoffSpreadPercent) / 100) << i;
    EXPECT_LE(last_.timer, nominal * (100 + kBackoffSpreadPercent) / 100) << i;
    nominal = std::min<io::Duration>(nominal * 2, kLongestBackoff);
    after({Event::timer, Event::attempt_failed, Event::closed});
  }
}

TEST_F(PathMachineTest, BackoffIsShortWhileNoPathIsUsable) {
  machine_.set_urgent(true);
  bring_up();
  after({Event::lost, Event::closed});
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(machine_.state(), State::backoff);
    EXPECT_LE(last_.timer, io::Duration(kUrgentBackoff) * (100 + kBackoffSpreadPercent) / 100) << i;
    after({Event::timer, Event::attempt_failed, Event::closed});
  }
  machine_.set_urgent(false);
  after({Event::timer, Event::attempt_failed, Event::closed});
  EXPECT_GE(last_.timer, kLongestBackoff * (100 - kBackoffSpreadPercent) / 100);
}

TEST_F(PathMachineTest, BackoffsOfSeveralHostsDiffer) {
  base::SeededRandom other_random{8};
  PathMachine other(kLan, other_random, now_);
  std::vector<io::Duration> waits;
  for (PathMachine* machine : {&machine_, &other}) {
    machine->step(Event::enable, now_);
    machine->step(Event::attempt_failed, now_);
    waits.push_back(machine->step(Event::closed, now_).timer);
  }
  EXPECT_NE(waits[0], waits[1]);
}

TEST_F(PathMachineTest, LinkUpConnectsAtOnceAndForgetsTheBackoff) {
  after({Event::enable, Event::attempt_failed, Event::closed});
  for (int i = 0; i < 6; ++i) after({Event::timer, Event::attempt_failed, Event::closed});
  EXPECT_GT(last_.timer, seconds(5));
  EXPECT_EQ(after({Event::link_up}), State::connect);
  after({Event::attempt_failed, Event::closed});
  EXPECT_LE(last_.timer, milliseconds(300));
}

TEST_F(PathMachineTest, StableServiceForgetsTheBackoffAndShortServiceDoesNot) {
  after({Event::enable, Event::attempt_failed, Event::closed});
  for (int i = 0; i < 4; ++i) after({Event::timer, Event::attempt_failed, Event::closed});
  after({Event::timer, Event::connected, Event::logged_in, Event::probe_passed});
  now_ += seconds(1);
  after({Event::lost, Event::closed});
  EXPECT_GT(last_.timer, seconds(5)) << "a path that flaps is not tried four times a second";
  after({Event::timer, Event::connected, Event::logged_in, Event::probe_passed});
  now_ += kStableService;
  after({Event::lost, Event::closed});
  EXPECT_LE(last_.timer, milliseconds(300));
}

TEST_F(PathMachineTest, ARefusalGetsTheLongBackoffAtOnce) {
  after({Event::enable, Event::connected, Event::refused, Event::closed});
  EXPECT_EQ(machine_.state(), State::backoff);
  EXPECT_GE(last_.timer, seconds(8));
}

TEST_F(PathMachineTest, EveryPhaseOfComingUpCanTimeOut) {
  EXPECT_EQ(after({Event::enable, Event::timer}), State::failed);
  EXPECT_EQ(after({Event::closed, Event::timer, Event::connected, Event::timer}), State::failed);
  EXPECT_EQ(after({Event::closed, Event::timer, Event::connected, Event::logged_in, Event::timer}),
            State::failed);
}

TEST_F(PathMachineTest, DisableDrainsLogsOutAndStays) {
  bring_up();
  step(Event::disable);
  EXPECT_EQ(machine_.state(), State::drain);
  EXPECT_TRUE(asked(Effect::stop_io) && asked(Effect::start_drain));
  EXPECT_EQ(last_.timer, io::Duration(kDrainLimit));
  step(Event::drained);
  EXPECT_EQ(machine_.state(), State::logout);
  EXPECT_TRUE(asked(Effect::send_logout));
  step(Event::logged_out);
  EXPECT_TRUE(asked(Effect::close_socket));
  EXPECT_EQ(after({Event::closed}), State::disabled);
  EXPECT_EQ(after({Event::link_up}), State::disabled);
  EXPECT_EQ(after({Event::enable}), State::connect);
}

TEST_F(PathMachineTest, ADrainThatDoesNotEndIsFencedAndStillEndsDisabled) {
  bring_up();
  EXPECT_EQ(after({Event::disable, Event::timer}), State::failed);
  EXPECT_TRUE(asked(Effect::reset_socket));
  EXPECT_EQ(after({Event::closed_with_ghosts, Event::fence_done}), State::disabled);
}

TEST_F(PathMachineTest, WishesDuringAFenceAreKept) {
  bring_up();
  EXPECT_EQ(after({Event::lost, Event::closed_with_ghosts, Event::disable}), State::fencing);
  EXPECT_EQ(after({Event::enable, Event::disable, Event::fence_done}), State::disabled);
}

TEST_F(PathMachineTest, ALogoutTheTargetAskedForReconnects) {
  bring_up();
  EXPECT_EQ(after({Event::logout_requested, Event::drained, Event::logged_out, Event::closed}),
            State::backoff);
}

TEST_F(PathMachineTest, AnotherLogicalUnitIsRejectedUntilTheAdministratorActs) {
  after({Event::enable, Event::connected, Event::logged_in, Event::identity_mismatch});
  EXPECT_EQ(machine_.state(), State::logout);
  EXPECT_EQ(after({Event::logged_out, Event::closed}), State::rejected);
  EXPECT_STREQ(machine_.reason(), to_string(Event::identity_mismatch));  // not the close
  EXPECT_EQ(after({Event::link_up, Event::readmitted}), State::rejected);
  EXPECT_EQ(after({Event::enable}), State::connect);
}

TEST_F(PathMachineTest, AnIdentityThatChangesUnderIoResetsThePathAtOnce) {
  bring_up();
  step(Event::identity_mismatch);
  EXPECT_EQ(machine_.state(), State::failed);
  EXPECT_TRUE(asked(Effect::reset_socket)) << "writes must not go to another disk";
  EXPECT_EQ(after({Event::closed}), State::rejected);
}

TEST_F(PathMachineTest, AMissingKeyStopsIoUntilReadmitted) {
  bring_up();
  step(Event::key_missing);
  EXPECT_EQ(machine_.state(), State::unregistered);
  EXPECT_TRUE(asked(Effect::stop_io));
  EXPECT_TRUE(asked(Effect::notify_down));
  EXPECT_EQ(after({Event::progressed, Event::link_up, Event::enable, Event::went_healthy}),
            State::unregistered)
      << "never by itself";
  step(Event::readmitted);
  EXPECT_EQ(machine_.state(), State::probe);
  EXPECT_TRUE(asked(Effect::start_probe));
}

TEST_F(PathMachineTest, AMissingKeyIsFoundAgainAfterAReconnect) {
  bring_up();
  after({Event::key_missing, Event::lost, Event::closed, Event::timer, Event::connected,
         Event::logged_in});
  EXPECT_EQ(machine_.state(), State::probe);
  EXPECT_EQ(after({Event::key_missing}), State::unregistered);
}

TEST_F(PathMachineTest, AnEvictedNodeResetsItsPathsAndOnlyTheOwnerReadmits) {
  bring_up();
  step(Event::evicted);
  EXPECT_TRUE(asked(Effect::reset_socket));
  EXPECT_EQ(after({Event::closed_with_ghosts, Event::fence_done}), State::fenced);
  EXPECT_EQ(after({Event::enable, Event::link_up, Event::disable, Event::enable}), State::fenced);
  EXPECT_EQ(after({Event::readmitted}), State::connect);
}

TEST_F(PathMachineTest, EvictionFindsAPathInEveryState) {
  for (const bool disabled : {false, true}) {
    PathMachine machine(kLan, random_, now_);
    machine.step(Event::enable, now_);
    machine.step(Event::attempt_failed, now_);
    if (disabled) machine.step(Event::disable, now_);
    machine.step(Event::closed, now_);
    EXPECT_EQ(machine.state(), disabled ? State::disabled : State::backoff);
    machine.step(Event::evicted, now_);
    EXPECT_EQ(machine.state(), State::fenced);
    machine.step(Event::readmitted, now_);
    EXPECT_EQ(machine.state(), disabled ? State::disabled : State::connect)
        << "the administrator's wish outlives the eviction";
  }
}

TEST_F(PathMachineTest, QuarantineOutlivesTheSession) {
  bring_up();
  EXPECT_EQ(after({Event::went_marginal}), State::marginal);
  EXPECT_FALSE(asked(Effect::notify_down));
  EXPECT_EQ(after({Event::suspected, Event::progressed}), State::marginal);
  after({Event::lost, Event::closed, Event::timer, Event::connected, Event::logged_in});
  EXPECT_EQ(after({Event::probe_passed}), State::marginal);
  EXPECT_EQ(after({Event::went_healthy}), State::active);
}

TEST_F(PathMachineTest, EveryStateHasAReasonAndASince) {
  now_ += seconds(3);
  machine_.step(Event::enable, now_);
  EXPECT_EQ(machine_.since(), now_);
  EXPECT_STREQ(machine_.reason(), "enabled");
  machine_.step(Event::attempt_failed, now_ + seconds(1), "connection refused");
  EXPECT_STREQ(machine_.reason(), "connection refused");
  EXPECT_EQ(machine_.history(0).at, now_ + seconds(1));
  EXPECT_EQ(machine_.history(0).from, State::connect);
  EXPECT_EQ(machine_.history(1).from, State::down);
  EXPECT_EQ(machine_.history_count(), 2u);
}

TEST_F(PathMachineTest, AfterAFailureTheReasonIsWhatFailed) {
  bring_up();
  machine_.step(Event::lost, now_, "connection reset");
  for (const Event event : {Event::closed_with_ghosts, Event::fence_done}) {
    machine_.step(event, now_);
    EXPECT_STREQ(machine_.reason(), "connection reset");
  }
  EXPECT_EQ(machine_.state(), State::backoff);
  machine_.step(Event::disable, now_);
  EXPECT_EQ(machine_.state(), State::disabled);
  EXPECT_STRNE(machine_.reason(), "connection reset");
}

TEST_F(PathMachineTest, TheTimeLineKeepsTheLatest) {
  bring_up();
  for (size_t i = 0; i < kPathHistory; ++i) after({Event::suspected, Event::progressed});
  EXPECT_EQ(machine_.history_count(), kPathHistory);
  EXPECT_EQ(machine_.history(0).to, State::active);
  EXPECT_EQ(machine_.history(kPathHistory - 1).to, State::suspect);
}

TEST(PathMachineDeathTest, AnAnswerNobodyAskedForIsOurBug) {
  base::SeededRandom random{1};
  PathMachine machine(kLan, random, io::Instant{});
  EXPECT_DEATH(machine.step(Event::connected, io::Instant{}), "is_answer");
}

TEST(PathMachineNames, AreDistinct) {
  std::vector<std::string> names;
  for (size_t i = 0; i < kPathStates; ++i) names.emplace_back(to_string(static_cast<State>(i)));
  for (size_t i = 0; i < kPathEvents; ++i) names.emplace_back(to_string(static_cast<Event>(i)));
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
}

// A driver that answers what it was asked, and a world that does anything at any time.
class RandomWalk {
 public:
  explicit RandomWalk(uint64_t seed) : random_(seed), machine_(kLan, random_, now_) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      now_ += milliseconds(random_.below(3000));
      const auto count =
          static_cast<uint64_t>(Event::readmitted) - static_cast<uint64_t>(Event::timer);
      if (random_.below(6) == 0) {
        step(static_cast<Event>(static_cast<uint64_t>(Event::timer) + 1 + random_.below(count)));
      } else {
        answer();
      }
      check();
    }
  }
  int services() const { return services_; }

 private:
  void step(Event event) {
    const PathEffects effects = machine_.step(event, now_);
    if (effects.has(Effect::arm_timer)) timer_ = true;
    if (effects.has(Effect::stop_timer)) timer_ = false;
    if (effects.has(Effect::start_connect)) {
      EXPECT_FALSE(socket_) << "two sockets";
      EXPECT_FALSE(fencing_) << "the fence may be using the ISID";
      socket_ = true;
    }
    if (effects.has(Effect::reset_socket)) {
      EXPECT_TRUE(socket_);
      io_ = false;
    }
    if (effects.has(Effect::start_fence)) {
      EXPECT_FALSE(socket_) << "fenced before the old socket was gone";
      fencing_ = true;
    }
    if (effects.has(Effect::cancel_fence)) fencing_ = false;
    if (effects.has(Effect::stop_io)) io_ = false;
    if (effects.has(Effect::start_io)) io_ = true, ++services_;
  }
  void answer() {
    if (timer_ && random_.below(5) == 0) {
      timer_ = false;
      return step(Event::timer);
    }
    switch (machine_.state()) {
      case State::connect:
        return step(Event::connected);
      case State::login:
        return step(Event::logged_in);
      case State::probe:
        return step(Event::probe_passed);
      case State::failed:
        socket_ = false;
        return step(random_.below(2) == 0 ? Event::closed : Event::closed_with_ghosts);
      case State::fencing:
        fencing_ = false;
        return step(Event::fence_done);
      case State::drain:
        return step(Event::drained);
      case State::logout:
        if (random_.below(2) == 0) return step(Event::logged_out);
        socket_ = false;
        return step(Event::closed);
      case State::backoff:
        timer_ = false;
        return step(Event::timer);
      case State::fenced:
      case State::unregistered:
        return step(Event::readmitted);
      case State::down:
      case State::disabled:
      case State::rejected:
        return step(Event::enable);
      default:
        return;
    }
  }
  void check() const {
    const State state = machine_.state();
    EXPECT_EQ(io_, state == State::active || state == State::marginal) << to_string(state);
    const bool waits = state == State::connect || state == State::login || state == State::probe ||
                       state == State::fencing || state == State::backoff ||
                       state == State::drain || state == State::logout;
    EXPECT_EQ(timer_, waits) << to_string(state) << ": a wait without a deadline, or the reverse";
    if (state == State::disabled || state == State::fenced || state == State::rejected ||
        state == State::backoff || state == State::down) {
      EXPECT_FALSE(socket_) << to_string(state);
    }
  }

  base::SeededRandom random_;
  io::Instant now_ = io::Instant{} + seconds(1);
  PathMachine machine_;
  bool socket_ = false;
  bool fencing_ = false;
  bool io_ = false;
  bool timer_ = false;
  int services_ = 0;
};

TEST(PathMachineWalk, NothingTheWorldDoesBreaksTheOrder) {
  int services = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    RandomWalk walk(seed);
    walk.run(500);
    services += walk.services();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(services, 1000) << "the walk must come into service often to say anything";
}

}  // namespace
}  // namespace holdfast::mpio
