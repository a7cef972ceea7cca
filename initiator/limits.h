#pragma once
// Every bound of the initiator, and why. A hostile target can reach each of them.

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "common/io/network.h"

namespace holdfast::initiator {

using namespace std::chrono_literals;

// What we take in one data segment; a target sends Data-In of at most this.
inline constexpr uint32_t kMaxDataSegment = 256 * 1024;
// Commands of one session, sent or waiting for the target's window. A slot is a pointer.
inline constexpr uint32_t kMaxCommands = 1024;
inline constexpr unsigned kSlotBits = 10;
static_assert(kMaxCommands == 1u << kSlotBits);
// Offered as MaxOutstandingR2T; a target that has more open than agreed breaks the protocol.
inline constexpr uint16_t kMaxOutstandingR2t = 4;
// Parts of one command's memory. What is sent of it in one PDU must fit one send.
inline constexpr size_t kMaxDataIovecs = 48;
static_assert(kMaxDataIovecs + 2 <= io::kMaxIovecs);

// NOP-Outs, task management, text and logout requests that wait to be sent, and answers to the
// target's pings. A target that pings faster than it takes our answers is cut off.
inline constexpr size_t kMaxControlPdus = 32;
// Of these; more functions than that wait, so that they leave room for answers to pings.
inline constexpr size_t kMaxManagementPdus = 16;
static_assert(kMaxManagementPdus < kMaxControlPdus);

// A send takes PDUs until it has this many bytes, and no PDU has more data whatever the target
// would take: what is urgent (a ping, an abort) waits for less than twice as many before it.
inline constexpr size_t kMaxSendBytes = 256 * 1024;
inline constexpr size_t kMaxSendPdus = 24;

// Data of this size or more goes from the socket straight to its place.
inline constexpr size_t kReceiveBufferBytes = 64 * 1024;

// Parameter data of a text exchange, all responses together.
inline constexpr size_t kMaxTextBytes = 4 * 1024 * 1024;
inline constexpr uint32_t kMaxTextResponses = 4096;

inline constexpr auto kConnectTimeout = 1s;
inline constexpr auto kLoginTimeout = 2s;
inline constexpr auto kLogoutTimeout = 5s;
// The command line answers within 2 s.
inline constexpr auto kDiscoveryTimeout = 1800ms;
inline constexpr auto kLoginTestTimeout = 1800ms;

}  // namespace holdfast::initiator
