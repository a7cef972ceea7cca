#include "common/scsi/capacity.h"

#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

namespace holdfast::scsi {
namespace {

std::string capacity(std::string_view text, const LunDescription& lun) {
  const Command command = decoded(text);
  return to_hex(build_checked(
      [&](MutableBytes out) { return read_capacity(command, lun, out).value_or(0); }));
}

TEST(ReadCapacity, Ten) {
  LunDescription lun = thin_lun();
  EXPECT_EQ(capacity("25", lun), "000fffff00000200");
  lun.capacity_blocks = 0xffffffff;
  EXPECT_EQ(capacity("25", lun), "fffffffe00000200");
  lun.capacity_blocks = 0x1'0000'0000;
  EXPECT_EQ(capacity("25", lun), "ffffffff00000200");
  lun.capacity_blocks = 0x1'0000'0001;
  lun.block_size = 4096;
  EXPECT_EQ(capacity("25", lun), "ffffffff00001000");
}

TEST(ReadCapacity, Sixteen) {
  LunDescription lun = thin_lun();
  lun.physical_block_exponent = 3;
  EXPECT_EQ(capacity("9e 10 0000000000000000 00000020 00 00", lun),
            "00000000000fffff"
            "00000200"
            "0003c000"
            "00000000000000000000000000000000");
  lun.thin = false;
  lun.physical_block_exponent = 0;
  lun.capacity_blocks = 0x1'0000'0001;
  EXPECT_EQ(capacity("9e 10 0000000000000000 00000020 00 00", lun),
            "0000000100000000"
            "00000200"
            "00000000"
            "00000000000000000000000000000000");
}

TEST(ReadCapacity, LbaNeedsPmi) {
  std::array<uint8_t, 32> buffer{};
  const LunDescription lun = thin_lun();
  EXPECT_EQ(read_capacity(decoded("25 00 00000001 0000 00 00"), lun, buffer).error(),
            kInvalidFieldInCdb.at_cdb(2));
  EXPECT_EQ(read_capacity(decoded("9e 10 0000000000000001 00000020 00 00"), lun, buffer).error(),
            kInvalidFieldInCdb.at_cdb(2));
  EXPECT_EQ(capacity("25 00 00000001 0000 01 00", lun), "000fffff00000200");
}

std::vector<uint8_t> capacity_data(const LunDescription& lun) {
  std::vector<uint8_t> out(32);
  out.resize(read_capacity(decoded("9e 10 0000000000000000 00000020"), lun, out).value_or(0));
  return out;
}

TEST(ParseCapacity, OurOwnData) {
  LunDescription lun = thin_lun();
  lun.block_size = 4096;
  lun.physical_block_exponent = 3;
  for (const uint64_t blocks : {uint64_t{1}, uint64_t{0x100000}, uint64_t{1} << 50}) {
    for (const bool thin : {false, true}) {
      lun.capacity_blocks = blocks;
      lun.thin = thin;
      const auto parsed = parse_read_capacity16(capacity_data(lun));
      ASSERT_TRUE(parsed.has_value());
      EXPECT_EQ(*parsed, (Capacity{.blocks = blocks,
                                   .block_size = 4096,
                                   .physical_block_exponent = 3,
                                   .thin = thin,
                                   .reads_zeroes = thin}));
    }
  }
}

// SBC-3 5.16.
TEST(ParseCapacity, FieldsOfOtherTargets) {
  const auto parsed = parse_read_capacity16(from_hex("00000000000000ff 00000200 01 23 8765"));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(*parsed, (Capacity{.blocks = 0x100,
                               .block_size = 512,
                               .physical_block_exponent = 3,
                               .lowest_aligned_lba = 0x0765,
                               .thin = true,
                               .protection = true}));
}

// Whoever multiplies blocks and block size, or adds a byte offset, cannot overflow.
TEST(ParseCapacity, SizesThatOverflowAreRefused) {
  const auto with = [](std::string_view last_lba, std::string_view block_size) {
    return parse_read_capacity16(from_hex(std::string(last_lba) + std::string(block_size)));
  };
  EXPECT_TRUE(with("003ffffffffffffe", "00000200").has_value());
  for (const std::string_view last :
       {"003fffffffffffff", "0040000000000000", "fffffffffffffffe", "ffffffffffffffff"}) {
    const auto parsed = with(last, "00000200");
    ASSERT_FALSE(parsed.has_value()) << last;
    EXPECT_EQ(parsed.error().code, base::Errc::unsupported);
  }
}

TEST(ParseCapacity, BlockSizesThatNobodyCanUseAreRefused) {
  for (const std::string_view size :
       {"00000000", "00000001", "00000100", "00000208", "00001001", "ffffffff"}) {
    EXPECT_FALSE(
        parse_read_capacity16(from_hex("00000000000000ff" + std::string(size))).has_value())
        << size;
  }
}

TEST(ParseCapacity, Truncations) {
  for_each_truncation(capacity_data(thin_lun()), [](Bytes part) {
    const auto cut = parse_read_capacity16(part);
    ASSERT_EQ(cut.has_value(), part.size() >= 12);
    if (!cut.has_value()) return;
    EXPECT_EQ(cut->blocks, thin_lun().capacity_blocks);
    EXPECT_EQ(cut->thin, part.size() >= 15);
  });
}

TEST(ParseCapacity, Damage) {
  for_each_damage(capacity_data(thin_lun()), [](Bytes data) {
    const auto parsed = parse_read_capacity16(data);
    if (!parsed.has_value()) return;
    EXPECT_GT(parsed->blocks, 0U);
    EXPECT_LE(parsed->blocks, uint64_t{INT64_MAX} / parsed->block_size);
  });
}

}  // namespace
}  // namespace holdfast::scsi
