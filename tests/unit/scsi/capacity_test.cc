#include "common/scsi/capacity.h"

#include "tests/unit/scsi/hex.h"

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

}  // namespace
}  // namespace holdfast::scsi
