#pragma once
// Vital product data pages 00h 80h 83h 86h B0h B1h B2h (SPC-4 7.8, SBC-3 6.6).

#include <array>

#include "common/scsi/lun_description.h"
#include "common/scsi/sense.h"

namespace holdfast::scsi {

// An unknown page is 05/24/00 at byte 2. Returns the full length of the page.
Outcome<size_t> vpd_page(uint8_t page, const LunDescription& lun, const PortDescription& port,
                         MutableBytes out);

// NAA IEEE Registered Extended (6h), 16 bytes: our locally administered OUI and 100 bits of the
// uuid. Equal on every port.
std::array<uint8_t, 16> naa_identifier(const std::array<uint8_t, 16>& uuid);

}  // namespace holdfast::scsi
