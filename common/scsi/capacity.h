#pragma once
// READ CAPACITY (SBC-3 5.15, 5.16).

#include "common/base/result.h"
#include "common/scsi/cdb.h"

namespace holdfast::scsi {

// Either length, by command.row->operation. READ CAPACITY(10) says FFFFFFFFh for a unit with more
// blocks than it can tell. LBA without PMI is 05/24/00.
Outcome<size_t> read_capacity(const Command& command, const LunDescription& lun, MutableBytes out);

// The initiator's side of READ CAPACITY(16).
struct Capacity {
  uint64_t blocks = 0;      // 1 or more
  uint32_t block_size = 0;  // a power of two, 512 or more; all blocks are below 2^63 bytes
  uint8_t physical_block_exponent = 0;
  uint16_t lowest_aligned_lba = 0;
  bool thin = false;          // LBPME
  bool reads_zeroes = false;  // LBPRZ
  bool protection = false;    // PROT_EN
  bool operator==(const Capacity&) const = default;
};
// Errc::protocol: too short. Errc::unsupported: sizes that no block device of ours can have.
base::Result<Capacity> parse_read_capacity16(Bytes data);

}  // namespace holdfast::scsi
