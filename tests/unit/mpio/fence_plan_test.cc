#include "mpio/fence_plan.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/base/random.h"

namespace holdfast::mpio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Step = FenceStep;

const io::Instant kReset = io::Instant{} + seconds(100);
const io::Instant kStart = kReset + milliseconds(5);
const TargetKnowledge kDrains{.drains_on_reinstatement = Known::yes,
                              .unit_reset_waits = Known::yes,
                              .preempt_drains = Known::yes};
const TargetKnowledge kTgt{.drains_on_reinstatement = Known::no,
                           .unit_reset_waits = Known::yes,
                           .preempt_drains = Known::no};

FenceSituation survivor_in_group(TargetKnowledge target) {
  return {.survivor = true, .same_portal_group = true, .target = target};
}

TEST(FencePlan, ADrainingTargetIsClearedByReinstatement) {
  FencePlan plan(survivor_in_group(kDrains), kReset, kStart);
  EXPECT_EQ(plan.step(), Step::reinstate);
  EXPECT_EQ(plan.deadline(), kReset + io::Duration(kDefaultGhostHold)) << "it may have to drain";
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::done, kStart), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::reinstated);
}

TEST(FencePlan, TgtNeedsTheResetToo) {
  FencePlan plan(survivor_in_group(kTgt), kReset, kStart);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::done, kStart), Step::unit_reset);
  EXPECT_FALSE(plan.cleared());
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::done, kStart), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::unit_reset);
}

TEST(FencePlan, AnUnknownTargetIsTreatedAsOneThatDoesNotDrain) {
  FencePlan plan(survivor_in_group({}), kReset, kStart);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::done, kStart), Step::unit_reset);
}

TEST(FencePlan, InAClusterTheResetIsTheAdministratorsDecision) {
  FenceSituation situation = survivor_in_group(kTgt);
  situation.in_cluster = true;
  FencePlan without(situation, kReset, kStart);
  EXPECT_EQ(without.on_answer(Step::reinstate, FenceOutcome::done, kStart), Step::wait);
  situation.unit_reset_in_cluster = true;
  FencePlan with(situation, kReset, kStart);
  EXPECT_EQ(with.on_answer(Step::reinstate, FenceOutcome::done, kStart), Step::unit_reset);
}

TEST(FencePlan, InAClusterTheOwnKeyIsNeverPreempted) {
  FenceSituation situation{
      .survivor = true, .same_portal_group = false, .target = kDrains, .session_key = true};
  EXPECT_EQ(FencePlan(situation, kReset, kStart).step(), Step::preempt);
  situation.in_cluster = true;
  EXPECT_EQ(FencePlan(situation, kReset, kStart).step(), Step::wait);
}

FenceSituation keyed(TargetKnowledge target) {
  return {.survivor = true, .same_portal_group = false, .target = target, .session_key = true};
}

TEST(FencePlan, AnotherPortalGroupPreemptsTheSessionsKeyAtOnce) {
  FencePlan plan(keyed(kDrains), kReset, kStart);
  EXPECT_EQ(plan.step(), Step::preempt);
  EXPECT_EQ(plan.deadline(), plan.hold_until()) << "it may have to drain";
  EXPECT_EQ(plan.on_answer(Step::preempt, FenceOutcome::done, kStart), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::preempted);
  EXPECT_TRUE(plan.relies_on_reservation());
}

TEST(FencePlan, WhereReinstatementWorksItComesFirst) {
  FenceSituation situation = keyed(kDrains);
  situation.same_portal_group = true;
  FencePlan plan(situation, kReset, kStart);
  EXPECT_EQ(plan.step(), Step::reinstate);
  plan.on_answer(Step::reinstate, FenceOutcome::refused, kStart);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::refused, kStart), Step::preempt);
}

TEST(FencePlan, AtAnUnknownTargetAPreemptionMakesAResetAProof) {
  FencePlan plan(keyed({}), kReset, kStart);
  EXPECT_EQ(plan.step(), Step::preempt);
  EXPECT_EQ(plan.on_answer(Step::preempt, FenceOutcome::done, kStart), Step::unit_reset);
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::done, kStart), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::preempted_then_reset);
  EXPECT_TRUE(plan.relies_on_reservation());
}

