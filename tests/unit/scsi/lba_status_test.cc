#include "common/scsi/lba_status.h"

#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

namespace holdfast::scsi {
namespace {

TEST(LbaStatus, Extents) {
  const LbaExtent extents[] = {
      {.lba = 0x10, .blocks = 8, .status = Provisioning::mapped},
      {.lba = 0x1'0000'0018, .blocks = 0xffffffff, .status = Provisioning::deallocated},
  };
  const auto data = build_checked([&](MutableBytes out) { return lba_status(extents, out); });
  EXPECT_EQ(to_hex(data),
            "0000002400000000"
            "0000000000000010"
            "00000008"
            "00000000"
            "0000000100000018"
            "ffffffff"
            "01000000");
}

TEST(LbaStatus, CapacityOfTheBuffer) {
  EXPECT_EQ(lba_status_capacity(0), 1U);
  EXPECT_EQ(lba_status_capacity(7), 1U);
  EXPECT_EQ(lba_status_capacity(24), 1U);
  EXPECT_EQ(lba_status_capacity(39), 1U);
  EXPECT_EQ(lba_status_capacity(40), 2U);
  EXPECT_EQ(lba_status_capacity(0xffffffff), (0xffffffffU - 8) / 16);
}

constexpr LbaExtent kExtents[] = {
    {.lba = 0x10, .blocks = 8, .status = Provisioning::mapped},
    {.lba = 0x18, .blocks = 0xffffffff, .status = Provisioning::deallocated},
    {.lba = 0x1'0000'0017, .blocks = 1, .status = Provisioning::mapped},
};

std::vector<uint8_t> extents_data(std::span<const LbaExtent> extents) {
  std::vector<uint8_t> out(8 + 16 * extents.size());
  lba_status(extents, out);
  return out;
}

// "lba+blocks:status" of each, or "refused".
std::string parsed_extents(Bytes data, uint64_t first_lba, size_t room = 8) {
  std::vector<LbaExtent> out(room);
  const auto count = parse_lba_status(data, first_lba, out);
  if (!count.has_value()) return "refused";
  std::string text;
  for (size_t i = 0; i < *count; ++i) {
    text += std::to_string(out[i].lba) + "+" + std::to_string(out[i].blocks) + ":" +
            std::to_string(static_cast<int>(out[i].status)) + " ";
  }
  return text;
}

TEST(ParseLbaStatus, OurOwnData) {
  EXPECT_EQ(parsed_extents(extents_data(kExtents), 0x10), "16+8:0 24+4294967295:1 4294967319+1:0 ");
  EXPECT_EQ(parsed_extents(extents_data(kExtents), 0x10, 2), "16+8:0 24+4294967295:1 ")
      << "no more than there is room for";
}

TEST(ParseLbaStatus, FirstExtentBeginsAtTheLbaAskedFor) {
  EXPECT_EQ(parsed_extents(extents_data(kExtents), 0x13, 1), "19+5:0 ");
  EXPECT_EQ(parsed_extents(extents_data(kExtents), 0x0f), "refused");
  EXPECT_EQ(parsed_extents(extents_data(kExtents), 0x18), "refused") << "begins behind the first";
}

TEST(ParseLbaStatus, UnknownCodesCountAsMapped) {
  std::vector<uint8_t> data = extents_data(std::span(kExtents).first(1));
  for (unsigned code = 0; code < 16; ++code) {
    data[8 + 12] = static_cast<uint8_t>(code);
    EXPECT_EQ(parsed_extents(data, 0x10), code == 1 ? "16+8:1 " : "16+8:0 ") << code;
  }
}

TEST(ParseLbaStatus, StopsWhereItMakesNoSense) {
  const auto second = [](LbaExtent extent) {
    const LbaExtent both[] = {kExtents[0], extent};
    return parsed_extents(extents_data(both), 0x10);
  };
  EXPECT_EQ(second({.lba = 0x19, .blocks = 1}), "16+8:0 ") << "a gap";
  EXPECT_EQ(second({.lba = 0x17, .blocks = 2}), "16+8:0 ") << "an overlap";
  EXPECT_EQ(second({.lba = 0x18, .blocks = 0}), "16+8:0 ") << "no progress";
  const LbaExtent zero[] = {{.lba = 0x10, .blocks = 0}};
  EXPECT_EQ(parsed_extents(extents_data(zero), 0x10), "refused");
  const LbaExtent end[] = {{.lba = UINT64_MAX - 1, .blocks = 2}};
  EXPECT_EQ(parsed_extents(extents_data(end), UINT64_MAX - 1), "refused") << "overflow";
}

TEST(ParseLbaStatus, LengthsThatLie) {
  std::vector<uint8_t> data = extents_data(kExtents);
  data[0] = 0xff;
  EXPECT_EQ(parsed_extents(data, 0x10), "16+8:0 24+4294967295:1 4294967319+1:0 ");
  data[0] = 0;
  data[3] = 4 + 16;
  EXPECT_EQ(parsed_extents(data, 0x10), "16+8:0 ") << "what lies behind is of no extent";
  data[3] = 0;
  EXPECT_EQ(parsed_extents(data, 0x10), "refused");
}

TEST(ParseLbaStatus, Truncations) {
  for_each_truncation(extents_data(kExtents), [](Bytes part) {
    std::vector<LbaExtent> out(8);
    const auto count = parse_lba_status(part, 0x10, out);
    EXPECT_EQ(count.value_or(0), part.size() < 24 ? 0 : (part.size() - 8) / 16);
  });
}

TEST(ParseLbaStatus, Damage) {
  size_t extents = 0;
  for_each_damage(extents_data(kExtents), [&](Bytes data) {
    std::vector<LbaExtent> out(8);
    const auto count = parse_lba_status(data, 0x10, out);
    if (!count.has_value()) return;
    extents += *count;
    uint64_t next = 0x10;
    for (size_t i = 0; i < *count; ++i) {
      EXPECT_EQ(out[i].lba, next);
      EXPECT_GT(out[i].blocks, 0U);
      next = out[i].lba + out[i].blocks;
    }
  });
  EXPECT_GT(extents, 0U) << "nothing got past the header";
}

}  // namespace
}  // namespace holdfast::scsi
