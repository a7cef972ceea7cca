#pragma once
// The LUN field (SAM-5, LUN) and REPORT LUNS (SPC-4 6.33).

#include <optional>
#include <span>

#include "common/base/bytes.h"

namespace holdfast::scsi {

// The 8-byte LUN field: peripheral device addressing on bus 0 or flat space addressing, everything
// else zero. Anything else (well-known, hierarchical, extended) is no LUN of ours.
std::optional<uint16_t> decode_lun(base::Bytes field);

// Peripheral below 256, flat above; lun <= kMaxLun.
base::be64 encode_lun(uint16_t lun);

// `luns` ascending: what this initiator may see through this target. select_report 0 and 2 list
// them, 1 (only well-known units) lists none. Returns the full length.
size_t report_luns(uint8_t select_report, std::span<const uint16_t> luns, base::MutableBytes out);

}  // namespace holdfast::scsi
