#pragma once
// What becomes of a request whose answer was not GOOD, or that has none: docs/mpio.md, "Retry". One
// table (retry.cc) of what happened against what may be repeated, and the limits around it.

#include <algorithm>
#include <cstdint>
#include <optional>

#include "common/io/loop.h"
#include "common/scsi/sense.h"
#include "common/scsi/status.h"
#include "mpio/limits.h"

namespace holdfast::mpio {

enum class RequestKind : uint8_t {
  read,
  inquire,  // INQUIRY, TEST UNIT READY, READ CAPACITY, RTPG, PERSISTENT RESERVE IN
  flush,
  write,  // WRITE, WRITE SAME
  unmap,
  compare_and_write,
  reserve_out,
  other,  // ORWRITE, EXTENDED COPY, START STOP UNIT, of the vendor
};
inline constexpr size_t kRequestKinds = 8;

enum class RetryClass : uint8_t {
  repeatable,   // R1: changes nothing; a flush that lands late harms nobody either
  idempotent,   // R2: may be repeated, but not overtaken
  conditional,  // R3: COMPARE AND WRITE: what it found tells whether it ran
  reservation,  // R3: PERSISTENT RESERVE OUT: READ FULL STATUS tells
  unique,       // R4: never repeated
};
inline constexpr size_t kRetryClasses = 5;
RetryClass retry_class(RequestKind kind);

enum class RequestOutcome : uint8_t {
  good,
  // The path went away.
  not_sent,
  sent,       // at least its first byte is with TCP
  data_sent,  // and at least the first byte of its data
  // Our own doing.
  timed_out,  // on a path that lives
  aborted,    // by our ABORT TASK, which answered that the task is no more
  // The target's answers.
  busy,
  task_set_full,
  reservation_conflict,
  aca_active,
  task_aborted,  // by another nexus, or by a reset
  unit_attention,
  access_transition,
  access_standby,  // or unavailable: not through this port
  becoming_ready,
  not_ready,
  medium_error,
  hardware_error,
  aborted_command,  // also CHECK CONDITION without sense, and data that is missing from an answer
  write_protected,
  no_space,
  out_of_range,
  unit_gone,  // LOGICAL UNIT NOT SUPPORTED
  illegal_request,
  miscompare,
  other_error,
};
inline constexpr size_t kRequestOutcomes = 26;

const char* to_string(RequestKind kind) noexcept;
const char* to_string(RequestOutcome outcome) noexcept;

// `sense`: of a CHECK CONDITION, where there was one.
RequestOutcome classify(scsi::Status status, const std::optional<scsi::Sense>& sense);

enum class RetryAction : uint8_t {
  complete,
  fail,                // with `error`
  again,               // the device's queue, any path
  again_later,         // after `delay`
  other_path,          // not the one it was on, if there is another
  check_access,        // REPORT TARGET PORT GROUPS; the request goes on elsewhere
  check_registration,  // READ KEYS on a path that works: unregistered path, or fenced node (EBADE)
  reprobe_path,        // its identity is in doubt; the request goes on elsewhere
  abort_task,          // ABORT TASK; `aborted` when it has answered, else the path is given up
  fence_then_again,    // not before FencePlan has cleared the session
  again_as_ghost,      // at once; its range is a ghost until the session is cleared
  fence_then_read_back,  // then after_read_back()
  read_back,             // the same, and nothing to fence: the command is known to have ended
};
const char* to_string(RetryAction action) noexcept;

struct RetryDecision {
  RetryAction action = RetryAction::complete;
  int32_t error = 0;  // an errno of io::BlockRequest
  io::Duration delay{};
  bool operator==(const RetryDecision&) const = default;
};

enum class CompletionMode : uint8_t { strict, ghost_tracked };

// Of one request, from its first submission to its completion.
struct RetryHistory {
  std::optional<io::Instant> deadline{};
  uint8_t path_changes = 0;
  uint8_t unit_attentions = 0;  // in a row
  uint8_t delays = 0;           // in a row
  uint8_t aborted = 0;
  uint8_t hardware_errors = 0;
  // It may have been executed, and nobody has found out yet.
  bool uncertain = false;
};

// Retries of one device: a burst, then a rate. Without a token a retry is late, not refused.
class RetryBudget {
 public:
  bool take(io::Instant now);
  uint64_t refused() const { return refused_; }

 private:
  double tokens_ = kRetryBurst;
  std::optional<io::Instant> filled_{};
  uint64_t refused_ = 0;
};

struct RetryContext {
  CompletionMode mode = CompletionMode::strict;
  RetryBudget* budget = nullptr;  // required
  io::Instant now{};
};

RetryDecision decide(RequestKind kind, RequestOutcome outcome, RetryHistory& history,
                     const RetryContext& context);

// The table alone, without limits.
RetryDecision retry_row(RequestOutcome outcome, RetryClass retry_class);

// What reading back has shown. COMPARE AND WRITE: the new data, the comparand, or neither; a
// comparand equal to the new data is `executed`. A reservation: what was asked for is so, the state
// of before, or neither.
enum class ReadBack : uint8_t { executed, unchanged, different };
RetryDecision after_read_back(RequestKind kind, ReadBack found, RetryHistory& history);

// How many requests a path may have in flight: halved by TASK SET FULL, grown by success.
class QueueLimit {
 public:
  explicit QueueLimit(uint32_t most = kQueueDepth) : most_(most), limit_(most) {}
  uint32_t limit() const { return limit_; }
  void on_task_set_full(uint32_t in_flight) {
    limit_ = std::max(1u, std::min(limit_, in_flight) / 2);
    good_ = 0;
  }
  void on_good() {
    if (limit_ == most_ || ++good_ < kGoodPerStep) return;
    good_ = 0;
    ++limit_;
  }

 private:
  uint32_t most_;
  uint32_t limit_;
  uint32_t good_ = 0;
};

}  // namespace holdfast::mpio