// As after a preemption whose answer was lost: it may not have drained.
TEST(FencePlan, AKeyThatIsGoneKeepsOutButIsNoProof) {
  FencePlan plan(keyed(kDrains), kReset, kStart);
  EXPECT_EQ(plan.on_answer(Step::preempt, FenceOutcome::failed, kStart), Step::preempt);
  EXPECT_EQ(plan.on_answer(Step::preempt, FenceOutcome::kept_out, kStart), Step::unit_reset);
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::done, kStart), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::preempted_then_reset);
}

TEST(FencePlan, ATargetThatRefusesToPreemptIsWaitedFor) {
  FencePlan plan(keyed(kDrains), kReset, kStart);
  plan.on_answer(Step::preempt, FenceOutcome::refused, kStart);
  EXPECT_EQ(plan.on_answer(Step::preempt, FenceOutcome::refused, kStart), Step::wait);
  EXPECT_EQ(plan.on_time(*plan.hold_until()), Step::unit_reset);
  EXPECT_FALSE(plan.relies_on_reservation());
}

TEST(FencePlan, WhatIsKnownNotToDrainIsNotPreempted) {
  EXPECT_EQ(FencePlan(keyed(kTgt), kReset, kStart).step(), Step::wait);
  EXPECT_EQ(FencePlan(keyed({.unit_reset_waits = Known::no}), kReset, kStart).step(), Step::wait);
}

TEST(FencePlan, AfterTheEndOfTheSessionNothingReliesOnTheReservation) {
  FencePlan plan(keyed({.drains_on_reinstatement = Known::no}), kReset, kStart);
  plan.on_answer(Step::preempt, FenceOutcome::done, kStart);
  plan.on_own_login(kStart);
  plan.on_answer(Step::unit_reset, FenceOutcome::done, kStart);
  EXPECT_EQ(plan.proof(), FenceProof::unit_reset);
  EXPECT_FALSE(plan.relies_on_reservation());
}

TEST(FencePlan, AnotherPortalGroupCannotReinstateNorTrustAReset) {
  FencePlan plan({.survivor = true, .same_portal_group = false, .target = kTgt}, kReset, kStart);
  EXPECT_EQ(plan.step(), Step::wait) << "unread commands would run after the reset";
  EXPECT_EQ(plan.on_own_login(kStart + seconds(1)), Step::unit_reset);
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::done, kStart + seconds(2)),
            Step::cleared);
}

TEST(FencePlan, AnotherPortalGroupResetsTheUnitAfterTheHold) {
  FencePlan plan({.survivor = true, .same_portal_group = false, .target = kDrains}, kReset, kStart);
  EXPECT_EQ(plan.on_time(*plan.hold_until()), Step::unit_reset) << "the disk may hang for longer";
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::done, *plan.hold_until()),
            Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::late_reset);
}

TEST(FencePlan, AResetThatWasBegunWithAnotherSurvivorIsNoProofBeforeTheHold) {
  FencePlan plan({.survivor = true, .same_portal_group = false, .target = kDrains}, kReset, kStart);
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::done, kStart), Step::wait);
}

TEST(FencePlan, TheHoldCountsFromTheResetOfTheSocket) {
  FencePlan plan({.hold = seconds(15)}, kReset, kReset + seconds(3));
  EXPECT_EQ(plan.step(), Step::wait);
  EXPECT_EQ(plan.hold_until(), kReset + seconds(15));
  EXPECT_EQ(plan.on_time(kReset + seconds(15) - io::Duration(1)), Step::wait);
  EXPECT_EQ(plan.on_time(kReset + seconds(15)), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::time);
}

TEST(FencePlan, AFailedStepIsTriedOnceMoreThenTheNextThenAllAgain) {
  FencePlan plan({.survivor = true, .same_portal_group = true, .target = kTgt, .hold = seconds(60)},
                 kReset, kStart);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::failed, kStart), Step::reinstate);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::failed, kStart), Step::wait);
  ASSERT_EQ(plan.deadline(), kStart + io::Duration(kFenceRetry));
  EXPECT_EQ(plan.on_time(kStart + kFenceRetry), Step::reinstate);
}

