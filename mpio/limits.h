#pragma once
// Every bound and constant of multipath, and why. docs/mpio.md shows where each one acts.

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace holdfast::mpio {

using namespace std::chrono_literals;

// A choice looks at every path: 64 keep it under a microsecond, and no site has as many.
inline constexpr size_t kMaxPaths = 64;
// Transitions kept; `path list --json` shows the latest. A path that flaps every two seconds fills
// it in a minute.
inline constexpr size_t kPathHistory = 64;

// Reconnecting: soon after the first failure, then seldom enough not to trouble a target that is
// starting. The spread keeps the hosts of a cluster from returning in one moment.
inline constexpr auto kFirstBackoff = 250ms;
inline constexpr auto kLongestBackoff = 10s;
// While no path of the device is usable, requests wait for the first that is.
inline constexpr auto kUrgentBackoff = 1s;
// Paths that are lost within this time of each other had one cause.
inline constexpr auto kFailTogether = 1s;
inline constexpr uint32_t kBackoffSpreadPercent = 20;
// A path that has been in service for so long begins again at the first back-off.
inline constexpr auto kStableService = 10s;

// Orderly ends. Together below the 5 s in which a shutdown must be over.
inline constexpr auto kDrainLimit = 3s;
inline constexpr auto kLogoutLimit = 1s;
// A fence that has not answered by then lets its path go on; its ghosts stay held. Longer than the
// timed hold, so that the plan itself ends first.
inline constexpr auto kFencingLimit = 20s;

// Our loop was late by more than this: what looks like silence of the peer may be ours.
inline constexpr auto kLoopLate = 100ms;
// Between looks while a verdict is near.
inline constexpr auto kSuspectLook = 50ms;
// A slow command keeps the path silent, and NOPs were answered all along: only a NOP that stays
// unanswered for so long makes the path suspect again.
inline constexpr auto kNopGrace = 100ms;

// Smoothing of service times: long against one request, short against a person's patience.
inline constexpr auto kServiceTau = 200ms;
// Requests that complete in one batch have the same time; each still counts a little.
inline constexpr uint32_t kLeastSampleWeight = 4;       // of 1024
inline constexpr uint32_t kGreatestSampleWeight = 512;  // one outlier is not the truth
// An idle path's service time is stale after so many times itself and the number of paths: what
// probes of a slow path cost is bounded by 1 in kStaleFactor. At least and at most:
inline constexpr uint32_t kStaleFactor = 16;
inline constexpr auto kStaleShortest = 10ms;
inline constexpr auto kStaleLongest = 1s;
// A request in flight for more than so many service times is the better estimate.
inline constexpr uint32_t kAgeFactor = 4;
// Costs that differ by less than an eighth are equal: a frozen estimate is not more exact.
inline constexpr uint32_t kTieShare = 8;
// A path may have 1.5 times in flight what it completes in this window, and a few to begin with.
inline constexpr auto kShareWindow = 50ms;
inline constexpr uint32_t kShareFloor = 4;

// Failback: stable for so long, then a tenth of the weight, growing to all of it.
inline constexpr auto kFailbackHold = 10s;
inline constexpr auto kRamp = 5s;
inline constexpr uint32_t kFullWeight = 1000;
inline constexpr uint32_t kRampStart = 100;
inline constexpr uint32_t kGreatestWeight = 100 * kFullWeight;  // an administrator's 100:1

// Requests per path: the target's window may be larger, the medium seldom gains from it.
inline constexpr uint32_t kQueueDepth = 128;
inline constexpr uint32_t kGoodPerStep = 1000;  // completions until TASK SET FULL is half forgotten

// Ghosts: a full queue on several paths that fail together. When full, ranges are merged, which
// only makes others wait that need not.
inline constexpr size_t kMaxGhosts = 1024;

// Retries of one request.
inline constexpr uint8_t kMaxPathChanges = 8;
inline constexpr uint8_t kMaxUnitAttentions = 8;  // in a row; each is reported once per nexus
inline constexpr uint8_t kMaxOtherPathOnHardwareError = 1;
inline constexpr uint8_t kMaxAborted = 5;  // ABORTED COMMAND again and again is an error
inline constexpr auto kBusyDelay = 10ms;   // BUSY, TASK SET FULL: doubled each time
inline constexpr auto kLongestBusyDelay = 1s;
inline constexpr auto kTransitionDelay = 100ms;  // ALUA transition, becoming ready: doubled
inline constexpr auto kLongestTransitionDelay = 1s;
// Retries of a device: a burst for one path's whole queue, then this many a second.
inline constexpr uint32_t kRetryBurst = 256;
inline constexpr uint32_t kRetriesPerSecond = 1000;
inline constexpr auto kStormDelay = 100ms;  // without a token
// After a reset by anybody a command that was under way is asked for when it is silent so long.
inline constexpr auto kAnswerAfterReset = 1s;
// The same unit attention comes once per path.
inline constexpr auto kUnitAttentionDedupe = 2s;

// Fence: how long a write of a dead session may take to end at a target whose bound nobody stated.
inline constexpr auto kDefaultGhostHold = 15s;
// A fence step that fails is tried again: once, the next step or the hold is better than a third.
inline constexpr uint8_t kFenceTries = 2;
inline constexpr auto kFenceRetry = 5s;       // then all steps once more
inline constexpr auto kFenceStepLimit = 15s;  // of a step, where no hold bounds it

// Marginal paths.
inline constexpr auto kHealthWindow = 2s;
inline constexpr uint32_t kHealthWindows = 5;
inline constexpr uint32_t kBadWindows = 3;      // of the last kHealthWindows
inline constexpr uint32_t kMarginalFactor = 5;  // p99 against the siblings
inline constexpr auto kMarginalFloor = 1ms;     // and so much more: less is for the policy to weigh
// Below this a p99 says nothing. Probe reads at 10 Hz give 20 in a window.
inline constexpr uint32_t kHealthSamples = 16;
inline constexpr uint32_t kRetransmitPermille = 5;  // 0.5 %
inline constexpr uint32_t kHealthSegments = 200;    // one lost segment of 200 is not yet 0.5 %
inline constexpr uint32_t kFlaps = 3;
inline constexpr auto kFlapWindow = 10min;
inline constexpr auto kFirstQuarantine = 60s;  // good for so long; doubled on relapse
inline constexpr auto kLongestQuarantine = 15min;
inline constexpr auto kMarginalProbe = 100ms;  // one probe read at a time

// The driver. Requests of one device that are executed at a time; more wait where they are.
inline constexpr size_t kMaxJobs = 1024;
inline constexpr size_t kMaxTasks = 2048;
// One command: large enough to be cheap, small enough that two paths share a large request.
inline constexpr uint64_t kMaxCommandBytes = 1024 * 1024;
inline constexpr uint64_t kMaxUnmapBytes = 1024 * 1024 * 1024;
// Until ABORT TASK is answered; then the path is given up, which ends the command too.
inline constexpr auto kAbortTimeout = 2s;
// A path that comes back begins with so many requests in flight; each answer allows one more.
inline constexpr uint32_t kSlowStart = 8;
inline constexpr auto kHousekeeping = 250ms;
// PERSISTENT RESERVE IN: so many keys. A cluster of 64 nodes has 8 registrations of each.
inline constexpr size_t kReservationBytes = 16 * 1024;
inline constexpr auto kReservationTimeout = 5s;

static_assert(kDrainLimit + kLogoutLimit < 5s);
static_assert(kFencingLimit > kDefaultGhostHold);
static_assert(kBadWindows <= kHealthWindows);

}  // namespace holdfast::mpio
