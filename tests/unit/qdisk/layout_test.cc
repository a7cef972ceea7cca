#include "qdisk/layout.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "common/base/crc32c.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

using base::Bytes;

constexpr int kRandomRecords = 200;

// One kind of record: a sector of it, where it lies, and what reading it there says.
struct Sample {
  const char* name;
  uint64_t offset;
  SectorBytes sector;
  std::function<Fault(const SectorBytes&, const Uuid& cluster)> fault;
};

template <class T>
Fault fault_of(const Decoded<T>& decoded) {
  EXPECT_EQ(decoded.valid(), decoded.fault == Fault::none);
  return decoded.fault;
}

std::vector<Sample> samples() {
  std::vector<Sample> out;
  SectorBytes sector;
  encode(sample_superblock(), 1, sector);
  // Its cluster is in it: none is given.
  out.push_back({"superblock", 0x1000, sector, [](const SectorBytes& in, const Uuid&) {
                   return fault_of(decode_superblock(in, 1));
                 }});
  encode(sample_heartbeat(), kSampleCluster, sector);
  out.push_back({"heartbeat", 0x15000, sector, [](const SectorBytes& in, const Uuid& cluster) {
                   return fault_of(decode_heartbeat(in, cluster, 2, 1));
                 }});
  encode(sample_ballot(), 2, kSampleCluster, sector);
  out.push_back({"ballot", 0x92000, sector, [](const SectorBytes& in, const Uuid& cluster) {
                   return fault_of(decode_ballot(in, cluster, 2));
                 }});
  encode(sample_mail(), kSampleCluster, sector);
  out.push_back({"mail", 0xd2000, sector, [](const SectorBytes& in, const Uuid& cluster) {
                   return fault_of(decode_mail(in, cluster, 2));
                 }});
  encode(sample_decision(), kSampleCluster, sector);
  out.push_back({"decided", 0x115000, sector, [](const SectorBytes& in, const Uuid& cluster) {
                   return fault_of(decode_decided(in, cluster, 5));
                 }});
  encode(sample_config(), 1, kSampleCluster, sector);
  out.push_back({"config", 0x600000, sector, [](const SectorBytes& in, const Uuid& cluster) {
                   return fault_of(decode_config(in, cluster, 1));
                 }});
  return out;
}

// As the page says, apart from the product's own code.
void reseal(SectorBytes& sector, uint64_t offset, const Uuid& cluster = kSampleCluster) {
  const base::le32 slot(static_cast<uint32_t>(offset / 4096));
  std::memcpy(sector.data() + 12, &slot, 4);
  std::memset(sector.data() + 8, 0, 4);
  std::vector<uint8_t> all(cluster.begin(), cluster.end());
  for (unsigned i = 0; i < 8; ++i) all.push_back(static_cast<uint8_t>(offset >> 8 * i));
  all.insert(all.end(), sector.begin(), sector.end());
  const base::le32 crc(base::crc32c(all));
  std::memcpy(sector.data() + 8, &crc, 4);
}

SectorBytes patched(const Sample& sample, size_t at, uint8_t byte) {
  SectorBytes out = sample.sector;
  out[at] = byte;
  reseal(out, sample.offset);
  return out;
}

TEST(Layout, RandomValuesComeBack) {
  RandomRecords random(1);
  SectorBytes sector;
  for (int i = 0; i < kRandomRecords; ++i) {
    const unsigned copy = random.number() % 2;
    const Uuid cluster = random.bytes<16>();
    const NodeId node = random.node();
    const Superblock superblock = random.superblock();
    encode(superblock, copy, sector);
    EXPECT_EQ(decode_superblock(sector, copy).value, superblock);
    const Heartbeat heartbeat = random.heartbeat();
    encode(heartbeat, cluster, sector);
    EXPECT_EQ(
        decode_heartbeat(sector, cluster, heartbeat.node, heartbeat.sequence & 1 ? 1 : 0).value,
        heartbeat);
    const BallotBlock ballot = random.ballot(node);
    encode(ballot, node, cluster, sector);
    EXPECT_EQ(decode_ballot(sector, cluster, node).value, ballot);
    const Mail mail = random.mail();
    encode(mail, cluster, sector);
    EXPECT_EQ(decode_mail(sector, cluster, mail.from).value, mail);
    const Decision decision = random.decision();
    encode(decision, cluster, sector);
    EXPECT_EQ(decode_decided(sector, cluster, count_of(decision.epoch) % kDecidedSlots).value,
              decision);
    const ConfigHeader config = random.config();
    encode(config, copy, cluster, sector);
    EXPECT_EQ(decode_config(sector, cluster, copy).value, config);
  }
}

