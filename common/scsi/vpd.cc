#include "common/scsi/vpd.h"

#include <string_view>

#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr uint8_t kPages[] = {0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2};

// An OUI of ours does not exist; 024846h has the locally administered bit, which no registered OUI
// has, so it cannot be another vendor's.
constexpr uint32_t kLocalOui = 0x024846;

// Designation descriptor fields, SPC-4 7.8, Device Identification.
constexpr unsigned kBinary = 1;
constexpr unsigned kAscii = 2;
constexpr unsigned kUtf8 = 3;
constexpr unsigned kLogicalUnit = 0 << 4;
constexpr unsigned kTargetPort = 1 << 4;
constexpr unsigned kTargetDevice = 2 << 4;
constexpr unsigned kPiv = 0x80;
constexpr unsigned kIscsi = 5 << 4;
constexpr unsigned kTypeT10 = 1;
constexpr unsigned kTypeNaa = 3;
constexpr unsigned kTypeRelativePort = 4;
constexpr unsigned kTypePortGroup = 5;
constexpr unsigned kTypeScsiName = 8;

constexpr size_t kMaxIscsiName = 223;  // RFC 7143 4.2.7.1
constexpr size_t kSerialMax = 252;     // one byte of page length in old initiators

struct Hex {
  std::array<char, 32> digits{};
  std::string_view view() const { return {digits.data(), digits.size()}; }
};

constexpr char kHexDigits[] = "0123456789abcdef";

Hex to_hex(const std::array<uint8_t, 16>& uuid) {
  Hex out;
  for (size_t i = 0; i < uuid.size(); ++i) {
    out.digits[2 * i] = kHexDigits[uuid[i] >> 4];
    out.digits[2 * i + 1] = kHexDigits[uuid[i] & 15];
  }
  return out;
}

void write_supported_pages(ResponseWriter& writer) {
  for (const uint8_t page : kPages) writer.u8(page);
}

void write_serial(const LunDescription& lun, ResponseWriter& writer) {
  if (lun.serial.empty()) {
    writer.bytes(base::as_bytes(to_hex(lun.uuid).view()));
  } else {
    writer.bytes(base::as_bytes(std::string_view(lun.serial).substr(0, kSerialMax)));
  }
}

void designator_header(ResponseWriter& writer, unsigned code_set, unsigned association,
                       unsigned type, size_t length) {
  // PROTOCOL IDENTIFIER is valid for port and device designators only.
  const bool piv = association != kLogicalUnit;
  writer.u8((piv ? kIscsi : 0U) | code_set);
  writer.u8((piv ? kPiv : 0U) | association | type);
  writer.u8(0);
  writer.u8(static_cast<unsigned>(length));
}

// SCSI name string: UTF-8, NUL-terminated, padded with NULs to a multiple of four.
void write_scsi_name(ResponseWriter& writer, unsigned association, std::string_view name,
                     std::string_view suffix) {
  const size_t text = name.size() + suffix.size();
  const size_t padded = base::round_up(text + 1, 4);
  designator_header(writer, kUtf8, association, kTypeScsiName, padded);
  writer.bytes(base::as_bytes(name));
  writer.bytes(base::as_bytes(suffix));
  writer.zeros(padded - text);
}

void write_identification(const LunDescription& lun, const PortDescription& port,
                          ResponseWriter& writer) {
  // The unit's own designators: equal on every port.
  const std::array<uint8_t, 16> naa = naa_identifier(lun.uuid);
  designator_header(writer, kBinary, kLogicalUnit, kTypeNaa, naa.size());
  writer.bytes(naa);
  const Hex hex = to_hex(lun.uuid);
  designator_header(writer, kAscii, kLogicalUnit, kTypeT10, 8 + hex.digits.size());
  writer.text(lun.vendor, 8);
  writer.bytes(base::as_bytes(hex.view()));

  designator_header(writer, kBinary, kTargetPort, kTypeRelativePort, 4);
  writer.u16(0);
  writer.u16(port.relative_target_port_id);
  designator_header(writer, kBinary, kTargetPort, kTypePortGroup, 4);
  writer.u16(0);
  writer.u16(port.target_port_group);
  // RFC 7143 4.4.2: name of an iSCSI target port.
  std::array<char, 9> suffix{',', 't', ',', '0', 'x', '0', '0', '0', '0'};
  for (size_t i = 0; i < 4; ++i) {
    suffix[5 + i] = kHexDigits[(port.portal_group_tag >> (12 - 4 * i)) & 15];
  }
  const std::string_view name = std::string_view(port.target_name).substr(0, kMaxIscsiName);
  write_scsi_name(writer, kTargetPort, name, {suffix.data(), suffix.size()});
  write_scsi_name(writer, kTargetDevice, name, {});
}

