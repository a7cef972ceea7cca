#pragma once
// Every bound of the protocol library. A peer can reach each of them, so none may grow with input.

#include <cstddef>
#include <cstdint>

namespace holdfast::iscsi {

inline constexpr size_t kBhsBytes = 48;
inline constexpr size_t kDigestBytes = 4;
// Room for an extended CDB AHS (4 + 244 bytes: a 260-byte CDB) and a bidirectional length AHS (8).
// The wire could ask for 1020.
inline constexpr size_t kMaxAhsBytes = 256;
static_assert(kMaxAhsBytes % 4 == 0 && kMaxAhsBytes <= 255 * 4);

// RFC 7143 13.12: in force until the receiver declares another one, and during all of the login.
inline constexpr uint32_t kDefaultDataSegmentBytes = 8192;
inline constexpr uint32_t kMinDataSegmentBytes = 512;
inline constexpr uint32_t kMaxDataSegmentBytes = 0xffffff;  // a 24-bit field

// RFC 7143 6.1: key names and simple values.
inline constexpr size_t kMaxKeyBytes = 63;
inline constexpr size_t kMaxSimpleValueBytes = 255;
// A whole value: a list, or a binary value (1024 bytes are 2050 characters of hexadecimal).
inline constexpr size_t kMaxValueBytes = 8192;
// Real initiators send about 25 keys in a login.
inline constexpr size_t kMaxKeysPerMessage = 128;

// One login, all of its requests together; the reassembly buffer exists only while the peer uses
// the C bit.
inline constexpr size_t kMaxNegotiationBytes = 64 * 1024;
// Login requests of one login, and text requests of one negotiation. A mutual CHAP login has 4;
// 64 KiB in segments of 8 KiB are 8 more.
inline constexpr uint32_t kMaxLoginPdus = 32;
inline constexpr uint32_t kMaxTextPdus = 1024;
static_assert(kMaxNegotiationBytes / kDefaultDataSegmentBytes < kMaxLoginPdus);

// A login response never exceeds what every initiator must take (RFC 7143 13.12), so its data can
// not be made to grow by what the initiator sends (CVE-2026-63887).
inline constexpr size_t kMaxLoginResponseBytes = kDefaultDataSegmentBytes;
// An answer to SendTargets: about 1000 targets with two portals each.
inline constexpr size_t kMaxTextResponseBytes = 256 * 1024;
static_assert(kMaxTextResponseBytes / kMinDataSegmentBytes < kMaxTextPdus);

// What an initiator keeps of an answer to SendTargets.
inline constexpr size_t kMaxSendTargetsBytes = 4 * 1024 * 1024;
inline constexpr size_t kMaxDiscoveredTargets = 4096;
inline constexpr size_t kMaxPortalsPerTarget = 64;

inline constexpr size_t kMaxNameBytes = 223;  // RFC 7143 4.2.7.1

// RFC 7143 12.1.3: the binary length of CHAP_C and CHAP_R.
inline constexpr size_t kMaxChapBinaryBytes = 1024;
inline constexpr size_t kMaxChapDigestBytes = 32;
inline constexpr size_t kMinChapChallengeBytes = 16;
inline constexpr size_t kMaxChapSecretBytes = 255;
// RFC 7143 9.2.1 wants 96 random bits unless IPsec protects the connection. Configuration warns.
inline constexpr size_t kMinGoodChapSecretBytes = 12;

}  // namespace holdfast::iscsi
