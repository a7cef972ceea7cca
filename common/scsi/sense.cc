#include "common/scsi/sense.h"

#include <algorithm>
#include <limits>

#include "common/base/endian.h"
#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr unsigned kFixedCurrent = 0x70;
constexpr unsigned kFixedDeferred = 0x71;
constexpr unsigned kDescriptorCurrent = 0x72;
constexpr unsigned kDescriptorDeferred = 0x73;
constexpr uint8_t kInformationDescriptor = 0x00;
constexpr uint8_t kKeySpecificDescriptor = 0x02;
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
    writer.u8(kInformationDescriptor);
    writer.u8(0x0a);
    writer.u8(kValid);
    writer.u8(0);
    writer.u64(*sense.information);
  }
  if (has_key_specific(sense)) {
    writer.u8(kKeySpecificDescriptor);
    writer.u8(0x06);
    writer.zeros(2);
    write_key_specific(sense, writer);
    writer.u8(0);
  }
  writer.patch_u8(7, writer.size() - 8);
}

// SENSE KEY SPECIFIC; what it means depends on the key. `bytes` has 3.
void read_key_specific(Bytes bytes, Sense& sense) {
  if ((bytes[0] & kValid) == 0) return;
  const auto value = base::load<base::be16>(bytes.subspan(1));
  if (sense.key == SenseKey::illegal_request) {
    FieldPointer field{.in_cdb = (bytes[0] & 0x40) != 0, .byte = value};
    if ((bytes[0] & 0x08) != 0) field.bit = static_cast<uint8_t>(bytes[0] & 7);
    sense.field = field;
  } else if (sense.key == SenseKey::not_ready || sense.key == SenseKey::no_sense) {
    sense.progress = value;
  }
}

// Fields beyond ADDITIONAL SENSE LENGTH are not there, whatever the buffer holds (SPC-4 4.5.3).
Sense read_fixed(Bytes data) {
  Sense sense;
  if (data.size() > 2) sense.key = static_cast<SenseKey>(data[2] & 0x0f);
  if (data.size() >= 7 && (data[0] & kValid) != 0) {
    sense.information = base::load<base::be32>(data.subspan(3));
  }
  if (data.size() < 8) return sense;
  data = data.first(std::min<size_t>(data.size(), 8 + size_t{data[7]}));
  if (data.size() > 12) sense.asc = data[12];
  if (data.size() > 13) sense.ascq = data[13];
  if (data.size() >= kFixedLength) read_key_specific(data.subspan(15), sense);
  return sense;
}

Sense read_descriptors(Bytes data) {
  Sense sense;
  if (data.size() > 1) sense.key = static_cast<SenseKey>(data[1] & 0x0f);
  if (data.size() > 2) sense.asc = data[2];
  if (data.size() > 3) sense.ascq = data[3];
  if (data.size() < 8) return sense;
  Bytes rest = data.subspan(8);
  rest = rest.first(std::min<size_t>(rest.size(), data[7]));
  while (rest.size() >= 2) {
    const size_t length = 2 + size_t{rest[1]};
    if (length > rest.size()) break;
    const Bytes descriptor = rest.first(length);
    rest = rest.subspan(length);
    if (descriptor[0] == kInformationDescriptor && length >= 12) {
      if ((descriptor[2] & kValid) == 0) continue;
      sense.information = base::load<base::be64>(descriptor.subspan(4));
    } else if (descriptor[0] == kKeySpecificDescriptor && length >= 8) {
      read_key_specific(descriptor.subspan(4, 3), sense);
    }
  }
  return sense;
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

Sense decode_sense(Bytes data) {
  if (data.empty()) return kNoSense;
  const unsigned format = data[0] & 0x7fU;
  Sense sense;
  if (format == kFixedCurrent || format == kFixedDeferred) {
    sense = read_fixed(data);
  } else if (format == kDescriptorCurrent || format == kDescriptorDeferred) {
    sense = read_descriptors(data);
  } else {
    return kNoSense;
  }
  sense.deferred = format == kFixedDeferred || format == kDescriptorDeferred;
  return sense;
}

}  // namespace holdfast::scsi
