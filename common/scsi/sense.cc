#include "common/scsi/sense.h"

#include <limits>

#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr unsigned kFixedCurrent = 0x70;
constexpr unsigned kDescriptorCurrent = 0x72;
constexpr size_t kFixedLength = 18;
constexpr unsigned kValid = 0x80;

bool has_key_specific(const Sense& sense) {
  return sense.field.has_value() || sense.progress.has_value();
}

// SENSE KEY SPECIFIC, 3 bytes (SPC-4 4.5).
void write_key_specific(const Sense& sense, ResponseWriter& writer) {
  if (sense.field.has_value()) {
    const FieldPointer& field = *sense.field;
    const unsigned bit = field.bit.has_value() ? 0x08U | (*field.bit & 7U) : 0U;
    writer.u8(kValid | (field.in_cdb ? 0x40U : 0U) | bit);
    writer.u16(field.byte);
  } else if (sense.progress.has_value()) {
    writer.u8(kValid);
    writer.u16(*sense.progress);
  } else {
    writer.zeros(3);
  }
}

// SPC-4 4.5, fixed format.
void write_fixed(const Sense& sense, ResponseWriter& writer) {
  const bool valid =
      sense.information.has_value() && *sense.information <= std::numeric_limits<uint32_t>::max();
  writer.u8(kFixedCurrent | (valid ? kValid : 0U));
  writer.u8(0);
  writer.u8(static_cast<unsigned>(sense.key));
  writer.u32(valid ? static_cast<uint32_t>(*sense.information) : 0);
  writer.u8(kFixedLength - 8);
  writer.zeros(4);  // COMMAND-SPECIFIC INFORMATION
  writer.u8(sense.asc);
  writer.u8(sense.ascq);
  writer.u8(0);
  write_key_specific(sense, writer);
}

// SPC-4 4.5, descriptor format.
void write_descriptors(const Sense& sense, ResponseWriter& writer) {
  writer.u8(kDescriptorCurrent);
  writer.u8(static_cast<unsigned>(sense.key));
  writer.u8(sense.asc);
  writer.u8(sense.ascq);
  writer.zeros(3);
  writer.u8(0);
  if (sense.information.has_value()) {
    writer.u8(0x00);
    writer.u8(0x0a);
    writer.u8(kValid);
    writer.u8(0);
    writer.u64(*sense.information);
  }
  if (has_key_specific(sense)) {
    writer.u8(0x02);
    writer.u8(0x06);
    writer.zeros(2);
    write_key_specific(sense, writer);
    writer.u8(0);
  }
  writer.patch_u8(7, writer.size() - 8);
}

}  // namespace

size_t encode(const Sense& sense, bool descriptor_format, MutableBytes out) {
  ResponseWriter writer(out);
  if (descriptor_format) {
    write_descriptors(sense, writer);
  } else {
    write_fixed(sense, writer);
  }
  return writer.size();
}

}  // namespace holdfast::scsi
