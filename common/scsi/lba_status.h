#pragma once
// GET LBA STATUS parameter data (SBC-3 5.4).

#include <span>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace holdfast::scsi {

enum class Provisioning : uint8_t { mapped = 0, deallocated = 1 };

struct LbaExtent {
  uint64_t lba = 0;
  uint32_t blocks = 0;
  Provisioning status = Provisioning::mapped;
};

// Extents ascending and adjacent, the first containing the LBA asked for. Returns the full length.
size_t lba_status(std::span<const LbaExtent> extents, base::MutableBytes out);

// How many descriptors an allocation length can hold; at least one, as the first is mandatory.
size_t lba_status_capacity(uint32_t allocation_length);

// The initiator's side. Fills `out`, without allocation, with extents that begin at `first_lba`
// and are adjacent; returns how many, at least one. Where the data stops making sense the extents
// before it stand: the caller asks on from where they end. Anchored blocks and unknown codes count
// as mapped: that is the answer nobody can lose data by. Errc::protocol: nothing about first_lba.
base::Result<size_t> parse_lba_status(base::Bytes data, uint64_t first_lba,
                                      std::span<LbaExtent> out);

}  // namespace holdfast::scsi
