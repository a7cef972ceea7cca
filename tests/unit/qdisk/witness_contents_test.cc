#include "qdisk/witness_contents.h"

#include <gmock/gmock.h>

#include "tests/unit/qdisk/witness_fixture.h"

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class WitnessContentsTest : public WitnessTest {
 protected:
  void damage(uint64_t offset) const { poke(offset + 400, std::vector<uint8_t>{0xee}); }
};

TEST_F(WitnessContentsTest, EveryRecordIsFoundAtItsPlace) {
  format();
  fill();
  const auto made = contents();
  EXPECT_EQ(made->superblock.value, sample_superblock());
  EXPECT_EQ(made->heartbeats[2][1].value, sample_heartbeat());
  EXPECT_TRUE(made->heartbeats[2][0].empty());
  EXPECT_EQ(made->ballots[2].value, sample_ballot());
  EXPECT_EQ(made->mail[2].value, sample_mail());
  ASSERT_THAT(made->newest_decisions(), SizeIs(1));
  EXPECT_EQ(*made->newest_decisions()[0], sample_decision());
  EXPECT_EQ(made->configs[1].header.value->tag, sample_config().tag);
  EXPECT_EQ(made->configs[1].document, ConfigCopy::Document::intact);
  EXPECT_TRUE(made->configs[0].header.empty());
  EXPECT_THAT(made->corrupt(), IsEmpty());
}

TEST_F(WitnessContentsTest, TheNewestDecisionIsTheFirst) {
  format();
  SectorBytes sector;
  for (const Epoch epoch : {Epoch{70}, Epoch{63}, Epoch{5} << kGenerationShift | 3, Epoch{69}}) {
    Decision decision = sample_decision();
    decision.epoch = epoch;
    encode(decision, kSampleCluster, sector);
    poke(decided_offset(epoch), sector);
  }
  std::vector<Epoch> seen;
  const auto made = contents();
  for (const Decision* each : made->newest_decisions()) seen.push_back(each->epoch);
  EXPECT_THAT(seen, ElementsAre(Epoch{5} << kGenerationShift | 3, 70, 69, 63));
}

TEST_F(WitnessContentsTest, DamageIsListedByPlaceAndKeepsNothingElseBack) {
  format();
  fill();
  damage(superblock_offset(1));
  damage(heartbeat_offset(2, 0));
  damage(ballot_offset(63));
  damage(mail_offset(0));
  damage(decided_offset(5));
  damage(config_offset(0));
  damage(config_offset(1) + kSlotBytes);
  const auto made = contents();
  std::vector<std::pair<uint64_t, std::string>> seen;
  for (const auto& each : made->corrupt()) {
    seen.emplace_back(each.offset, each.what);
    EXPECT_NE(each.why, "");
  }
  EXPECT_THAT(seen, ElementsAre(std::pair(uint64_t{0x1000}, "superblock B"),
                                std::pair(uint64_t{0x14000}, "even heartbeat of node 2"),
                                std::pair(uint64_t{0xcf000}, "ballot block of node 63"),
                                std::pair(uint64_t{0xd0000}, "mail of node 0"),
                                std::pair(uint64_t{0x115000}, "decision in slot 5"),
                                std::pair(uint64_t{0x200000}, "configuration A"),
                                std::pair(uint64_t{0x601000}, "configuration B")));
  EXPECT_TRUE(made->heartbeats[2][1].valid());
  EXPECT_TRUE(made->superblock.valid());
}

TEST_F(WitnessContentsTest, WithoutASuperblockThereAreNoRecords) {
  EXPECT_TRUE(contents()->superblock.empty());
  format();
  fill();
  damage(superblock_offset(0));
  damage(superblock_offset(1));
  const auto made = contents();
  EXPECT_EQ(made->superblock.fault, Fault::checksum);
  EXPECT_TRUE(made->ballots[2].empty());
  EXPECT_THAT(made->corrupt(), SizeIs(2));
  resize(kMinWitnessBytes - 1);
  auto file = open();
  EXPECT_EQ(read_witness(*file).error().code, base::Errc::invalid_argument);
}

}  // namespace
}  // namespace holdfast::qdisk
