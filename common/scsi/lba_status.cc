#include "common/scsi/lba_status.h"

#include <algorithm>
#include <limits>

#include "common/scsi/response_reader.h"
#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr size_t kHeaderLength = 8;
constexpr size_t kDescriptorLength = 16;

}  // namespace

size_t lba_status(std::span<const LbaExtent> extents, base::MutableBytes out) {
  ResponseWriter writer(out);
  // PARAMETER DATA LENGTH counts from byte 4 on.
  writer.u32(static_cast<uint32_t>(4 + extents.size() * kDescriptorLength));
  writer.zeros(4);
  for (const LbaExtent& extent : extents) {
    writer.u64(extent.lba);
    writer.u32(extent.blocks);
    writer.u8(static_cast<unsigned>(extent.status));
    writer.zeros(3);
  }
  return writer.size();
}

size_t lba_status_capacity(uint32_t allocation_length) {
  if (allocation_length < kHeaderLength) return 1;
  return std::max<size_t>((allocation_length - kHeaderLength) / kDescriptorLength, 1);
}

base::Result<size_t> parse_lba_status(base::Bytes data, uint64_t first_lba,
                                      std::span<LbaExtent> out) {
  constexpr uint64_t kLengthField = 4;
  constexpr uint8_t kDeallocated = 1;
  const ResponseReader in(data, kLengthField + ResponseReader(data).u32(0));
  size_t used = 0;
  uint64_t next = first_lba;
  for (size_t at = kHeaderLength; at + kDescriptorLength <= in.size() && used < out.size();
       at += kDescriptorLength) {
    const uint64_t lba = in.u64(at);
    const uint32_t blocks = in.u32(at + 8);
    // The first may begin before the LBA asked for; the others follow each other (SBC-3 5.4).
    const bool follows = used == 0 ? lba <= next && next - lba < blocks : lba == next && blocks > 0;
    if (!follows || blocks > std::numeric_limits<uint64_t>::max() - lba) break;
    const uint64_t end = lba + blocks;
    out[used++] =
        LbaExtent{.lba = next,
                  .blocks = static_cast<uint32_t>(end - next),
                  .status = in.bits(at + 12, 0, 4) == kDeallocated ? Provisioning::deallocated
                                                                   : Provisioning::mapped};
    next = end;
  }
  if (used == 0) {
    return base::fail(base::Errc::protocol, "GET LBA STATUS: nothing about the LBA asked for");
  }
  return used;
}

}  // namespace holdfast::scsi