TEST(FencePlan, TheSurvivorMayDieAndAnotherCome) {
  FencePlan plan(survivor_in_group(kTgt), kReset, kStart);
  EXPECT_EQ(plan.on_survivor(false, false, kStart), Step::wait);
  EXPECT_EQ(plan.deadline(), plan.hold_until());
  EXPECT_EQ(plan.on_survivor(true, true, kStart), Step::reinstate);
  plan.on_answer(Step::reinstate, FenceOutcome::done, kStart);
  EXPECT_EQ(plan.on_survivor(false, false, kStart), Step::wait);
  EXPECT_EQ(plan.on_survivor(true, false, kStart), Step::unit_reset)
      << "the old session stays dead";
}

TEST(FencePlan, TheOnlyPathFencesItself) {
  FencePlan plan({.survivor = false, .target = kDrains}, kReset, kStart);
  EXPECT_EQ(plan.step(), Step::wait);
  EXPECT_EQ(plan.on_own_login(kStart + seconds(1)), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::reinstated);
}

TEST(FencePlan, WithoutAHoldAStepStillHasATime) {
  FenceSituation situation = survivor_in_group(kTgt);
  situation.hold.reset();
  FencePlan plan(situation, kReset, kStart);
  ASSERT_EQ(plan.deadline(), kStart + io::Duration(kFenceStepLimit));
  EXPECT_EQ(plan.on_time(kStart + kFenceStepLimit), Step::reinstate) << "the second try";
  EXPECT_EQ(plan.on_time(*plan.deadline()), Step::wait);
  EXPECT_EQ(plan.on_time(*plan.deadline()), Step::reinstate) << "time alone never clears it";
}

// A disk behind the target may hang for longer than any bound that was declared.
TEST(FencePlan, TimeDoesNotClearWhatATargetThatDrainsHasNotAnsweredYet) {
  FencePlan plan(survivor_in_group(kDrains), kReset, kStart);
  const io::Instant late = kReset + io::Duration(kDefaultGhostHold) + seconds(100);
  EXPECT_EQ(plan.on_time(*plan.deadline()), Step::reinstate);
  EXPECT_EQ(plan.on_time(*plan.deadline()), Step::wait);
  EXPECT_EQ(plan.on_time(*plan.deadline()), Step::reinstate);
  EXPECT_EQ(plan.on_survivor(false, false, late), Step::wait);
  EXPECT_EQ(plan.on_survivor(true, true, late), Step::reinstate);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::done, late), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::reinstated);
}

TEST(FencePlan, TimeDoesNotClearWhileTgtHasNotAnsweredTheReset) {
  FencePlan plan(survivor_in_group(kTgt), kReset, kStart);
  plan.on_answer(Step::reinstate, FenceOutcome::done, kStart);
  EXPECT_EQ(plan.on_time(*plan.deadline()), Step::unit_reset);
  EXPECT_EQ(plan.on_time(*plan.deadline()), Step::wait);
  EXPECT_FALSE(plan.cleared());
}

TEST(FencePlan, TimeClearsWhereTheTargetRefusesToSay) {
  FencePlan plan(survivor_in_group(kDrains), kReset, kStart);
  plan.on_answer(Step::reinstate, FenceOutcome::refused, kStart);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::refused, kStart), Step::wait);
  const io::Instant held = kReset + io::Duration(kDefaultGhostHold);
  EXPECT_EQ(plan.on_time(held), Step::reinstate) << "all steps once more";
  plan.on_answer(Step::reinstate, FenceOutcome::refused, held);
  EXPECT_EQ(plan.on_answer(Step::reinstate, FenceOutcome::refused, held), Step::unit_reset);
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::refused, held), Step::unit_reset);
  EXPECT_EQ(plan.on_answer(Step::unit_reset, FenceOutcome::refused, held), Step::cleared);
  EXPECT_EQ(plan.proof(), FenceProof::time);
}

