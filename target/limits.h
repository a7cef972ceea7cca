#pragma once
// Every bound of the target's data path, and why. A peer can reach each of them.

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "common/io/buffer_pool.h"
#include "common/scsi/limits.h"

namespace holdfast::target {

using namespace std::chrono_literals;

// One disk request and one solicited burst at most; also what we take in one data segment.
inline constexpr uint32_t kChunkBytes = 256 * 1024;
// Chunks of one command that are under way at once: enough to keep a disk busy with one big
// command.
inline constexpr uint32_t kMaxLiveChunks = 4;

// Commands a session may have: MaxCmdSN - ExpCmdSN + 1.
inline constexpr uint32_t kCommandWindow = 256;
// Of them on one logical unit; more get TASK SET FULL, so that one stalled unit leaves room in the
// window for the others.
inline constexpr uint32_t kMaxCommandsPerNexusUnit = 192;
// Requests of one shard that are with one unit's device at a time; the rest wait in order. A
// stalled unit thus holds a bounded part of the kernel's workers (uring_loop.cc) and, with the
// share below, of the shard's buffers.
inline constexpr uint32_t kMaxRequestsPerUnit = 256;
// Immediate commands do not take part in the window.
inline constexpr uint32_t kMaxImmediateCommands = 16;
static_assert(kMaxCommandsPerNexusUnit < kCommandWindow);

// Per shard. A slot is a few hundred bytes; without one a command gets TASK SET FULL.
inline constexpr size_t kMaxTasks = 8192;
inline constexpr size_t kMaxChunks = 8192;
inline constexpr size_t kMaxControlPdus = 4096;
// Answers (NOP-In, Reject, ...) that one connection has queued before we stop reading from it.
inline constexpr uint32_t kMaxControlPdusPerConnection = 32;

inline constexpr uint32_t kMaxOutstandingR2t = 8;

using io::kMaxSlabBytes;
using io::kMinSlabBytes;
static_assert(kMaxSlabBytes >= 2 * scsi::kMaxCompareAndWriteBlocks * 4096);
// What one session, and the requests with one unit's device, may hold of a shard's buffers: an
// initiator that takes or sends no data and a backing that stalls leave the rest to the others. One
// slab is always allowed.
inline constexpr uint64_t kSessionBufferShare = 8;  // an eighth
inline constexpr uint64_t kUnitBufferShare = 4;     // a quarter
// Of the session's share, what its commands on one unit may hold: when that one stalls, the session
// still has something for its other units.
inline constexpr uint64_t share_of_one_unit(uint64_t session_share) {
  return session_share / 4 * 3;
}
inline constexpr uint64_t kDefaultBufferMemoryBytes = 128 * 1024 * 1024;
inline constexpr uint64_t kMinBufferMemoryBytes = 8 * 1024 * 1024;

// Data of this size or more goes from the socket straight to its slab; for less, one copy out of
// the receive buffer is cheaper than another receive.
inline constexpr size_t kReceiveBufferBytes = 64 * 1024;
inline constexpr size_t kLoginReceiveBufferBytes = 8 * 1024;

// iovecs and headers of one send: about 20 PDUs of the usual three parts.
inline constexpr size_t kMaxSendIovecs = 64;
inline constexpr size_t kMaxSendPdus = 21;
static_assert(kMaxSendPdus * 3 <= kMaxSendIovecs);

// Parameter data of commands that are not media transfers (mode pages, REPORT LUNS, PR IN ...).
inline constexpr uint32_t kMaxParameterBytes = 64 * 1024;

// Extents looked at for one GET LBA STATUS: each may block in the file system for a moment.
inline constexpr uint32_t kMaxExtentQueries = 512;

inline constexpr auto kLoginTimeout = 15s;
// Silence before we ask with a NOP-In, and then before we give the connection up.
inline constexpr auto kIdleBeforePing = 30s;
inline constexpr auto kPingTimeout = 15s;
// A discovery session has no pings (RFC 7143 4.3): silent for so long it is over.
inline constexpr auto kIdleDiscovery = 60s;
// No byte accepted by a peer that we have something to send to; no Data-Out for an R2T.
inline constexpr auto kSendStallTimeout = 30s;
inline constexpr auto kDataOutTimeout = 30s;
// Between the answer to a logout (or a final login reject) and the peer's close.
inline constexpr auto kCloseLinger = 2s;
// Given to the initiator after an async logout request.
inline constexpr auto kLogoutRequestTime = 10s;
inline constexpr auto kHousekeeping = 1s;

}  // namespace holdfast::target
