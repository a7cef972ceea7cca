#pragma once
// Standard INQUIRY data (SPC-4 6.6). Builders write at most out.size() bytes and return the full
// length; the caller truncates to the allocation length.

#include "common/scsi/cdb.h"

namespace holdfast::scsi {

// INQUIRY as the CDB asks it: standard data, or the VPD page (vpd.h).
Outcome<size_t> inquiry(const Command& command, const LunDescription& lun,
                        const PortDescription& port, MutableBytes out);

// The same for a LUN that does not exist: PERIPHERAL QUALIFIER 011b, device type 1Fh
// (SPC-4 6.6); of the VPD pages just 00h.
Outcome<size_t> inquiry_without_lun(const Command& command, MutableBytes out);

size_t standard_inquiry(const LunDescription& lun, MutableBytes out);

}  // namespace holdfast::scsi
