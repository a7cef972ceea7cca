#include "common/scsi/lun_description.h"

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

TEST(LunDescription, LimitsDefaultToTheConstantsInBlocks) {
  LunDescription lun = thin_lun();
  lun.physical_block_exponent = 4;
  EXPECT_EQ(max_transfer_blocks(lun), kMaxTransferBytes / 512);
  EXPECT_EQ(max_unmap_blocks(lun), kMaxUnmapBytes / 512);
  EXPECT_EQ(max_unmap_descriptors(lun), kMaxUnmapDescriptors);
  EXPECT_EQ(unmap_granularity_blocks(lun), 16U);
  EXPECT_EQ(max_write_same_blocks(lun), kMaxWriteSameBytes / 512);
  lun.block_size = 4096;
  EXPECT_EQ(max_transfer_blocks(lun), kMaxTransferBytes / 4096);
  lun.max_transfer_blocks = 7;
  EXPECT_EQ(max_transfer_blocks(lun), 7U);
}

}  // namespace
}  // namespace holdfast::scsi