// SPC-4 7.8, Extended INQUIRY Data. No protection information, no priorities, no grouping; task
// attributes: SIMPLE.
void write_extended_inquiry(const LunDescription& lun, ResponseWriter& writer) {
  constexpr unsigned kSimpsup = 0x01;
  constexpr unsigned kVsup = 0x01;
  constexpr size_t kLength = 0x3c;
  writer.u8(0);
  writer.u8(kSimpsup);
  writer.u8(lun.write_cache ? kVsup : 0);
  writer.zeros(6);
  writer.u8(kMaxSenseLength);
  writer.zeros(kLength - 10);
}

// SBC-3 6.6, Block Limits.
void write_block_limits(const LunDescription& lun, ResponseWriter& writer) {
  constexpr uint32_t kAlignmentValid = 0x80000000;
  const uint32_t granularity = unmap_granularity_blocks(lun);
  writer.u8(0);  // WSNZ=0: a length of zero is to the end
  writer.u8(kMaxCompareAndWriteBlocks);
  writer.u16(static_cast<uint16_t>(1U << lun.physical_block_exponent));
  writer.u32(max_transfer_blocks(lun));
  writer.u32(lun.optimal_transfer_blocks);
  writer.u32(0);  // MAXIMUM PREFETCH LENGTH: no limit
  writer.u32(lun.thin ? max_unmap_blocks(lun) : 0);
  writer.u32(lun.thin ? max_unmap_descriptors(lun) : 0);
  writer.u32(lun.thin ? granularity : 0);
  writer.u32(lun.thin ? kAlignmentValid | (lun.unmap_alignment_blocks & ~kAlignmentValid) : 0);
  writer.u64(max_write_same_blocks(lun));
  writer.zeros(20);
}

// SBC-3 6.6, Block Device Characteristics. Rotation rate 1: non-rotating, so that initiators do not
// sort by LBA.
void write_characteristics(ResponseWriter& writer) {
  constexpr unsigned kVbuls = 0x01;  // VERIFY compares unmapped blocks too: they read as zeroes
  writer.u16(1);
  writer.zeros(2);
  writer.u8(kVbuls);
  writer.zeros(0x3c - 5);
}

// SBC-3 6.6, Logical Block Provisioning.
void write_provisioning(const LunDescription& lun, ResponseWriter& writer) {
  constexpr unsigned kLbpuLbpwsLbpws10Lbprz = 0x80 | 0x40 | 0x20 | 0x04;
  constexpr unsigned kTypeThin = 2;
  writer.u8(0);  // THRESHOLD EXPONENT: no thresholds
  writer.u8(lun.thin ? kLbpuLbpwsLbpws10Lbprz : 0);
  writer.u8(lun.thin ? kTypeThin : 0);
  writer.u8(0);
}

}  // namespace

std::array<uint8_t, 16> naa_identifier(const std::array<uint8_t, 16>& uuid) {
  // Bytes 0..3 and the high half of 4 (36 bits), then 8..15: they leave out the version bits of a
  // UUID, which are not random.
  std::array<uint8_t, 16> out{};
  out[0] = static_cast<uint8_t>(0x60 | kLocalOui >> 20);
  out[1] = static_cast<uint8_t>(kLocalOui >> 12);
  out[2] = static_cast<uint8_t>(kLocalOui >> 4);
  out[3] = static_cast<uint8_t>((kLocalOui & 15) << 4 | uuid[0] >> 4);
  for (size_t i = 0; i < 4; ++i) {
    out[4 + i] = static_cast<uint8_t>((uuid[i] & 15) << 4 | uuid[i + 1] >> 4);
  }
  for (size_t i = 8; i < 16; ++i) out[i] = uuid[i];
  return out;
}

Outcome<size_t> vpd_page(uint8_t page, const LunDescription& lun, const PortDescription& port,
                         MutableBytes out) {
  ResponseWriter writer(out);
  writer.u8(0x00);  // direct access block device
  writer.u8(page);
  writer.u16(0);
  switch (page) {
    case 0x00:
      write_supported_pages(writer);
      break;
    case 0x80:
      write_serial(lun, writer);
      break;
    case 0x83:
      write_identification(lun, port, writer);
      break;
    case 0x86:
      write_extended_inquiry(lun, writer);
      break;
    case 0xb0:
      write_block_limits(lun, writer);
      break;
    case 0xb1:
      write_characteristics(writer);
      break;
    case 0xb2:
      write_provisioning(lun, writer);
      break;
    default:
      return std::unexpected(kInvalidFieldInCdb.at_cdb(2));
  }
  writer.patch_u16(2, writer.size() - 4);
  return writer.size();
}

}  // namespace holdfast::scsi