TEST(Layout, EqualValuesAreEqualBytes) {
  for (int i = 0; i < 2; ++i) {
    SectorBytes a, b;
    a.fill(0xff);
    b.fill(0x55);
    encode(sample_decision(), kSampleCluster, a);
    encode(sample_decision(), kSampleCluster, b);
    EXPECT_EQ(a, b);
  }
}

TEST(Layout, EverythingFitsThatACompleteClusterSays) {
  Decision full{.epoch = UINT64_MAX,
                .voters = NodeSet(UINT64_MAX),
                .witness_votes = true,
                .forced = true,
                .config = {.version = UINT64_MAX}};
  full.witness.fill(0xff);
  full.config.digest.fill(0xff);
  full.incarnations.fill(UINT32_MAX);
  full.volumes.fill({.coordinator = kMaxNodes - 1, .term = UINT32_MAX});
  SectorBytes sector;
  encode(full, kSampleCluster, sector);
  EXPECT_EQ(decode_decided(sector, kSampleCluster, 63).value, full);
  const BallotBlock block{.epoch = UINT64_MAX,
                          .mbal = UINT64_MAX << 8 | 63,
                          .bal = UINT64_MAX << 8 | 63,
                          .incarnation = UINT32_MAX,
                          .value = full};
  encode(block, 63, kSampleCluster, sector);
  EXPECT_EQ(decode_ballot(sector, kSampleCluster, 63).value, block);
}

TEST(Layout, ABlockWithoutAValueHasNone) {
  BallotBlock block = sample_ballot();
  block.bal = 0;
  SectorBytes sector;
  encode(block, 2, kSampleCluster, sector);
  EXPECT_TRUE(std::all_of(sector.begin() + 48, sector.end(), [](uint8_t b) { return b == 0; }));
  block.value = {};
  EXPECT_EQ(decode_ballot(sector, kSampleCluster, 2).value, block);
}

TEST(Layout, ZeroesAreEmpty) {
  const SectorBytes zeroes{};
  EXPECT_TRUE(decode_superblock(zeroes, 0).empty());
  EXPECT_TRUE(decode_heartbeat(zeroes, kSampleCluster, 0, 0).empty());
  EXPECT_TRUE(decode_ballot(zeroes, kSampleCluster, 0).empty());
  EXPECT_TRUE(decode_mail(zeroes, kSampleCluster, 0).empty());
  EXPECT_TRUE(decode_decided(zeroes, kSampleCluster, 0).empty());
  EXPECT_TRUE(decode_config(zeroes, kSampleCluster, 0).empty());
  SectorBytes almost{};
  almost[511] = 1;
  EXPECT_EQ(decode_mail(almost, kSampleCluster, 0).fault, Fault::magic);
  EXPECT_FALSE(decode_mail(almost, kSampleCluster, 0).empty());
}

TEST(Layout, EverySingleFlippedBitIsNoticed) {
  for (const Sample& sample : samples()) {
    ASSERT_EQ(sample.fault(sample.sector, kSampleCluster), Fault::none) << sample.name;
    for (size_t bit = 0; bit < kRecordBytes * 8; ++bit) {
      SectorBytes flipped = sample.sector;
      flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      EXPECT_EQ(sample.fault(flipped, kSampleCluster), bit < 48 ? Fault::magic : Fault::checksum)
          << sample.name << " bit " << bit;
    }
  }
}

