#include "common/scsi/capacity.h"

#include <bit>
#include <limits>

#include "common/scsi/response_reader.h"
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

base::Result<Capacity> parse_read_capacity16(Bytes data) {
  using base::Errc;
  constexpr size_t kLeast = 12;  // SBC-2 had no more
  constexpr uint32_t kSmallestBlock = 512;
  constexpr uint64_t kMostBytes = std::numeric_limits<int64_t>::max();  // an offset of the kernel's
  const ResponseReader in(data, kLength16);
  if (in.size() < kLeast) return base::fail(Errc::protocol, "READ CAPACITY(16): too short");
  const uint64_t last = in.u64(0);
  const uint32_t block_size = in.u32(8);
  if (block_size < kSmallestBlock || !std::has_single_bit(block_size)) {
    return base::fail(Errc::unsupported, "READ CAPACITY(16): block size is no power of two");
  }
  if (last >= kMostBytes / block_size) {
    return base::fail(Errc::unsupported, "READ CAPACITY(16): 2^63 bytes or more");
  }
  return Capacity{.blocks = last + 1,
                  .block_size = block_size,
                  .physical_block_exponent = in.bits(13, 0, 4),
                  .lowest_aligned_lba = static_cast<uint16_t>(in.u16(14) & 0x3fffU),
                  .thin = in.bit(14, 7),
                  .reads_zeroes = in.bit(14, 6),
                  .protection = in.bit(12, 0)};
}

}  // namespace holdfast::scsi
