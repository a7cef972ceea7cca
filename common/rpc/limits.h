#pragma once
// Every bound of the messages between nodes, and why. A hostile peer can reach each of them; what
// happens then is in docs/rpc.md.

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace holdfast::rpc {

using namespace std::chrono_literals;

// Payload of one frame, and so of one message: what is urgent waits behind at most two whole
// frames of our own. Whoever has more to say says it in several messages.
inline constexpr uint32_t kMaxPayload = 64 * 1024;

// Frames that wait to be sent, with their headers; each connection has both queues. A full one
// takes no more: Errc::limit.
inline constexpr size_t kUrgentQueueBytes = 256 * 1024;
inline constexpr size_t kBulkQueueBytes = 1024 * 1024;
static_assert(kUrgentQueueBytes > 2 * kMaxPayload && kBulkQueueBytes > 2 * kMaxPayload);

// Frames are encrypted until a send has this many bytes; one more frame may overshoot it.
inline constexpr size_t kSendBytes = 64 * 1024;
// For outgoing connections: what the kernel keeps back unsent delays what is urgent, too.
inline constexpr uint32_t kNotSentLowWater = 128 * 1024;
// Of one receive; a TLS record has at most this much data.
inline constexpr size_t kReceiveBytes = 16 * 1024;

// What TLS may want to send of its own will (handshake, alerts, key updates) while the peer takes
// nothing. A handshake needs some kilobytes.
inline constexpr size_t kMaxTlsOutput = 64 * 1024;
// A certificate chain of the peer, encoded.
inline constexpr size_t kMaxCertificateChain = 16 * 1024;
// Certificates of the peer between its own and the cluster's CA.
inline constexpr int kMaxChainDepth = 2;
// A PEM file.
inline constexpr size_t kMaxPemFile = 64 * 1024;
// The cluster's and a node's name.
inline constexpr size_t kMaxName = 63;

// Calls of one link that wait for their answer.
inline constexpr size_t kMaxCalls = 256;
// Requests of one peer that its user has not answered yet; more are refused as busy.
inline constexpr size_t kMaxUnanswered = 256;

// Connections of a listener that have not proved who they are: the oldest gives way to a new one,
// as a node needs milliseconds for it.
inline constexpr size_t kMaxHandshakes = 64;
// Of these from one address: further ones are closed at once.
inline constexpr size_t kMaxHandshakesPerAddress = 4;
// Nodes of a listener: more than a cluster may have.
inline constexpr size_t kMaxNodeLinks = 128;

// From the first byte of the connection attempt, or from accepting, to the peer's first word.
inline constexpr auto kHandshakeTimeout = 5s;
// A peer that has not taken one send by then is gone: at most about twice kSendBytes.
inline constexpr auto kSendTimeout = 10s;
// To tell the peer why a connection ends.
inline constexpr auto kFarewellTimeout = 500ms;

// Between attempts to connect: the double after each, and some of it by chance, so that the nodes
// of a cluster do not all come at once. A connection that held for kStableAfter begins anew.
inline constexpr auto kBackoffMin = 100ms;
inline constexpr auto kBackoffMax = 3s;
inline constexpr auto kStableAfter = 5s;

// Out of file descriptors: only the end of some connection helps.
inline constexpr auto kAcceptRetry = 100ms;
// This host lacks the address at present.
inline constexpr auto kAddressRetry = 2s;

}  // namespace holdfast::rpc
