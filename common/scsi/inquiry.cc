#include "common/scsi/inquiry.h"

#include "common/scsi/response_writer.h"
#include "common/scsi/vpd.h"

namespace holdfast::scsi {
namespace {

constexpr size_t kStandardLength = 96;  // up to and with the version descriptors' reserved tail
constexpr unsigned kVersionSpc4 = 0x06;
constexpr unsigned kHisup = 0x10;
constexpr unsigned kResponseFormat = 0x02;
constexpr unsigned kTpgsImplicit = 0x10;
constexpr unsigned kCmdque = 0x02;
constexpr unsigned kRemovable = 0x80;
// PERIPHERAL QUALIFIER 011b, PERIPHERAL DEVICE TYPE 1Fh: nothing can be here.
constexpr unsigned kNoUnit = 0x7f;

// Version descriptors (SPC-4 6.6), "no version claimed" codes.
constexpr uint16_t kVersionDescriptors[] = {
    0x00a0,  // SAM-5
    0x0960,  // iSCSI
    0x0460,  // SPC-4
    0x04c0,  // SBC-3
};

}  // namespace

size_t standard_inquiry(const LunDescription& lun, MutableBytes out) {
  ResponseWriter writer(out);
  writer.u8(0x00);  // direct access block device
  writer.u8(lun.removable ? kRemovable : 0);
  writer.u8(kVersionSpc4);
  writer.u8(kHisup | kResponseFormat);  // NORMACA=0
  writer.u8(kStandardLength - 5);
  writer.u8(kTpgsImplicit);  // 3PC=0, PROTECT=0
  writer.u8(0);
  writer.u8(kCmdque);
  writer.text(lun.vendor, 8);
  writer.text(lun.product, 16);
  writer.text(lun.revision, 4);
  writer.zeros(22);
  for (const uint16_t descriptor : kVersionDescriptors) writer.u16(descriptor);
  writer.zeros(kStandardLength - writer.size());
  return writer.size();
}

Outcome<size_t> inquiry(const Command& command, const LunDescription& lun,
                        const PortDescription& port, MutableBytes out) {
  if (command.evpd) return vpd_page(command.page, lun, port, out);
  return standard_inquiry(lun, out);
}

Outcome<size_t> inquiry_without_lun(const Command& command, MutableBytes out) {
  ResponseWriter writer(out);
  writer.u8(kNoUnit);
  if (command.evpd) {
    if (command.page != 0) return std::unexpected(kInvalidFieldInCdb.at_cdb(2));
    writer.u8(0x00);
    writer.u16(1);
    writer.u8(0x00);  // the one page there is
    return writer.size();
  }
  writer.u8(0);
  writer.u8(kVersionSpc4);
  writer.u8(kHisup | kResponseFormat);
  writer.u8(36 - 5);
  writer.zeros(2);
  writer.u8(kCmdque);
  writer.text("HOLDFAST", 8);
  writer.text("", 16);
  writer.text("", 4);
  return writer.size();
}

}  // namespace holdfast::scsi
