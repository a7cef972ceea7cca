#pragma once
// The witness on disk: where each record lies, and its 512 bytes to and from the types of this
// folder. Pure. docs/qdisk-format.md describes it byte by byte, and says why it is so.
//
// encode() takes values that this program has made: one that decode() would refuse is a bug of
// ours. decode_...() takes whatever a disk may hold.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "qdisk/decision.h"
#include "qdisk/heartbeat.h"
#include "qdisk/timers.h"

namespace holdfast::qdisk {

// What every disk writes whole or not at all; a record is no longer.
inline constexpr size_t kRecordBytes = 512;
// One record lies at the start of each slot, the rest is zero: one block of a disk with 4 KiB
// sectors, so that no write has to touch what belongs to another record.
inline constexpr size_t kSlotBytes = 4096;

inline constexpr uint64_t kMinWitnessBytes = uint64_t{64} << 20;
inline constexpr uint64_t kHeartbeatArea = 0x01'0000;  // the superblocks lie at 0
inline constexpr uint64_t kBallotArea = 0x09'0000;
inline constexpr uint64_t kMailArea = 0x0d'0000;
inline constexpr uint64_t kDecidedArea = 0x11'0000;
inline constexpr uint64_t kRecordsEnd =
    0x15'0000;  // one read of so much shows all but the configuration
inline constexpr uint64_t kConfigArea = 0x20'0000;
inline constexpr uint64_t kConfigCopyBytes = 0x40'0000;
// The document follows in the slots behind its header.
inline constexpr size_t kMaxConfigBytes = kConfigCopyBytes - kSlotBytes;
inline constexpr unsigned kCopies = 2;  // of the superblock, of the configuration, of a heartbeat

constexpr uint64_t superblock_offset(unsigned copy) { return copy % kCopies * kSlotBytes; }
// A node writes its two in turn: the write under way is never over the record that counts.
constexpr uint64_t heartbeat_offset(NodeId node, uint64_t sequence) {
  return kHeartbeatArea + (node * kCopies + sequence % kCopies) * kSlotBytes;
}
constexpr uint64_t ballot_offset(NodeId node) { return kBallotArea + node * kSlotBytes; }
// What this node says, not what is said to it: every slot has one writer.
constexpr uint64_t mail_offset(NodeId node) { return kMailArea + node * kSlotBytes; }
constexpr uint64_t decided_offset(Epoch epoch) {
  return kDecidedArea + count_of(epoch) % kDecidedSlots * kSlotBytes;
}
constexpr uint64_t config_offset(unsigned copy) {
  return kConfigArea + copy % kCopies * kConfigCopyBytes;
}

static_assert(heartbeat_offset(kMaxNodes - 1, 1) + kSlotBytes == kBallotArea);
static_assert(ballot_offset(kMaxNodes - 1) + kSlotBytes == kMailArea);
static_assert(mail_offset(kMaxNodes - 1) + kSlotBytes == kDecidedArea);
static_assert(decided_offset(kDecidedSlots - 1) + kSlotBytes == kRecordsEnd);
static_assert(config_offset(1) + kConfigCopyBytes <= kMinWitnessBytes);

inline constexpr size_t kMaxClusterNameBytes = 64;
// No time of a cluster is near it; below it no sum of times overflows.
inline constexpr Milliseconds kMaxTimer{3'600'000};

struct Superblock {
  uint64_t generation =
      0;  // 1 when formatted, one more with each change; the copy with more counts
  Uuid cluster{};
  Uuid witness{};
  std::string cluster_name;   // 1 to kMaxClusterNameBytes, no control characters
  uint32_t sector_bytes = 0;  // 512 or 4096
  Timers timers;
  bool operator==(const Superblock&) const = default;
};

// Advisory: whoever misses it finds out in another way. Nothing may depend on it.
enum class MailKind : uint8_t {
  none = 0,
  look,   // something has changed here: read at once instead of at the next heartbeat
  leave,  // you are no member of the epoch: stop
};

const char* to_string(MailKind kind);

struct Mail {
  NodeId from = kNoNode;
  Incarnation incarnation = 0;
  uint64_t sequence = 0;  // a reader looks for a change of (incarnation, sequence)
  MailKind kind = MailKind::none;
  NodeSet to;
  Epoch epoch = 0;  // the newest that the writer knew
  bool operator==(const Mail&) const = default;
};

// Precedes one of the two copies of the configuration document; written after it.
struct ConfigHeader {
  ConfigTag tag;
  uint32_t length = 0;
  Sha256 sha256{};  // of the `length` bytes as they lie on the disk
  bool operator==(const ConfigHeader&) const = default;
};

// Why a record is refused.
enum class Fault : uint8_t {
  none = 0,
  magic,     // no record at all
  checksum,  // damaged, or of another cluster
  place,     // a whole record of this cluster, of another place: a write went astray
  version,   // whole, but written by a program of later days
  kind,      // whole, but of another kind
  reserved,  // bits that mean nothing are set
  owner,     // it says to be of another node or epoch than lie in this slot
  value,     // a field has a value that it cannot have
  copies,    // the two superblocks are of two clusters, or differ and are equally new
};
const char* to_string(Fault fault);

// A record is empty (all bytes zero), valid, or corrupt.
template <class T>
struct Decoded {
  std::optional<T> value;  // valid
  Fault fault = Fault::none;
  bool valid() const { return value.has_value(); }
  bool corrupt() const { return fault != Fault::none; }
  bool empty() const { return !valid() && !corrupt(); }
  bool operator==(const Decoded&) const = default;
};

using Sector = std::span<const uint8_t, kRecordBytes>;
using MutableSector = std::span<uint8_t, kRecordBytes>;

// The whole sector is written. It belongs at ..._offset() of what is encoded.
void encode(const Superblock& superblock, unsigned copy, MutableSector out);
void encode(const Heartbeat& heartbeat, const Uuid& cluster, MutableSector out);
void encode(const BallotBlock& block, NodeId node, const Uuid& cluster, MutableSector out);
void encode(const Mail& mail, const Uuid& cluster, MutableSector out);
void encode(const Decision& decided, const Uuid& cluster, MutableSector out);
void encode(const ConfigHeader& header, unsigned copy, const Uuid& cluster, MutableSector out);

Decoded<Superblock> decode_superblock(Sector in, unsigned copy);
// `parity`: of the sequence numbers that lie at the place it was read from.
Decoded<Heartbeat> decode_heartbeat(Sector in, const Uuid& cluster, NodeId node, unsigned parity);
Decoded<BallotBlock> decode_ballot(Sector in, const Uuid& cluster, NodeId node);
Decoded<Mail> decode_mail(Sector in, const Uuid& cluster, NodeId node);
// `slot`: 0 .. kDecidedSlots - 1. The caller compares epochs: the slot keeps the epoch of an
// earlier round of the ring until the next is written.
Decoded<Decision> decode_decided(Sector in, const Uuid& cluster, size_t slot);
Decoded<ConfigHeader> decode_config(Sector in, const Uuid& cluster, unsigned copy);

// The copy that counts. A copy of a later version makes both useless: what it says is newer.
Decoded<Superblock> newest(const Decoded<Superblock>& a, const Decoded<Superblock>& b);
// The later of a node's two; corrupt only when neither is valid.
Decoded<Heartbeat> newest(const Decoded<Heartbeat>& a, const Decoded<Heartbeat>& b);

// "6f1c0a52-9e7b-4c39-8f1e-0d2a4b6c8e10"
std::string to_text(const Uuid& uuid);
// Either case. Nothing: it is none.
std::optional<Uuid> parse_uuid(std::string_view text);

}  // namespace holdfast::qdisk
