#pragma once
// The UNMAP parameter list (SBC-3 5.28).

#include <cstddef>
#include <span>

#include "common/scsi/lun_description.h"
#include "common/scsi/sense.h"

namespace holdfast::scsi {

struct UnmapRange {
  uint64_t lba = 0;
  uint32_t blocks = 0;  // never 0 in a parsed list: such descriptors are dropped
  bool operator==(const UnmapRange&) const = default;
};

// Parses and checks everything before the first block is touched. `list` is the parameter list as
// received; its inner lengths are not trusted. `out` must hold max_unmap_descriptors(lun); returns
// how many were put there. Too many descriptors or blocks 05/26/00, beyond the end 05/21/00,
// lengths that do not fit 05/1A/00.
Outcome<size_t> parse_unmap(Bytes list, const LunDescription& lun, std::span<UnmapRange> out);

// The initiator's side. Both length fields have 16 bits.
inline constexpr size_t kMaxUnmapListRanges = 4095;
// Of the list with so many ranges; at most kMaxUnmapListRanges.
size_t unmap_list_bytes(size_t ranges);
// Writes unmap_list_bytes(ranges.size()) bytes and returns how many those are.
size_t encode_unmap(std::span<const UnmapRange> ranges, MutableBytes out);

}  // namespace holdfast::scsi