TEST(FencePlan, ARefusalOfOnePathIsForgottenWithTheNext) {
  FencePlan plan(survivor_in_group(kDrains), kReset, kStart);
  plan.on_answer(Step::reinstate, FenceOutcome::refused, kStart);
  plan.on_answer(Step::reinstate, FenceOutcome::refused, kStart);
  plan.on_survivor(false, false, kStart);
  EXPECT_EQ(plan.on_survivor(true, true, kReset + seconds(100)), Step::reinstate);
}

// Every situation, every order of events: judged by facts that the test keeps itself.
class Judge {
 public:
  explicit Judge(const FenceSituation& situation)
      : situation_(situation), plan_(situation, kReset, kStart) {}

  static constexpr int kEvents = 10;

  void event(int number) {
    if (plan_.cleared()) return;
    const Step step = plan_.step();
    switch (number) {
      case 0:
        note(step);
        plan_.on_answer(step, FenceOutcome::done, now_);
        break;
      case 1:
        plan_.on_answer(step, FenceOutcome::failed, now_);
        break;
      case 2:
        now_ += seconds(4);
        plan_.on_time(now_);
        break;
      case 3:
        if (plan_.deadline()) now_ = std::max(now_, *plan_.deadline());
        plan_.on_time(now_);
        break;
      case 4:
        survivor_ = false;
        plan_.on_survivor(false, false, now_);
        break;
      case 5:
      case 6:
        survivor_ = true;
        refusals_ = {};
        same_group_ = number == 5;
        plan_.on_survivor(true, same_group_, now_);
        break;
      case 7:
        ended_ = true;
        plan_.on_own_login(now_);
        break;
      case 8:
        ++refusals_[static_cast<size_t>(step)];
        plan_.on_answer(step, FenceOutcome::refused, now_);
        break;
      case 9:
        if (step != Step::preempt) break;
        kept_out_ = true;
        plan_.on_answer(step, FenceOutcome::kept_out, now_);
        break;
      default:
        break;
    }
  }

  // Empty: all is right.
  std::string verdict() const {
    const bool drained = ended_ && situation_.target.drains_on_reinstatement == Known::yes;
    switch (plan_.proof()) {
      case FenceProof::none:
        if (plan_.cleared()) return "cleared without a proof";
        if (drained || reset_ || (preempted_ && preempt_drains())) {
          return "not cleared in spite of a proof";
        }
        break;
      case FenceProof::reinstated:
        if (!drained) return "no draining reinstatement";
        break;
      case FenceProof::unit_reset:
        if (!reset_) return "no reset after the end of the session";
        break;
      case FenceProof::late_reset:
        if (!reset_ || !by_time()) return "no reset after the hold";
        break;
      case FenceProof::preempted:
        if (!preempted_ || !preempt_drains()) return "no preempt";
        break;
      case FenceProof::preempted_then_reset:
        if (!reset_ || !kept_out_) return "no reset after a preempt";
        break;
      case FenceProof::time:
        if (!by_time()) return "the hold has not gone by";
        if (can_prove()) return "by time, although a step could prove it";
        break;
    }
    if (plan_.cleared()) return plan_.proof() == FenceProof::none ? "no proof" : "";
    const Step step = plan_.step();
    if (step == Step::wait) return "";
    if (!survivor_) return "a step without a survivor";
    if (step == Step::reinstate && (!same_group_ || ended_)) return "a useless reinstatement";
    if (step == Step::unit_reset &&
        (!read_out() || (situation_.in_cluster && !situation_.unit_reset_in_cluster))) {
      return "a reset that may not be";
    }
    if (step == Step::preempt && (situation_.in_cluster || !situation_.session_key)) {
      return "a preempt of the node's key";
    }
    if (step == Step::preempt && (kept_out_ || situation_.target.preempt_drains == Known::no)) {
      return "a useless preempt";
    }
    if (!plan_.deadline()) return "a step without a time";
    return "";
  }

  // Where no step can prove it, the hold ends it whatever happened.
  bool ends() {
    if (!situation_.hold || plan_.cleared() || can_prove()) return true;
    plan_.on_time(std::max({now_, kReset + *situation_.hold, plan_.deadline().value_or(now_)}));
    return plan_.cleared();
  }

