#include "mpio/retry.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <string>

namespace holdfast::mpio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Action = RetryAction;
using Kind = RequestKind;
using Outcome = RequestOutcome;

const io::Instant kNow = io::Instant{} + seconds(100);

std::string text(const RetryDecision& decision) {
  std::string result = to_string(decision.action);
  if (decision.action == Action::fail) result += " " + std::to_string(decision.error);
  return result;
}

class RetryTest : public testing::Test {
 protected:
  RetryDecision after(Kind kind, Outcome outcome) {
    return decide(kind, outcome, history_, {.mode = mode_, .budget = &budget_, .now = now_});
  }
  static RetryDecision once(Kind kind, Outcome outcome,
                            CompletionMode mode = CompletionMode::strict) {
    RetryHistory history;
    RetryBudget budget;
    return decide(kind, outcome, history, {.mode = mode, .budget = &budget, .now = kNow});
  }

  RetryHistory history_;
  RetryBudget budget_;
  CompletionMode mode_ = CompletionMode::strict;
  io::Instant now_ = kNow;
};

TEST_F(RetryTest, KindsFallIntoClasses) {
  EXPECT_EQ(retry_class(Kind::read), RetryClass::repeatable);
  EXPECT_EQ(retry_class(Kind::inquire), RetryClass::repeatable);
  EXPECT_EQ(retry_class(Kind::flush), RetryClass::repeatable);
  EXPECT_EQ(retry_class(Kind::write), RetryClass::idempotent);
  EXPECT_EQ(retry_class(Kind::unmap), RetryClass::idempotent);
  EXPECT_EQ(retry_class(Kind::compare_and_write), RetryClass::conditional);
  EXPECT_EQ(retry_class(Kind::reserve_out), RetryClass::reservation);
  EXPECT_EQ(retry_class(Kind::other), RetryClass::unique);
}

TEST_F(RetryTest, EveryRow) {
  const std::string io = "fail " + std::to_string(EIO);
  const std::string unsure = "fail " + std::to_string(EUCLEAN);
  const std::string conflict = "fail " + std::to_string(EBADE);
  const std::string invalid = "fail " + std::to_string(EINVAL);
  const std::string fence = "fence, then again";
  const std::string look = "fence, then read back";
  // One letter stands for all five classes where they agree.
  const auto all = [](const std::string& one) {
    return std::array<std::string, kRetryClasses>{one, one, one, one, one};
  };
  const std::map<Outcome, std::array<std::string, kRetryClasses>> wanted = {
      {Outcome::good, all("complete")},
      {Outcome::not_sent, all("other path")},
      {Outcome::sent, {"other path", fence, look, look, unsure}},
      {Outcome::data_sent, {"other path", fence, look, look, unsure}},
      {Outcome::timed_out, all("abort task")},
      {Outcome::aborted, {"other path", "other path", "read back", "read back", unsure}},
      {Outcome::busy, all("again later")},
      {Outcome::task_set_full, all("again later")},
      {Outcome::reservation_conflict,
       {"check registration", "check registration", "check registration", conflict,
        "check registration"}},
      {Outcome::aca_active, all("again later")},
      {Outcome::task_aborted, {"again", "again", "read back", "read back", unsure}},
      {Outcome::unit_attention, all("again")},
      {Outcome::access_transition, all("again later")},
      {Outcome::access_standby, all("check access state")},
      {Outcome::becoming_ready, all("again later")},
      {Outcome::not_ready, all("other path")},
      {Outcome::medium_error, all(io)},
      {Outcome::hardware_error, {"other path", "other path", io, io, io}},
      {Outcome::aborted_command, {"again", "again", "read back", "read back", unsure}},
      {Outcome::write_protected, all("fail " + std::to_string(EROFS))},
      {Outcome::no_space, all("fail " + std::to_string(ENOSPC))},
      {Outcome::out_of_range, all(invalid)},
      {Outcome::unit_gone, all("reprobe path")},
      {Outcome::illegal_request, all(invalid)},
      {Outcome::miscompare, {io, io, "fail " + std::to_string(EILSEQ), io, io}},
      {Outcome::other_error, all(io)},
  };
  ASSERT_EQ(wanted.size(), kRequestOutcomes);
  for (size_t o = 0; o < kRequestOutcomes; ++o) {
    for (size_t k = 0; k < kRequestKinds; ++k) {
      const auto outcome = static_cast<Outcome>(o);
      const auto kind = static_cast<Kind>(k);
      const auto group = static_cast<size_t>(retry_class(kind));
      EXPECT_EQ(text(once(kind, outcome)), wanted.at(outcome)[group])
          << to_string(kind) << " after " << to_string(outcome);
    }
  }
}

