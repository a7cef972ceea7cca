#include "qdisk/state_record.h"

#include <gtest/gtest.h>

#include "common/base/crc32c.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

StoredState sample_state() {
  StoredState state{.node = 2,
                    .cluster = kSampleCluster,
                    .boot = sample_uuid(0xc0),
                    .record = {.remembers = true, .fenced = 0x104, .incarnation = 7}};
  state.record.acceptor.decided = sample_decision();
  state.record.acceptor.blocks[2] = sample_ballot();
  return state;
}

// With a checksum that is right: what is refused then is refused for what it says.
std::vector<uint8_t> resealed(std::vector<uint8_t> bytes) {
  std::fill_n(bytes.begin() + 8, 4, uint8_t{0});
  base::store(base::MutableBytes(bytes).subspan(8), base::le32(base::crc32c(bytes)));
  return bytes;
}

base::Errc fault_of(const std::vector<uint8_t>& bytes) {
  const auto decoded = decode_state(bytes);
  return decoded ? base::Errc{} : decoded.error().code;
}

TEST(StateRecord, ComesBackAsItWas) {
  RandomRecords random(11);
  for (int round = 0; round < 300; ++round) {
    StoredState state{.node = random.node(),
                      .cluster = random.bytes<16>(),
                      .boot = random.bytes<16>(),
                      .record = {.remembers = random.number() % 2 == 0,
                                 .fenced = random.number(),
                                 .incarnation = random.positive(),
                                 .ended = random.number() % 2 == 0}};
    if (round % 3 != 0) state.record.acceptor.decided = random.decision();
    for (NodeId node = 0; node < kMaxNodes; ++node) {
      const bool holds = round == 1 || random.number() % 16 == 0;
      if (holds) state.record.acceptor.blocks[node] = random.ballot(node);
    }
    const auto bytes = encode_state(state);
    EXPECT_LE(bytes.size(), kMaxStateBytes);
    const auto decoded = decode_state(bytes);
    ASSERT_TRUE(decoded.has_value()) << decoded.error().what;
    EXPECT_EQ(*decoded, state);
  }
}

TEST(StateRecord, HasTheBytesOfTheDescription) {
  const auto bytes = encode_state(sample_state());
  ASSERT_EQ(bytes.size(), 3 * kRecordBytes);
  const base::Bytes all(bytes);
  EXPECT_EQ(base::as_text(all.first(6)), "HFNODE");
  EXPECT_EQ(base::load<base::le16>(all.subspan(6)), 1);
  EXPECT_EQ(base::load<base::le32>(all.subspan(12)), 7U);
  EXPECT_EQ(all[16], 0xa0);
  EXPECT_EQ(all[32], 0xc0);
  EXPECT_EQ(all[48], 2);
  EXPECT_EQ(all[49], 1);
  EXPECT_EQ(base::load<base::le64>(all.subspan(56)), 0x104U);
  EXPECT_EQ(base::load<base::le64>(all.subspan(64)), 0b100U);
  SectorBytes sector;
  encode(sample_decision(), kSampleCluster, sector);
  EXPECT_TRUE(std::ranges::equal(all.subspan(512, 512), sector));
  encode(sample_ballot(), 2, kSampleCluster, sector);
  EXPECT_TRUE(std::ranges::equal(all.subspan(1024, 512), sector));
  EXPECT_EQ(resealed(bytes), bytes);
}

TEST(StateRecord, EveryTruncationIsRefused) {
  const auto bytes = encode_state(sample_state());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(fault_of(cut), base::Errc::corrupt) << size;
  }
}

TEST(StateRecord, WholeSectorsThatAreMissingOrTooManyAreRefusedWhateverTheChecksumSays) {
  auto bytes = encode_state(sample_state());
  for (const size_t sectors : {1UZ, 2UZ, 4UZ, 67UZ}) {
    auto other = bytes;
    other.resize(sectors * kRecordBytes);
    EXPECT_EQ(fault_of(resealed(other)), base::Errc::corrupt) << sectors;
  }
}

TEST(StateRecord, EveryBitThatFlipsIsRefused) {
  auto bytes = encode_state(sample_state());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const auto mask = static_cast<uint8_t>(1U << (bit % 8));
    bytes[bit / 8] ^= mask;
    EXPECT_EQ(fault_of(bytes), base::Errc::corrupt) << bit;
    bytes[bit / 8] ^= mask;
  }
  EXPECT_EQ(fault_of(bytes), base::Errc{});
}

TEST(StateRecord, RandomDamageIsRefused) {
  const auto bytes = encode_state(sample_state());
  base::SeededRandom random(5);
  for (int round = 0; round < 5000; ++round) {
    auto damaged = bytes;
    for (uint64_t flips = 1 + random.below(40); flips > 0; --flips) {
      damaged[random.below(damaged.size())] ^= static_cast<uint8_t>(1U << random.below(8));
    }
    if (damaged == bytes) continue;
    EXPECT_EQ(fault_of(damaged), base::Errc::corrupt);
  }
}

TEST(StateRecord, ALaterVersionIsToldFromDamage) {
  auto bytes = encode_state(sample_state());
  bytes[6] = 2;
  EXPECT_EQ(fault_of(resealed(bytes)), base::Errc::unsupported);
  bytes.resize(700);  // it may have any size
  EXPECT_EQ(fault_of(resealed(bytes)), base::Errc::unsupported);
}

TEST(StateRecord, ImpossibleValuesAreRefusedWhateverTheChecksumSays) {
  const auto bytes = encode_state(sample_state());
  const auto with = [&](size_t at, uint8_t value) {
    auto other = bytes;
    other[at] = value;
    return resealed(other);
  };
  EXPECT_EQ(fault_of(with(49, 3)), base::Errc{});
  EXPECT_EQ(fault_of(with(6, 0)), base::Errc::corrupt);         // version
  EXPECT_EQ(fault_of(with(12, 0)), base::Errc::corrupt);        // incarnation
  EXPECT_EQ(fault_of(with(16, 0)), base::Errc::corrupt);        // another cluster than the sectors'
  EXPECT_EQ(fault_of(with(48, 64)), base::Errc::corrupt);       // node
  EXPECT_EQ(fault_of(with(49, 4)), base::Errc::corrupt);        // flags
  EXPECT_EQ(fault_of(with(50, 1)), base::Errc::corrupt);        // reserved
  EXPECT_EQ(fault_of(with(64, 0b10)), base::Errc::corrupt);     // whose block it is
  EXPECT_EQ(fault_of(with(511, 1)), base::Errc::corrupt);       // reserved
  EXPECT_EQ(fault_of(with(512 + 16, 0)), base::Errc::corrupt);  // in the decision
  EXPECT_EQ(fault_of(with(1024 + 8, 0)), base::Errc::corrupt);  // in the block
  auto empty = bytes;
  empty.resize(1024);
  empty.resize(1536);
  EXPECT_EQ(fault_of(resealed(empty)), base::Errc::corrupt);
}

}  // namespace
}  // namespace holdfast::qdisk