TEST(Layout, ARecordAtAnotherPlaceIsAStrayWrite) {
  RandomRecords random(2);
  for (int i = 0; i < kRandomRecords; ++i) {
    Heartbeat heartbeat = random.heartbeat();
    heartbeat.node = 5;
    heartbeat.sequence &= ~uint64_t{1};
    SectorBytes sector;
    encode(heartbeat, kSampleCluster, sector);
    EXPECT_EQ(decode_heartbeat(sector, kSampleCluster, 5, 1).fault, Fault::place);
    EXPECT_EQ(decode_heartbeat(sector, kSampleCluster, 6, 0).fault, Fault::place);
    EXPECT_EQ(decode_ballot(sector, kSampleCluster, 5).fault, Fault::place);
  }
  SectorBytes sector;
  encode(sample_superblock(), 0, sector);
  EXPECT_EQ(decode_superblock(sector, 1).fault, Fault::place);
  encode(sample_ballot(), 2, kSampleCluster, sector);
  EXPECT_EQ(decode_ballot(sector, kSampleCluster, 3).fault, Fault::place);
  encode(sample_mail(), kSampleCluster, sector);
  EXPECT_EQ(decode_mail(sector, kSampleCluster, 3).fault, Fault::place);
  encode(sample_decision(), kSampleCluster, sector);
  EXPECT_EQ(decode_decided(sector, kSampleCluster, 6).fault, Fault::place);
  encode(sample_config(), 1, kSampleCluster, sector);
  EXPECT_EQ(decode_config(sector, kSampleCluster, 0).fault, Fault::place);
}