TEST_F(RetryTest, WhatMayHaveRunIsNeverBlindlyRepeated) {
  // The rule behind the rows, so that a new row cannot break it.
  for (const Kind kind : {Kind::compare_and_write, Kind::reserve_out, Kind::other}) {
    for (const Outcome outcome : {Outcome::sent, Outcome::data_sent, Outcome::aborted,
                                  Outcome::task_aborted, Outcome::aborted_command}) {
      for (const CompletionMode mode : {CompletionMode::strict, CompletionMode::ghost_tracked}) {
        const Action action = once(kind, outcome, mode).action;
        EXPECT_TRUE(action == Action::read_back || action == Action::fence_then_read_back ||
                    action == Action::fail)
            << to_string(kind) << " after " << to_string(outcome) << ": " << to_string(action);
      }
    }
  }
}

TEST_F(RetryTest, ALostWriteWaitsForTheFenceOrIsAGhost) {
  for (const Kind kind : {Kind::write, Kind::unmap}) {
    for (const Outcome outcome : {Outcome::sent, Outcome::data_sent}) {
      EXPECT_EQ(once(kind, outcome).action, Action::fence_then_again);
      EXPECT_EQ(once(kind, outcome, CompletionMode::ghost_tracked).action, Action::again_as_ghost);
    }
  }
}

TEST_F(RetryTest, StatusAndSenseAreClassified) {
  using scsi::SenseKey;
  using scsi::Status;
  EXPECT_EQ(classify(Status::good, std::nullopt), Outcome::good);
  EXPECT_EQ(classify(Status::condition_met, std::nullopt), Outcome::good);
  EXPECT_EQ(classify(Status::busy, std::nullopt), Outcome::busy);
  EXPECT_EQ(classify(Status::task_set_full, std::nullopt), Outcome::task_set_full);
  EXPECT_EQ(classify(Status::reservation_conflict, std::nullopt), Outcome::reservation_conflict);
  EXPECT_EQ(classify(Status::aca_active, std::nullopt), Outcome::aca_active);
  EXPECT_EQ(classify(Status::task_aborted, std::nullopt), Outcome::task_aborted);
  EXPECT_EQ(classify(Status::check_condition, std::nullopt), Outcome::aborted_command);
  EXPECT_EQ(classify(static_cast<Status>(0x77), std::nullopt), Outcome::other_error);

  const std::pair<scsi::Sense, Outcome> cases[] = {
      {scsi::kNoSense, Outcome::good},
      {{.key = SenseKey::recovered_error, .asc = 0x17}, Outcome::good},
      {scsi::kNotReadyBecoming, Outcome::becoming_ready},
      {scsi::kAluaTransition, Outcome::access_transition},
      {scsi::kAluaStandby, Outcome::access_standby},
      {scsi::kAluaUnavailable, Outcome::access_standby},
      {scsi::kMediumNotPresent, Outcome::not_ready},
      {scsi::kReadError, Outcome::medium_error},
      {scsi::kWriteError, Outcome::medium_error},
      {scsi::kInternalTargetFailure, Outcome::hardware_error},
      {scsi::kInvalidOpcode, Outcome::illegal_request},
      {scsi::kInvalidFieldInCdb, Outcome::illegal_request},
      {scsi::kLbaOutOfRange, Outcome::out_of_range},
      {scsi::kLunNotSupported, Outcome::unit_gone},
      {scsi::kPowerOn, Outcome::unit_attention},
      {scsi::kCapacityChanged, Outcome::unit_attention},
      {scsi::kWriteProtected, Outcome::write_protected},
      {scsi::kSpaceAllocationFailed, Outcome::no_space},
      {scsi::kDataDigest, Outcome::aborted_command},
      {scsi::kMiscompare, Outcome::miscompare},
      {{.key = static_cast<SenseKey>(0xd)}, Outcome::other_error},
  };
  for (const auto& [sense, outcome] : cases) {
    EXPECT_EQ(classify(Status::check_condition, sense), outcome)
        << int{static_cast<uint8_t>(sense.key)} << "/" << int{sense.asc} << "/" << int{sense.ascq};
  }
}

