#pragma once
// Records for tests: fixed ones, whose bytes are known, and random ones.

#include <array>
#include <span>
#include <string>

#include "common/base/random.h"
#include "qdisk/layout.h"

namespace holdfast::qdisk {

using SectorBytes = std::array<uint8_t, kRecordBytes>;

inline Uuid sample_uuid(uint8_t first) {
  Uuid uuid;
  for (size_t i = 0; i < uuid.size(); ++i) uuid[i] = static_cast<uint8_t>(first + i);
  return uuid;
}
inline const Uuid kSampleCluster = sample_uuid(0xa0);

inline Sha256 sample_digest(uint8_t first) {
  Sha256 digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(first + i);
  return digest;
}

inline Superblock sample_superblock() {
  return {.generation = 1,
          .cluster = kSampleCluster,
          .witness = sample_uuid(0xb0),
          .cluster_name = "store",
          .sector_bytes = 512,
          .timers = {}};
}

inline Heartbeat sample_heartbeat() {
  return {.node = 2,
          .state = NodeState::member,
          .incarnation = 7,
          .sequence = 4711,
          .boottime_ns = 123'456'789'000,
          .epoch = 0x0000'0000'0000'0105,
          .heard_net = {NodeSet(0b111), NodeSet(0b101)},
          .heard_disk = NodeSet(0b111),
          .quiesced = 0x0105,
          .fenced = 0x0104,
          .fenced_timed = true,
          .volumes_ok = 0x8001,
          .reservation_key = 0x51abcd02'00000007,
          .io_p99_us = 1800};
}

inline Decision sample_decision() {
  Decision decision{.epoch = (Epoch{1} << kGenerationShift) | (Epoch{2} << kForcedByShift) | 0x105,
                    .voters = NodeSet(0b111),
                    .witness_votes = true,
                    .forced = true,
                    .witness = sample_uuid(0xb0),
                    .config = {.version = 12, .digest = sample_digest(0x40)}};
  decision.incarnations[0] = 5;
  decision.incarnations[2] = 7;
  decision.incarnations[63] = 0x01020304;
  decision.volumes[0] = {.coordinator = 2, .term = 9};
  decision.volumes[15] = {.coordinator = 63, .term = 0x05060708};
  return decision;
}

inline BallotBlock sample_ballot() {
  return {.epoch = sample_decision().epoch,
          .mbal = 0x402,
          .bal = 0x302,
          .incarnation = 7,
          .value = sample_decision()};
}

inline Mail sample_mail() {
  return {.from = 2,
          .incarnation = 7,
          .sequence = 3,
          .kind = MailKind::leave,
          .to = NodeSet(0b10),
          .epoch = 0x105};
}

inline ConfigHeader sample_config() {
  return {.tag = {.version = 12, .digest = sample_digest(0x40)},
          .length = 1234,
          .sha256 = sample_digest(0x60)};
}

// Each of these is a value that can be encoded.
class RandomRecords {
 public:
  explicit RandomRecords(uint64_t seed) : random_(seed) {}

  uint64_t number() { return random_.next(); }
  NodeId node() { return static_cast<NodeId>(random_.below(kMaxNodes)); }
  uint32_t positive() { return static_cast<uint32_t>(1 + random_.below(UINT32_MAX)); }
  template <size_t kSize>
  std::array<uint8_t, kSize> bytes() {
    std::array<uint8_t, kSize> out;
    random_.fill(out);
    return out;
  }

  Superblock superblock() {
    const auto time = [this] { return Milliseconds(1 + random_.below(3'600'000)); };
    Superblock made{.generation = 1 + random_.below(1000),
                    .cluster = bytes<16>(),
                    .witness = bytes<16>(),
                    .cluster_name = std::string(1 + random_.below(kMaxClusterNameBytes), 'n'),
                    .sector_bytes = random_.below(2) == 0 ? 512U : 4096U};
    made.timers = {time(), time(), time(), time(), time(), time(), time(), time(), time()};
    return made;
  }
  Heartbeat heartbeat() {
    return {.node = node(),
            .state = static_cast<NodeState>(random_.below(4)),
            .incarnation = positive(),
            .sequence = number(),
            .boottime_ns = number(),
            .epoch = number(),
            .heard_net = {NodeSet(number()), NodeSet(number())},
            .heard_disk = NodeSet(number()),
            .quiesced = number(),
            .fenced = number(),
            .fenced_timed = random_.below(2) == 0,
            .volumes_ok = static_cast<uint16_t>(number()),
            .reservation_key = number(),
            .io_p99_us = static_cast<uint32_t>(number()),
            .remembers = random_.below(2) == 0,
            .watchdog = static_cast<WatchdogKind>(random_.below(3)),
            .settling = random_.below(2) == 0};
  }
  Decision decision() {
    Decision made{.epoch = number() | 1,
                  .voters = NodeSet(number()),
                  .witness_votes = random_.below(2) == 0,
                  .forced = random_.below(2) == 0,
                  .witness = bytes<16>(),
                  .config = {.version = number(), .digest = bytes<32>()}};
    for (Incarnation& each : made.incarnations) each = static_cast<Incarnation>(number());
    for (VolumeOwner& each : made.volumes) {
      each = {.coordinator = random_.below(4) == 0 ? kNoNode : node(), .term = positive()};
    }
    return made;
  }
  BallotBlock ballot(NodeId node) {
    BallotBlock made{.epoch = number() | 1, .incarnation = positive()};
    made.mbal = (2 + random_.below(uint64_t{1} << 50)) << 8 | node;
    if (random_.below(3) == 0) return made;
    made.bal = made.mbal - (random_.below(2) << 8);
    made.value = decision();
    made.value.epoch = made.epoch;
    return made;
  }
  Mail mail() {
    return {.from = node(),
            .incarnation = positive(),
            .sequence = number(),
            .kind = random_.below(2) == 0 ? MailKind::look : MailKind::leave,
            .to = NodeSet(number()),
            .epoch = number()};
  }
  ConfigHeader config() {
    return {.tag = {.version = number(), .digest = bytes<32>()},
            .length = static_cast<uint32_t>(random_.below(kMaxConfigBytes + 1)),
            .sha256 = bytes<32>()};
  }

 private:
  base::SeededRandom random_;
};

}  // namespace holdfast::qdisk