TEST(Layout, ARecordOfAnotherClusterIsRefused) {
  for (const Sample& sample : samples()) {
    if (std::string_view(sample.name) == "superblock") continue;
    for (size_t bit = 0; bit < 128; ++bit) {
      Uuid other = kSampleCluster;
      other[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      EXPECT_EQ(sample.fault(sample.sector, other), Fault::checksum) << sample.name;
    }
  }
}

TEST(Layout, WhatAWrongProgramWroteIsRefusedWithItsReason) {
  const std::vector<Sample> all = samples();
  for (const Sample& sample : all) {
    EXPECT_EQ(sample.fault(patched(sample, 7, 2), kSampleCluster), Fault::version) << sample.name;
    EXPECT_EQ(sample.fault(patched(sample, 7, 0), kSampleCluster), Fault::value) << sample.name;
    EXPECT_EQ(sample.fault(patched(sample, 6, 'X'), kSampleCluster), Fault::kind) << sample.name;
    EXPECT_EQ(sample.fault(patched(sample, 511, 1), kSampleCluster), Fault::reserved)
        << sample.name;
  }
  const auto fault = [&](size_t sample, size_t at, uint8_t byte) {
    return all[sample].fault(patched(all[sample], at, byte), kSampleCluster);
  };
  // Superblock.
  EXPECT_EQ(fault(0, 48, 0), Fault::value);      // generation
  EXPECT_EQ(fault(0, 56, 1), Fault::value);      // sector size
  EXPECT_EQ(fault(0, 60, 63), Fault::value);     // slots
  EXPECT_EQ(fault(0, 67, 0xff), Fault::value);   // a time of weeks
  EXPECT_EQ(fault(0, 100, 65), Fault::value);    // length of the name
  EXPECT_EQ(fault(0, 100, 4), Fault::reserved);  // a byte behind the name
  EXPECT_EQ(fault(0, 100, 0), Fault::reserved);  // no name
  EXPECT_EQ(fault(0, 104, '\n'), Fault::value);  // what a terminal obeys
  EXPECT_EQ(fault(0, 101, 1), Fault::reserved);
  // Heartbeat.
  EXPECT_EQ(fault(1, 16, 3), Fault::owner);
  EXPECT_EQ(fault(1, 17, 4), Fault::value);     // state
  EXPECT_EQ(fault(1, 85, 3), Fault::value);     // watchdog
  EXPECT_EQ(fault(1, 20, 0), Fault::value);     // no incarnation
  EXPECT_EQ(fault(1, 24, 0x66), Fault::value);  // an even sequence at the odd place
  // Ballot.
  EXPECT_EQ(fault(2, 16, 3), Fault::owner);
  EXPECT_EQ(fault(2, 17, 1), Fault::reserved);
  EXPECT_EQ(fault(2, 32, 3), Fault::value);          // another node's ballot
  EXPECT_EQ(fault(2, 33, 2), Fault::value);          // mbal below bal
  EXPECT_EQ(fault(2, 24, 0), Fault::value);          // of one epoch, with a value of another
  EXPECT_EQ(fault(2, 48 + 72, 4), Fault::reserved);  // flags
  EXPECT_EQ(fault(2, 48 + 73, 1), Fault::reserved);
  EXPECT_EQ(fault(2, 48 + 76, 64), Fault::value);  // coordinator
  // Mail.
  EXPECT_EQ(fault(3, 16, 3), Fault::owner);
  EXPECT_EQ(fault(3, 17, 3), Fault::value);
  EXPECT_EQ(fault(3, 17, 0), Fault::value);
  EXPECT_EQ(fault(3, 18, 1), Fault::reserved);
  // Decided.
  EXPECT_EQ(fault(4, 16, 6), Fault::owner);       // an epoch of the next slot
  EXPECT_EQ(fault(4, 16 + 92, 0), Fault::value);  // a coordinator without a term
  // Configuration.
  EXPECT_EQ(fault(5, 59, 1), Fault::value);  // length
  EXPECT_EQ(fault(5, 60, 1), Fault::reserved);
}

TEST(Layout, ABallotWithoutAValueHasNoBytesOfOne) {
  Sample sample = samples()[2];
  for (size_t at = 40; at < 48; ++at) sample.sector[at] = 0;  // bal
  EXPECT_EQ(sample.fault(patched(sample, 460, 0), kSampleCluster), Fault::reserved);
}

// Whatever part of the 4 KiB of a slot a disk of 512-byte sectors has written when its power fails.
TEST(Layout, ATornWriteLeavesTheOldRecordOrTheNew) {
  std::vector<uint8_t> before(kSlotBytes), after(kSlotBytes);
  BallotBlock old_block = sample_ballot();
  BallotBlock new_block = old_block;
  new_block.mbal = 0x502;
  new_block.bal = 0x502;
  encode(old_block, 2, kSampleCluster, std::span(before).first<kRecordBytes>());
  encode(new_block, 2, kSampleCluster, std::span(after).first<kRecordBytes>());
  for (unsigned written = 0; written < 256; ++written) {
    std::vector<uint8_t> torn = before;
    for (size_t sector = 0; sector < 8; ++sector) {
      if ((written >> sector & 1) == 0) continue;
      std::copy_n(after.begin() + static_cast<ptrdiff_t>(sector * 512), 512,
                  torn.begin() + static_cast<ptrdiff_t>(sector * 512));
    }
    const auto read =
        decode_ballot(Sector(std::span(torn).first<kRecordBytes>()), kSampleCluster, 2);
    ASSERT_TRUE(read.valid());
    EXPECT_EQ(*read.value, (written & 1) != 0 ? new_block : old_block);
  }
}

TEST(Layout, AWriteOfAHeartbeatIsNeverOverTheOneThatCounts) {
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    for (uint64_t sequence : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
      const uint64_t here = heartbeat_offset(node, sequence);
      const uint64_t next = heartbeat_offset(node, sequence + 1);
      // Not within one sector of a disk with 4 KiB sectors.
      EXPECT_NE(here / 4096, next / 4096);
      EXPECT_EQ(here, heartbeat_offset(node, sequence + 2));
    }
  }
}

