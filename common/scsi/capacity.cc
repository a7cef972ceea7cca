#include "common/scsi/capacity.h"

#include <limits>

#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr size_t kLength16 = 32;

uint64_t last_lba(const LunDescription& lun) {
  return lun.capacity_blocks == 0 ? 0 : lun.capacity_blocks - 1;
}

size_t read_capacity_10(const LunDescription& lun, MutableBytes out) {
  constexpr uint64_t kTooLarge = std::numeric_limits<uint32_t>::max();
  ResponseWriter writer(out);
  writer.u32(static_cast<uint32_t>(std::min(last_lba(lun), kTooLarge)));
  writer.u32(lun.block_size);
  return writer.size();
}

size_t read_capacity_16(const LunDescription& lun, MutableBytes out) {
  constexpr unsigned kLbpmeLbprz = 0xc0;
  ResponseWriter writer(out);
  writer.u64(last_lba(lun));
  writer.u32(lun.block_size);
  writer.u8(0);  // no protection information
  writer.u8(lun.physical_block_exponent & 0x0fU);
  writer.u8(lun.thin ? kLbpmeLbprz : 0);
  writer.u8(0);  // LOWEST ALIGNED LOGICAL BLOCK ADDRESS
  writer.zeros(kLength16 - writer.size());
  return writer.size();
}

}  // namespace

Outcome<size_t> read_capacity(const Command& command, const LunDescription& lun, MutableBytes out) {
  // With PMI the answer may be any LBA up to a "substantial delay" after the given one; there is
  // none before the end.
  if (!command.pmi && command.lba != 0) return std::unexpected(kInvalidFieldInCdb.at_cdb(2));
  return command.row->operation == Operation::read_capacity_10 ? read_capacity_10(lun, out)
                                                               : read_capacity_16(lun, out);
}

}  // namespace holdfast::scsi
