#include "qdisk/witness_format.h"

#include <gmock/gmock.h>

#include "qdisk/device_contents.h"
#include "tests/unit/qdisk/witness_fixture.h"

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint8_t kLuks[] = {'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1};

class WitnessFormatTest : public WitnessTest {
 protected:
  std::vector<std::string> found() const {
    auto file = open();
    EXPECT_TRUE(file.has_value());
    auto there = what_is_on(*file, path());
    EXPECT_TRUE(there.has_value());
    return *there;
  }
};

TEST_F(WitnessFormatTest, AnEmptyDeviceHoldsNothing) { EXPECT_THAT(found(), IsEmpty()); }

TEST_F(WitnessFormatTest, MakesTwoSuperblocksAndNothingElse) {
  // A record of an earlier cluster, also where a program looks at the end.
  poke(ballot_offset(3), std::vector<uint8_t>(kSlotBytes, 7));
  poke(config_offset(1), std::vector<uint8_t>(kSlotBytes, 7));
  poke(kMinWitnessBytes - 65536, std::vector<uint8_t>(65536, 7));
  format();
  const auto made = contents();
  EXPECT_EQ(made->superblocks[0].value, sample_superblock());
  EXPECT_EQ(made->superblocks[1].value, sample_superblock());
  EXPECT_EQ(made->superblock.value, sample_superblock());
  EXPECT_THAT(made->corrupt(), IsEmpty());
  for (const auto& [offset, size] : {std::pair<uint64_t, size_t>{0x200, 0xe00},
                                     {0x1200, kRecordsEnd - 0x1200},
                                     {config_offset(1), kSlotBytes},
                                     {kMinWitnessBytes - 65536, 65536}}) {
    EXPECT_EQ(peek(offset, size), std::vector<uint8_t>(size)) << offset;
  }
}

TEST_F(WitnessFormatTest, AWitnessIsNamed) {
  format();
  EXPECT_THAT(found(), ElementsAre("the witness b0b1b2b3-b4b5-b6b7-b8b9-babbbcbdbebf of the "
                                   "cluster `store` (a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf)"));
  // Damaged: it is one all the same.
  poke(300, std::vector<uint8_t>{1});
  poke(4096 + 300, std::vector<uint8_t>{1});
  EXPECT_THAT(found(), ElementsAre("a witness: wrong checksum: damaged, or of another cluster"));
}

TEST_F(WitnessFormatTest, WhatOthersMadeIsNamed) {
  poke(0, kLuks);
  EXPECT_THAT(signatures_of(path()), ElementsAre("crypto_LUKS"));
  EXPECT_THAT(found(), ElementsAre("crypto_LUKS"));
  EXPECT_THAT(signatures_of(path() + ".none"), IsEmpty());
}

TEST_F(WitnessFormatTest, AnyByteInItsWayIsFound) {
  for (const uint64_t offset :
       {uint64_t{0}, uint64_t{0xffff}, kRecordsEnd - 1, config_offset(0), config_offset(1) + 4095,
        kMinWitnessBytes - 65536, kMinWitnessBytes - 1}) {
    poke(offset, std::vector<uint8_t>{1});
    EXPECT_THAT(found(), ElementsAre("data of an unknown kind, at byte " + std::to_string(offset)));
    poke(offset, std::vector<uint8_t>{0});
  }
  EXPECT_THAT(found(), IsEmpty());
}

}  // namespace
}  // namespace holdfast::qdisk
