#include "common/scsi/lun_description.h"

namespace holdfast::scsi {

uint32_t max_transfer_blocks(const LunDescription& lun) {
  return lun.max_transfer_blocks != 0 ? lun.max_transfer_blocks
                                      : kMaxTransferBytes / lun.block_size;
}

uint32_t max_unmap_blocks(const LunDescription& lun) {
  return lun.max_unmap_blocks != 0 ? lun.max_unmap_blocks : kMaxUnmapBytes / lun.block_size;
}

uint32_t max_unmap_descriptors(const LunDescription& lun) {
  return lun.max_unmap_descriptors != 0 ? lun.max_unmap_descriptors : kMaxUnmapDescriptors;
}

uint32_t unmap_granularity_blocks(const LunDescription& lun) {
  return lun.unmap_granularity_blocks != 0 ? lun.unmap_granularity_blocks
                                           : 1U << lun.physical_block_exponent;
}

uint64_t max_write_same_blocks(const LunDescription& lun) {
  return lun.max_write_same_blocks != 0 ? lun.max_write_same_blocks
                                        : kMaxWriteSameBytes / lun.block_size;
}

}  // namespace holdfast::scsi