TEST_F(RetryTest, BusyWaitsLongerEachTime) {
  io::Duration wanted = kBusyDelay;
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(after(Kind::write, Outcome::busy).delay, wanted) << i;
    wanted = std::min<io::Duration>(wanted * 2, kLongestBusyDelay);
  }
  after(Kind::write, Outcome::unit_attention);
  EXPECT_EQ(after(Kind::write, Outcome::task_set_full).delay, io::Duration(kBusyDelay))
      << "in a row only";
}

TEST_F(RetryTest, AnAccessTransitionIsWaitedFor) {
  EXPECT_EQ(after(Kind::write, Outcome::access_transition).delay, io::Duration(kTransitionDelay));
  for (int i = 0; i < 10; ++i) after(Kind::write, Outcome::access_transition);
  EXPECT_EQ(after(Kind::write, Outcome::access_transition).delay,
            io::Duration(kLongestTransitionDelay));
  EXPECT_EQ(history_.path_changes, 0) << "no failover for it";
}

TEST_F(RetryTest, EightUnitAttentionsInARow) {
  for (int i = 0; i < kMaxUnitAttentions; ++i) {
    EXPECT_EQ(after(Kind::read, Outcome::unit_attention).action, Action::again);
  }
  EXPECT_EQ(text(after(Kind::read, Outcome::unit_attention)), "fail " + std::to_string(EIO));
  history_ = {};
  for (int i = 0; i < 5 * kMaxUnitAttentions; ++i) {
    ASSERT_EQ(after(Kind::read, Outcome::unit_attention).action, Action::again);
    if (i % kMaxUnitAttentions == 0) after(Kind::read, Outcome::busy);
  }
}

TEST_F(RetryTest, EightPathChanges) {
  for (int i = 0; i < kMaxPathChanges; ++i) {
    EXPECT_EQ(after(Kind::read, Outcome::data_sent).action, Action::other_path);
  }
  EXPECT_EQ(text(after(Kind::read, Outcome::data_sent)), "fail " + std::to_string(EIO));
}

TEST_F(RetryTest, AWriteThatRunsOutOfPathsMayStillLand) {
  for (int i = 0; i < kMaxPathChanges; ++i) after(Kind::write, Outcome::sent);
  EXPECT_EQ(text(after(Kind::write, Outcome::sent)), "fail " + std::to_string(ETIMEDOUT));
  history_ = {};
  for (int i = 0; i < kMaxPathChanges; ++i) after(Kind::write, Outcome::not_sent);
  EXPECT_EQ(text(after(Kind::write, Outcome::not_sent)), "fail " + std::to_string(EIO));
}

TEST_F(RetryTest, AHardwareErrorIsTriedOnOneOtherPath) {
  EXPECT_EQ(after(Kind::write, Outcome::hardware_error).action, Action::other_path);
  EXPECT_EQ(text(after(Kind::write, Outcome::hardware_error)), "fail " + std::to_string(EIO));
}

TEST_F(RetryTest, AbortedAgainAndAgainIsAnError) {
  for (int i = 0; i < kMaxAborted; ++i) {
    EXPECT_EQ(after(Kind::write, Outcome::aborted_command).action, Action::again);
  }
  EXPECT_EQ(text(after(Kind::write, Outcome::aborted_command)), "fail " + std::to_string(EIO));
}

TEST_F(RetryTest, TheDeadlineEndsEveryRetry) {
  history_.deadline = kNow + milliseconds(25);
  EXPECT_EQ(after(Kind::write, Outcome::busy).delay, milliseconds(10));
  EXPECT_EQ(after(Kind::write, Outcome::busy).delay, milliseconds(20));
  EXPECT_EQ(after(Kind::write, Outcome::busy).delay, milliseconds(25)) << "not beyond it";
  now_ = *history_.deadline;
  EXPECT_EQ(text(after(Kind::write, Outcome::busy)), "fail " + std::to_string(ETIMEDOUT));
  EXPECT_EQ(after(Kind::write, Outcome::good).action, Action::complete) << "an answer counts";
  EXPECT_EQ(after(Kind::write, Outcome::timed_out).action, Action::abort_task)
      << "never just forgotten";
}