TEST(Layout, NoTwoRecordsShareASlotAndAllAreAligned) {
  std::vector<uint64_t> places;
  for (unsigned copy = 0; copy < 2; ++copy) {
    places.push_back(superblock_offset(copy));
    places.push_back(config_offset(copy));
    for (NodeId node = 0; node < kMaxNodes; ++node) places.push_back(heartbeat_offset(node, copy));
  }
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    places.push_back(ballot_offset(node));
    places.push_back(mail_offset(node));
  }
  for (Epoch epoch = 1; epoch <= kDecidedSlots; ++epoch) places.push_back(decided_offset(epoch));
  std::ranges::sort(places);
  for (size_t i = 0; i < places.size(); ++i) {
    EXPECT_EQ(places[i] % kSlotBytes, 0U);
    EXPECT_LE(places[i] + kSlotBytes, kMinWitnessBytes);
    if (i == 0) continue;
    EXPECT_GE(places[i], places[i - 1] + kSlotBytes);
  }
  EXPECT_EQ(decided_offset(1), decided_offset(1 + kDecidedSlots));
  EXPECT_EQ(decided_offset((Epoch{3} << kGenerationShift) | 1), decided_offset(1));
}

TEST(LayoutChoice, TheNewerSuperblockCounts) {
  Decoded<Superblock> a{.value = sample_superblock()}, b{.value = sample_superblock()};
  const Decoded<Superblock> empty, damaged{.value = {}, .fault = Fault::checksum};
  b.value->generation = 2;
  EXPECT_EQ(newest(a, b), b);
  EXPECT_EQ(newest(b, a), b);
  EXPECT_EQ(newest(a, damaged), a);
  EXPECT_EQ(newest(empty, a), a);
  EXPECT_EQ(newest(a, a), a);
  EXPECT_TRUE(newest(empty, empty).empty());
  EXPECT_EQ(newest(empty, damaged).fault, Fault::checksum);
}

TEST(LayoutChoice, SuperblocksThatContradictEachOtherAreRefused) {
  Decoded<Superblock> a{.value = sample_superblock()}, b{.value = sample_superblock()};
  b.value->witness[0] ^= 1;
  EXPECT_EQ(newest(a, b).fault, Fault::copies);
  b.value->generation = 2;  // as after a change
  EXPECT_EQ(newest(a, b), b);
  b.value->cluster[0] ^= 1;
  EXPECT_EQ(newest(a, b).fault, Fault::copies);
}

// What the later version says is newer, whatever it is.
TEST(LayoutChoice, ASuperblockOfALaterVersionIsNotPassedOver) {
  const Decoded<Superblock> a{.value = sample_superblock()};
  const Decoded<Superblock> later{.value = {}, .fault = Fault::version};
  EXPECT_EQ(newest(a, later).fault, Fault::version);
  EXPECT_EQ(newest(later, a).fault, Fault::version);
}

TEST(LayoutChoice, TheLaterHeartbeatCounts) {
  Decoded<Heartbeat> a{.value = sample_heartbeat()}, b{.value = sample_heartbeat()};
  const Decoded<Heartbeat> empty, damaged{.value = {}, .fault = Fault::checksum};
  b.value->sequence += 1;
  EXPECT_EQ(newest(a, b), b);
  a.value->incarnation += 1;  // a new life begins to count anew
  EXPECT_EQ(newest(a, b), a);
  EXPECT_EQ(newest(damaged, b), b);
  EXPECT_EQ(newest(a, empty), a);
  EXPECT_EQ(newest(empty, damaged), damaged);
}

TEST(LayoutChoice, EachFaultSaysWhatItIs) {
  std::vector<std::string> seen;
  for (int i = 0; i <= static_cast<int>(Fault::copies); ++i) {
    seen.emplace_back(to_string(static_cast<Fault>(i)));
    EXPECT_NE(seen.back(), "unknown");
  }
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
  EXPECT_EQ(to_text(sample_uuid(0xa0)), "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf");
}

}  // namespace
}  // namespace holdfast::qdisk
