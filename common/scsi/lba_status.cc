#include "common/scsi/lba_status.h"

#include <algorithm>

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

}  // namespace holdfast::scsi
