#include "mpio/retry.h"

#include <array>
#include <cerrno>

#include "common/base/assert.h"

namespace holdfast::mpio {
namespace {

using Outcome = RequestOutcome;
using Action = RetryAction;

constexpr RetryDecision fail(int error) { return {.action = Action::fail, .error = error}; }
constexpr RetryDecision act(Action action) { return {.action = action}; }

constexpr RetryDecision kDone = act(Action::complete);
constexpr RetryDecision kAgain = act(Action::again);
constexpr RetryDecision kLater = act(Action::again_later);
constexpr RetryDecision kOther = act(Action::other_path);
constexpr RetryDecision kAccess = act(Action::check_access);
constexpr RetryDecision kKeys = act(Action::check_registration);
constexpr RetryDecision kProbe = act(Action::reprobe_path);
constexpr RetryDecision kAbort = act(Action::abort_task);
constexpr RetryDecision kFence = act(Action::fence_then_again);
constexpr RetryDecision kFenceRead = act(Action::fence_then_read_back);
constexpr RetryDecision kRead = act(Action::read_back);
constexpr RetryDecision kUnsure = fail(EUCLEAN);
constexpr RetryDecision kEio = fail(EIO);

struct Row {
  Outcome outcome;
  std::array<RetryDecision, kRetryClasses> decisions;
};

// A status that says "not executed" (SAM-5 5.3.1, SPC-4 annex E) is R0: any command may be
// repeated. A write of which one byte may have left us is as dangerous as one whose data has: the
// target may have it all. A path's end is told apart from an answer: only after an answer is a
// command over.
// clang-format off
constexpr Row kTable[] = {
    // outcome                       R1       R2       R3 CAW      R3 PR       R4
    {Outcome::good,                 {kDone,   kDone,   kDone,      kDone,      kDone}},
    {Outcome::not_sent,             {kOther,  kOther,  kOther,     kOther,     kOther}},
    {Outcome::sent,                 {kOther,  kFence,  kFenceRead, kFenceRead, kUnsure}},
    {Outcome::data_sent,            {kOther,  kFence,  kFenceRead, kFenceRead, kUnsure}},
    {Outcome::timed_out,            {kAbort,  kAbort,  kAbort,     kAbort,     kAbort}},
    {Outcome::aborted,              {kOther,  kOther,  kRead,      kRead,      kUnsure}},
    {Outcome::busy,                 {kLater,  kLater,  kLater,     kLater,     kLater}},
    {Outcome::task_set_full,        {kLater,  kLater,  kLater,     kLater,     kLater}},
    {Outcome::reservation_conflict, {kKeys,   kKeys,   kKeys,      fail(EBADE), kKeys}},
    {Outcome::aca_active,           {kLater,  kLater,  kLater,     kLater,     kLater}},
    {Outcome::task_aborted,         {kAgain,  kAgain,  kRead,      kRead,      kUnsure}},
    {Outcome::unit_attention,       {kAgain,  kAgain,  kAgain,     kAgain,     kAgain}},
    {Outcome::access_transition,    {kLater,  kLater,  kLater,     kLater,     kLater}},
    {Outcome::access_standby,       {kAccess, kAccess, kAccess,    kAccess,    kAccess}},
    {Outcome::becoming_ready,       {kLater,  kLater,  kLater,     kLater,     kLater}},
    {Outcome::not_ready,            {kOther,  kOther,  kOther,     kOther,     kOther}},
    {Outcome::medium_error,         {kEio,    kEio,    kEio,       kEio,       kEio}},
    {Outcome::hardware_error,       {kOther,  kOther,  kEio,       kEio,       kEio}},
    {Outcome::aborted_command,      {kAgain,  kAgain,  kRead,      kRead,      kUnsure}},
    {Outcome::write_protected,      {fail(EROFS),   fail(EROFS),   fail(EROFS),   fail(EROFS),   fail(EROFS)}},
    {Outcome::no_space,             {fail(ENOSPC),  fail(ENOSPC),  fail(ENOSPC),  fail(ENOSPC),  fail(ENOSPC)}},
    {Outcome::out_of_range,         {fail(EINVAL),  fail(EINVAL),  fail(EINVAL),  fail(EINVAL),  fail(EINVAL)}},
    {Outcome::unit_gone,            {kProbe,  kProbe,  kProbe,     kProbe,     kProbe}},
    {Outcome::illegal_request,      {fail(EINVAL),  fail(EINVAL),  fail(EINVAL),  fail(EINVAL),  fail(EINVAL)}},
    {Outcome::miscompare,           {kEio,    kEio,    fail(EILSEQ), kEio,     kEio}},
    {Outcome::other_error,          {kEio,    kEio,    kEio,       kEio,       kEio}},
};
// clang-format on
static_assert(std::size(kTable) == kRequestOutcomes);

constexpr bool in_order() {
  for (size_t i = 0; i < std::size(kTable); ++i) {
    if (kTable[i].outcome != static_cast<Outcome>(i)) return false;
  }
  return true;
}
static_assert(in_order());

struct SenseRow {
  scsi::SenseKey key;
  int asc;   // -1: any
  int ascq;  // -1: any
  Outcome outcome;
};

// The first that matches counts.
// clang-format off
constexpr SenseRow kSense[] = {
    {scsi::SenseKey::no_sense,         -1,   -1,   Outcome::good},
    {scsi::SenseKey::recovered_error,  -1,   -1,   Outcome::good},
    {scsi::SenseKey::not_ready,        0x04, 0x01, Outcome::becoming_ready},
    {scsi::SenseKey::not_ready,        0x04, 0x0a, Outcome::access_transition},
    {scsi::SenseKey::not_ready,        0x04, 0x0b, Outcome::access_standby},
    {scsi::SenseKey::not_ready,        0x04, 0x0c, Outcome::access_standby},
    {scsi::SenseKey::not_ready,        0x04, 0x14, Outcome::no_space},
    {scsi::SenseKey::not_ready,        -1,   -1,   Outcome::not_ready},
    {scsi::SenseKey::medium_error,     -1,   -1,   Outcome::medium_error},
    {scsi::SenseKey::hardware_error,   -1,   -1,   Outcome::hardware_error},
    {scsi::SenseKey::illegal_request,  0x21, -1,   Outcome::out_of_range},
    {scsi::SenseKey::illegal_request,  0x25, -1,   Outcome::unit_gone},
    {scsi::SenseKey::illegal_request,  -1,   -1,   Outcome::illegal_request},
    {scsi::SenseKey::unit_attention,   -1,   -1,   Outcome::unit_attention},
    {scsi::SenseKey::data_protect,     0x27, 0x07, Outcome::no_space},
    {scsi::SenseKey::data_protect,     -1,   -1,   Outcome::write_protected},
    {scsi::SenseKey::aborted_command,  -1,   -1,   Outcome::aborted_command},
    {scsi::SenseKey::miscompare,       -1,   -1,   Outcome::miscompare},
};
// clang-format on

Outcome classify_sense(const scsi::Sense& sense) {
  for (const SenseRow& row : kSense) {
    if (row.key == sense.key && (row.asc < 0 || row.asc == sense.asc) &&
        (row.ascq < 0 || row.ascq == sense.ascq)) {
      return row.outcome;
    }
  }
  return Outcome::other_error;
}

bool was_lost(Outcome outcome) { return outcome == Outcome::sent || outcome == Outcome::data_sent; }

bool changes_path(Action action) {
  return action == Action::other_path || action == Action::check_access ||
         action == Action::reprobe_path || action == Action::fence_then_again ||
         action == Action::again_as_ghost || action == Action::fence_then_read_back;
}

bool is_over(const RetryDecision& decision) {
  return decision.action == Action::complete || decision.action == Action::fail;
}

io::Duration doubled(io::Duration first, io::Duration longest, uint8_t times) {
  io::Duration delay = first;
  for (uint8_t i = 0; i < times && delay < longest; ++i) delay *= 2;
  return std::min(delay, longest);
}

io::Duration delay_of(Outcome outcome, uint8_t times) {
  const bool moves = outcome == Outcome::access_transition || outcome == Outcome::becoming_ready;
  return moves ? doubled(kTransitionDelay, kLongestTransitionDelay, times)
               : doubled(kBusyDelay, kLongestBusyDelay, times);
}

// The request ends here, for a limit of ours: say whether it may still land, or may have run.
RetryDecision give_up(RetryClass retry_class, Outcome outcome, const RetryHistory& history,
                      int error) {
  if (history.uncertain) return kUnsure;
  if (retry_class == RetryClass::idempotent && was_lost(outcome)) return fail(ETIMEDOUT);
  return fail(error);
}

// True: one more would be too many.
bool exhausted(Outcome outcome, Action action, RetryHistory& history) {
  if (outcome == Outcome::unit_attention) {
    return ++history.unit_attentions > kMaxUnitAttentions;
  }
  history.unit_attentions = 0;
  if (outcome == Outcome::aborted_command || outcome == Outcome::task_aborted) {
    if (++history.aborted > kMaxAborted) return true;
  }
  if (outcome == Outcome::hardware_error || outcome == Outcome::not_ready) {
    if (++history.hardware_errors > kMaxOtherPathOnHardwareError) return true;
  }
  return changes_path(action) && ++history.path_changes > kMaxPathChanges;
}

constexpr std::array kKindNames = {"read",  "inquire",           "flush",       "write",
                                   "unmap", "compare-and-write", "reserve-out", "other"};
static_assert(kKindNames.size() == kRequestKinds);

constexpr std::array kOutcomeNames = {"good",
                                      "not sent",
                                      "sent",
                                      "data sent",
                                      "timed out",
                                      "aborted",
                                      "busy",
                                      "task set full",
                                      "conflict",
                                      "ACA active",
                                      "task aborted",
                                      "unit attention",
                                      "access state changes",
                                      "access state standby",
                                      "becoming ready",
                                      "not ready",
                                      "medium error",
                                      "hardware error",
                                      "aborted command",
                                      "write protected",
                                      "no space",
                                      "out of range",
                                      "unit gone",
                                      "illegal request",
                                      "miscompare",
                                      "other error"};
static_assert(kOutcomeNames.size() == kRequestOutcomes);

constexpr std::array kActionNames = {"complete",
                                     "fail",
                                     "again",
                                     "again later",
                                     "other path",
                                     "check access state",
                                     "check registration",
                                     "reprobe path",
                                     "abort task",
                                     "fence, then again",
                                     "again, as a ghost",
                                     "fence, then read back",
                                     "read back"};

}  // namespace

const char* to_string(RequestKind kind) noexcept { return kKindNames[static_cast<size_t>(kind)]; }
const char* to_string(RequestOutcome outcome) noexcept {
  return kOutcomeNames[static_cast<size_t>(outcome)];
}
const char* to_string(RetryAction action) noexcept {
  return kActionNames[static_cast<size_t>(action)];
}

RetryClass retry_class(RequestKind kind) {
  switch (kind) {
    case RequestKind::read:
    case RequestKind::inquire:
    case RequestKind::flush:
      return RetryClass::repeatable;
    case RequestKind::write:
    case RequestKind::unmap:
      return RetryClass::idempotent;
    case RequestKind::compare_and_write:
      return RetryClass::conditional;
    case RequestKind::reserve_out:
      return RetryClass::reservation;
    case RequestKind::other:
      return RetryClass::unique;
  }
  return RetryClass::unique;
}

RequestOutcome classify(scsi::Status status, const std::optional<scsi::Sense>& sense) {
  switch (status) {
    case scsi::Status::good:
    case scsi::Status::condition_met:
      return Outcome::good;
    case scsi::Status::check_condition:
      return sense ? classify_sense(*sense) : Outcome::aborted_command;
    case scsi::Status::busy:
      return Outcome::busy;
    case scsi::Status::reservation_conflict:
      return Outcome::reservation_conflict;
    case scsi::Status::task_set_full:
      return Outcome::task_set_full;
    case scsi::Status::aca_active:
      return Outcome::aca_active;
    case scsi::Status::task_aborted:
      return Outcome::task_aborted;
  }
  return Outcome::other_error;  // the byte came from a peer: it may be anything
}

RetryDecision retry_row(RequestOutcome outcome, RetryClass retry_class) {
  return kTable[static_cast<size_t>(outcome)].decisions[static_cast<size_t>(retry_class)];
}

bool RetryBudget::take(io::Instant now) {
  if (filled_ && now > *filled_) {
    const std::chrono::duration<double> age = now - *filled_;
    tokens_ = std::min<double>(kRetryBurst, tokens_ + age.count() * kRetriesPerSecond);
  }
  filled_ = now;
  if (tokens_ >= 1) {
    tokens_ -= 1;
    return true;
  }
  ++refused_;
  return false;
}

RetryDecision decide(RequestKind kind, RequestOutcome outcome, RetryHistory& history,
                     const RetryContext& context) {
  ASSERT(context.budget != nullptr);
  const RetryClass group = retry_class(kind);
  RetryDecision decision = retry_row(outcome, group);
  if (is_over(decision)) {
    // An error of a repetition, a MISCOMPARE above all, says nothing about the first execution.
    return decision.action == Action::fail && history.uncertain ? kUnsure : decision;
  }
  if (decision.action == Action::fence_then_read_back || decision.action == Action::read_back) {
    history.uncertain = true;
  }
  if (decision.action == Action::fence_then_again &&
      context.mode == CompletionMode::ghost_tracked) {
    decision.action = Action::again_as_ghost;
  }
  if (exhausted(outcome, decision.action, history)) return give_up(group, outcome, history, EIO);
  if (decision.action == Action::again_later) {
    decision.delay = delay_of(outcome, history.delays);
    history.delays = static_cast<uint8_t>(std::min(history.delays + 1, 32));
  } else {
    history.delays = 0;
  }
  if (decision.action == Action::abort_task) return decision;  // no repetition yet
  if (history.deadline && context.now >= *history.deadline) {
    return give_up(group, outcome, history, ETIMEDOUT);
  }
  if (!context.budget->take(context.now)) {
    decision.delay = std::max<io::Duration>(decision.delay, kStormDelay);
  }
  if (history.deadline) {
    decision.delay = std::min(decision.delay, *history.deadline - context.now);
  }
  return decision;
}

RetryDecision after_read_back(RequestKind kind, ReadBack found, RetryHistory& history) {
  switch (found) {
    case ReadBack::executed:
      return kDone;
    case ReadBack::unchanged:
      history.uncertain = false;
      return kAgain;
    case ReadBack::different:
      // It may have been executed, and what it wrote be overwritten since: EILSEQ would deny that.
      return kind == RequestKind::reserve_out ? fail(EBADE) : kUnsure;
  }
  return kUnsure;
}

}  // namespace holdfast::mpio