 private:
  bool by_time() const { return situation_.hold && now_ >= kReset + *situation_.hold; }
  bool refused(Step step) const { return refusals_[static_cast<size_t>(step)] >= int{kFenceTries}; }
  bool cannot_end() const { return survivor_ && (!same_group_ || refused(Step::reinstate)); }
  // Nothing of the old session waits in a socket for the target to read it.
  bool read_out() const { return ended_ || kept_out_ || (by_time() && cannot_end()); }
  bool preempt_drains() const { return situation_.target.preempt_drains == Known::yes; }
  // A login or a reset that a known target answers when it has drained, and that it does not
  // refuse.
  bool can_prove() const {
    const TargetKnowledge& target = situation_.target;
    const bool reset = target.unit_reset_waits == Known::yes && !refused(Step::unit_reset) &&
                       (!situation_.in_cluster || situation_.unit_reset_in_cluster);
    const bool login = target.drains_on_reinstatement == Known::yes && !refused(Step::reinstate);
    if (!situation_.in_cluster && situation_.session_key && preempt_drains() && !kept_out_ &&
        !refused(Step::preempt)) {
      return true;
    }
    if (!survivor_) return login || reset;
    return ended_ || cannot_end() ? reset : login || reset;
  }
  void note(Step step) {
    if (step == Step::reinstate) ended_ = true;
    if (step == Step::unit_reset && read_out() && situation_.target.unit_reset_waits != Known::no) {
      reset_ = true;
    }
    if (step == Step::preempt) preempted_ = kept_out_ = true;
  }

  FenceSituation situation_;
  FencePlan plan_;
  io::Instant now_ = kStart;
  bool survivor_ = situation_.survivor;
  bool same_group_ = situation_.same_portal_group;
  bool ended_ = false;
  bool reset_ = false;
  bool preempted_ = false;
  bool kept_out_ = false;
  std::array<int, 5> refusals_{};
};

std::vector<FenceSituation> every_situation() {
  std::vector<FenceSituation> all;
  const Known known[] = {Known::no, Known::yes, Known::unknown};
  for (const Known drains : known) {
    for (const Known reset : known) {
      for (const Known preempt : known) {
        for (int bits = 0; bits < 64; ++bits) {
          FenceSituation one{.survivor = (bits & 1) != 0,
                             .same_portal_group = (bits & 2) != 0 && (bits & 1) != 0,
                             .target = {drains, reset, preempt},
                             .in_cluster = (bits & 4) != 0,
                             .unit_reset_in_cluster = (bits & 8) != 0,
                             .session_key = (bits & 16) != 0};
          if ((bits & 32) != 0) one.hold.reset();
          all.push_back(one);
        }
      }
    }
  }
  return all;
}

size_t search(const Judge& judge, int depth, std::string& problem) {
  problem = judge.verdict();
  if (!problem.empty() || depth == 0) return 1;
  size_t visited = 1;
  for (int event = 0; event < Judge::kEvents; ++event) {
    Judge next = judge;
    next.event(event);
    visited += search(next, depth - 1, problem);
    if (!problem.empty()) {
      problem += " <- " + std::to_string(event);
      return visited;
    }
  }
  return visited;
}

TEST(FencePlanInvariant, NeverClearedWithoutAProofInAnyOrderOfEvents) {
  const auto situations = every_situation();
  for (size_t i = 0; i < situations.size(); ++i) {
    std::string problem;
    search(Judge(situations[i]), 3, problem);
    ASSERT_EQ(problem, "") << "situation " << i;
  }
}

TEST(FencePlanInvariant, NorInLongRandomOnes) {
  const auto situations = every_situation();
  base::SeededRandom random(11);
  for (int run = 0; run < 20000; ++run) {
    const size_t i = random.below(situations.size());
    Judge judge(situations[i]);
    for (int step = 0; step < 20; ++step) {
      judge.event(static_cast<int>(random.below(Judge::kEvents)));
      ASSERT_EQ(judge.verdict(), "") << "situation " << i << " run " << run << " step " << step;
    }
    ASSERT_TRUE(judge.ends()) << "situation " << i;
  }
}

}  // namespace
}  // namespace holdfast::mpio
