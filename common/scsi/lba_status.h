#pragma once
// GET LBA STATUS parameter data (SBC-3 5.4).

#include <span>

#include "common/base/bytes.h"

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

}  // namespace holdfast::scsi