TEST_F(RetryTest, ALostConditionalThatCannotBeReadBackIsUncertain) {
  history_.deadline = kNow + seconds(1);
  EXPECT_EQ(after(Kind::compare_and_write, Outcome::data_sent).action,
            Action::fence_then_read_back);
  now_ = *history_.deadline;
  EXPECT_EQ(text(after(Kind::compare_and_write, Outcome::busy)), "fail " + std::to_string(EUCLEAN));
}

TEST_F(RetryTest, AMiscompareAfterALostOneProvesNothing) {
  after(Kind::compare_and_write, Outcome::data_sent);
  EXPECT_EQ(text(after(Kind::compare_and_write, Outcome::miscompare)),
            "fail " + std::to_string(EUCLEAN))
      << "it may have met its own data";
}

TEST_F(RetryTest, ReadingBackDecides) {
  after(Kind::compare_and_write, Outcome::data_sent);
  EXPECT_EQ(after_read_back(Kind::compare_and_write, ReadBack::executed, history_).action,
            Action::complete);
  EXPECT_EQ(text(after_read_back(Kind::compare_and_write, ReadBack::different, history_)),
            "fail " + std::to_string(EUCLEAN))
      << "executed, and overwritten since?";
  EXPECT_EQ(text(after_read_back(Kind::reserve_out, ReadBack::different, history_)),
            "fail " + std::to_string(EBADE));
  EXPECT_TRUE(history_.uncertain);
  EXPECT_EQ(after_read_back(Kind::compare_and_write, ReadBack::unchanged, history_).action,
            Action::again);
  EXPECT_EQ(text(after(Kind::compare_and_write, Outcome::miscompare)),
            "fail " + std::to_string(EILSEQ))
      << "now it is one";
}

TEST_F(RetryTest, AStormIsSlowedNotRefused) {
  for (uint32_t i = 0; i < kRetryBurst; ++i) {
    history_ = {};
    ASSERT_EQ(after(Kind::read, Outcome::not_sent).delay, io::Duration{}) << i;
  }
  history_ = {};
  const RetryDecision slowed = after(Kind::read, Outcome::not_sent);
  EXPECT_EQ(slowed.action, Action::other_path);
  EXPECT_EQ(slowed.delay, io::Duration(kStormDelay));
  EXPECT_EQ(budget_.refused(), 1u);
  now_ += milliseconds(10);
  history_ = {};
  EXPECT_EQ(after(Kind::read, Outcome::not_sent).delay, io::Duration{}) << "ten tokens are back";
}

TEST(RetryBudget, FillsAtItsRateUpToTheBurst) {
  RetryBudget budget;
  uint32_t taken = 0;
  while (budget.take(kNow)) ++taken;
  EXPECT_EQ(taken, kRetryBurst);
  taken = 0;
  while (budget.take(kNow + milliseconds(100))) ++taken;
  EXPECT_NEAR(taken, kRetriesPerSecond / 10, 1);
  taken = 0;
  while (budget.take(kNow + seconds(1000))) ++taken;
  EXPECT_EQ(taken, kRetryBurst);
}

TEST(QueueLimit, IsHalvedByTaskSetFullAndGrowsSlowly) {
  QueueLimit limit;
  EXPECT_EQ(limit.limit(), kQueueDepth);
  limit.on_task_set_full(kQueueDepth);
  EXPECT_EQ(limit.limit(), kQueueDepth / 2);
  limit.on_task_set_full(10);
  EXPECT_EQ(limit.limit(), 5u) << "what was in flight is what was too much";
  for (int i = 0; i < 10; ++i) limit.on_task_set_full(1);
  EXPECT_EQ(limit.limit(), 1u);
  for (uint32_t i = 0; i < kGoodPerStep; ++i) limit.on_good();
  EXPECT_EQ(limit.limit(), 2u);
  for (uint32_t i = 0; i < 2 * kQueueDepth * kGoodPerStep; ++i) limit.on_good();
  EXPECT_EQ(limit.limit(), kQueueDepth);
}

TEST(RetryNames, AreDistinct) {
  std::map<std::string, int> names;
  for (size_t i = 0; i < kRequestOutcomes; ++i) ++names[to_string(static_cast<Outcome>(i))];
  EXPECT_EQ(names.size(), kRequestOutcomes);
}

}  // namespace
}  // namespace holdfast::mpio
