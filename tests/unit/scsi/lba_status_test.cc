#include "common/scsi/lba_status.h"

#include "tests/unit/scsi/hex.h"

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

}  // namespace
}  // namespace holdfast::scsi
