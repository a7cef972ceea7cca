#pragma once
// The sectors of docs/qdisk-format.md, field by field. For layout.cc only.

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/base/endian.h"
#include "qdisk/layout.h"

namespace holdfast::qdisk::wire {

using base::le16;
using base::le32;
using base::le64;

using Magic = std::array<uint8_t, 6>;
inline constexpr Magic kMagic = {'Q', 'D', 'I', 'S', 'K', 1};
inline constexpr uint8_t kVersion = 1;

enum class Kind : uint8_t {
  superblock = 'S',
  heartbeat = 'H',
  ballot = 'B',
  mail = 'M',
  decided = 'D',
  config = 'C',
};

template <size_t kSize>
using Reserved = std::array<uint8_t, kSize>;

// The same in every version: what it says of version and place can be believed where the checksum
// is right.
struct Header {
  Magic magic{};
  uint8_t kind = 0;
  uint8_t version = 0;
  le32 crc{};   // of cluster uuid, le64 of the offset, and the sector with zeroes here
  le32 slot{};  // the offset in kSlotBytes
};
static_assert(base::WireStruct<Header, 16>);
static_assert(offsetof(Header, kind) == 6 && offsetof(Header, version) == 7);
static_assert(offsetof(Header, crc) == 8 && offsetof(Header, slot) == 12);

struct Timers {
  le32 hb_net_ms{}, net_dead_ms{}, hb_disk_ms{}, disk_io_to_ms{};
  le32 lease_ms{}, kill_ms{}, watchdog_ms{}, takeover_ms{}, margin_ms{};
};
static_assert(base::WireStruct<Timers, 36>);

struct Superblock {
  Header header;
  Uuid cluster{};  // here in every version
  Uuid witness{};
  le64 generation{};
  le32 sector_bytes{};
  le32 node_slots{};
  Timers timers;
  uint8_t name_length = 0;
  Reserved<3> reserved_1{};
  std::array<uint8_t, kMaxClusterNameBytes> name{};
  Reserved<344> reserved_2{};
};
static_assert(base::WireStruct<Superblock, kRecordBytes>);
static_assert(offsetof(Superblock, cluster) == 16 && offsetof(Superblock, witness) == 32);
static_assert(offsetof(Superblock, generation) == 48);
static_assert(offsetof(Superblock, sector_bytes) == 56);
static_assert(offsetof(Superblock, timers) == 64 && offsetof(Superblock, name) == 104);

inline constexpr uint8_t kFlagRemembers = 1 << 0;
inline constexpr uint8_t kFlagFencedTimed = 1 << 1;
inline constexpr uint8_t kFlagSettling = 1 << 2;

struct Heartbeat {
  Header header;
  uint8_t node = 0;
  uint8_t state = 0;
  le16 volumes_ok{};
  le32 incarnation{};
  le64 sequence{};
  le64 boottime_ns{};
  le64 epoch{};
  std::array<le64, kMaxNetworks> heard_net{};
  le64 heard_disk{};
  le64 reservation_key{};
  le32 io_p99_us{};
  uint8_t flags = 0;
  uint8_t watchdog = 0;
  Reserved<2> reserved_1{};
  le64 quiesced{};
  le64 fenced{};
  Reserved<408> reserved_2{};
};
static_assert(base::WireStruct<Heartbeat, kRecordBytes>);
static_assert(offsetof(Heartbeat, node) == 16 && offsetof(Heartbeat, incarnation) == 20);
static_assert(offsetof(Heartbeat, sequence) == 24 && offsetof(Heartbeat, epoch) == 40);
static_assert(offsetof(Heartbeat, heard_net) == 48);
static_assert(offsetof(Heartbeat, heard_disk) == 64);
static_assert(offsetof(Heartbeat, io_p99_us) == 80 && offsetof(Heartbeat, flags) == 84);
static_assert(offsetof(Heartbeat, watchdog) == 85);
static_assert(offsetof(Heartbeat, quiesced) == 88 && offsetof(Heartbeat, fenced) == 96);

inline constexpr uint8_t kFlagWitnessVotes = 1 << 0;
inline constexpr uint8_t kFlagForced = 1 << 1;

struct Decision {
  le64 epoch{};
  le64 voters{};
  le64 config_version{};
  Sha256 config_digest{};
  Uuid witness{};
  uint8_t flags = 0;
  Reserved<3> reserved{};
  std::array<uint8_t, kMaxVolumes> coordinators{};
  std::array<le32, kMaxVolumes> terms{};
  std::array<le32, kMaxNodes> incarnations{};
};
static_assert(base::WireStruct<Decision, 412>);
static_assert(offsetof(Decision, config_version) == 16 && offsetof(Decision, witness) == 56);
static_assert(offsetof(Decision, flags) == 72 && offsetof(Decision, coordinators) == 76);
static_assert(offsetof(Decision, terms) == 92 && offsetof(Decision, incarnations) == 156);

struct Ballot {
  Header header;
  uint8_t node = 0;
  Reserved<3> reserved_1{};
  le32 incarnation{};
  le64 epoch{};
  le64 mbal{};
  le64 bal{};
  Decision value;  // all zero where bal is 0
  Reserved<52> reserved_2{};
};
static_assert(base::WireStruct<Ballot, kRecordBytes>);
static_assert(offsetof(Ballot, node) == 16 && offsetof(Ballot, incarnation) == 20);
static_assert(offsetof(Ballot, epoch) == 24 && offsetof(Ballot, value) == 48);

struct Mail {
  Header header;
  uint8_t from = 0;
  uint8_t kind = 0;
  Reserved<2> reserved_1{};
  le32 incarnation{};
  le64 sequence{};
  le64 to{};
  le64 epoch{};
  Reserved<464> reserved_2{};
};
static_assert(base::WireStruct<Mail, kRecordBytes>);
static_assert(offsetof(Mail, from) == 16 && offsetof(Mail, incarnation) == 20);
static_assert(offsetof(Mail, to) == 32 && offsetof(Mail, epoch) == 40);

struct Decided {
  Header header;
  Decision value;
  Reserved<84> reserved{};
};
static_assert(base::WireStruct<Decided, kRecordBytes>);
static_assert(offsetof(Decided, value) == 16);

struct Config {
  Header header;
  le64 version{};
  Sha256 digest{};
  le32 length{};
  Reserved<4> reserved_1{};
  Sha256 sha256{};
  Reserved<416> reserved_2{};
};
static_assert(base::WireStruct<Config, kRecordBytes>);
static_assert(offsetof(Config, version) == 16 && offsetof(Config, length) == 56);
static_assert(offsetof(Config, sha256) == 64);

}  // namespace holdfast::qdisk::wire
