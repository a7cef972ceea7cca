#pragma once
// Standard INQUIRY data (SPC-4 6.6). Builders write at most out.size() bytes and return the full
// length; the caller truncates to the allocation length.

#include <string>

#include "common/base/result.h"
#include "common/scsi/cdb.h"

namespace holdfast::scsi {

// INQUIRY as the CDB asks it: standard data, or the VPD page (vpd.h).
Outcome<size_t> inquiry(const Command& command, const LunDescription& lun,
                        const PortDescription& port, MutableBytes out);

// The same for a LUN that does not exist: PERIPHERAL QUALIFIER 011b, device type 1Fh
// (SPC-4 6.6); of the VPD pages just 00h.
Outcome<size_t> inquiry_without_lun(const Command& command, MutableBytes out);

size_t standard_inquiry(const LunDescription& lun, MutableBytes out);

// The initiator's side: what a unit says of itself. A field that did not come is zero or empty.
struct InquiryData {
  uint8_t peripheral_qualifier = 0;  // 0: a unit is there; 3: there can be none
  uint8_t device_type = 0;           // 00h: direct access block device; 1Fh: none
  bool removable = false;
  uint8_t version = 0;  // 06h: SPC-4
  uint8_t tpgs = 0;     // 1 implicit, 2 explicit, 3 both kinds of ALUA
  bool protection = false;
  bool third_party_copy = false;
  // Without padding; unprintable characters are '?'.
  std::string vendor{};
  std::string product{};
  std::string revision{};

  bool is_disk() const { return peripheral_qualifier == 0 && device_type == 0; }
  bool operator==(const InquiryData&) const = default;
};
// Errc::protocol: below 8 bytes, or a RESPONSE DATA FORMAT before SCSI-2.
base::Result<InquiryData> parse_standard_inquiry(Bytes data);

}  // namespace holdfast::scsi
