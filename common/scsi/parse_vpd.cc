#include "common/scsi/parse_vpd.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/scsi/response_reader.h"

namespace holdfast::scsi {
namespace {

using base::Bytes;
using base::Errc;
using base::fail;
using base::Result;

constexpr size_t kHeader = 4;
constexpr size_t kDesignatorHeader = 4;
constexpr char kHexDigits[] = "0123456789abcdef";

uint64_t told_length(Bytes data) { return kHeader + uint64_t{ResponseReader(data).u16(2)}; }

Result<ResponseReader> open_page(Bytes data, uint8_t page) {
  if (data.size() < kHeader) return fail(Errc::protocol, "VPD page: shorter than its header");
  if (data[1] != page) return fail(Errc::protocol, "VPD page: another one than asked for");
  return ResponseReader(data, told_length(data));
}

bool has_content(Bytes value) {
  return std::ranges::any_of(value, [](uint8_t byte) { return byte != 0 && byte != ' '; });
}

// The name without its NULs: how many of them pad it says nothing (SPC-4 7.8.6).
Bytes scsi_name(Bytes value) {
  return value.first(static_cast<size_t>(std::ranges::find(value, uint8_t{0}) - value.begin()));
}

unsigned rank_naa(Bytes value) {
  constexpr unsigned kNone = 0;
  if (value.empty()) return kNone;
  switch (value[0] >> 4) {
    case 6:
      return value.size() == 16 ? 8 : kNone;
    case 5:
      return value.size() == 8 ? 7 : kNone;
    case 2:
      return value.size() == 8 ? 6 : kNone;
    case 3:
      return value.size() == 8 ? 2 : kNone;
    default:
      return kNone;
  }
}

// How good a name of the unit it is; 0: none.
unsigned rank(DesignatorType type, Bytes value) {
  constexpr size_t kT10VendorBytes = 8;
  if (!has_content(value)) return 0;
  switch (type) {
    case DesignatorType::naa:
      return rank_naa(value);
    case DesignatorType::eui64:
      return value.size() == 8 || value.size() == 12 || value.size() == 16 ? 5 : 0;
    case DesignatorType::uuid:
      return value.size() == 18 && has_content(value.subspan(2)) ? 4 : 0;
    case DesignatorType::scsi_name:
      return 3;
    case DesignatorType::t10_vendor_id:
      return value.size() > kT10VendorBytes && has_content(value.subspan(kT10VendorBytes)) ? 1 : 0;
    default:
      return 0;
  }
}

void append_hex(std::string& out, Bytes bytes) {
  for (const uint8_t byte : bytes) {
    out += kHexDigits[byte >> 4];
    out += kHexDigits[byte & 15];
  }
}

void append_text(std::string& out, Bytes bytes) {
  while (!bytes.empty() && (bytes.back() == ' ' || bytes.back() == 0)) {
    bytes = bytes.first(bytes.size() - 1);
  }
  for (const uint8_t byte : bytes) {
    if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
      out += static_cast<char>(byte);
    } else {
      out += "\\x";
      append_hex(out, {&byte, 1});
    }
  }
}

class BestIdentity {
 public:
  void offer(const Designator& designator) {
    const Bytes value = designator.type == DesignatorType::scsi_name ? scsi_name(designator.value)
                                                                     : designator.value;
    const unsigned offered = rank(designator.type, value);
    if (offered == 0 || offered < rank_) return;
    if (offered == rank_ && !std::ranges::lexicographical_compare(value, value_)) return;
    rank_ = offered;
    type_ = designator.type;
    value_ = value;
  }
  std::optional<UnitIdentity> get() const {
    if (rank_ == 0) return std::nullopt;
    return UnitIdentity(type_, value_);
  }

 private:
  unsigned rank_ = 0;
  DesignatorType type_{};
  Bytes value_{};
};

// Relative target port and target port group: two reserved bytes, then the number.
std::optional<uint16_t> port_number(Bytes value) {
  if (value.size() != 4) return std::nullopt;
  return base::load<base::be16>(value.subspan(2)).get();
}

}  // namespace

Result<SupportedPages> parse_supported_pages(Bytes data) {
  TRY_ASSIGN(const ResponseReader in, open_page(data, 0x00));
  // The list begins with page 00h itself (SPC-4 7.8.14). Standard data of a target that does not
  // know EVPD also has a zero in byte 1, but its length in byte 4.
  if (in.size() <= kHeader || in.u8(kHeader) != 0) {
    return fail(Errc::protocol, "VPD page 00h: it does not list itself");
  }
  SupportedPages pages;
  for (size_t at = kHeader; at < in.size(); ++at) pages.set(in.u8(at));
  return pages;
}

Result<std::string> parse_serial_number(Bytes data) {
  TRY_ASSIGN(const ResponseReader in, open_page(data, 0x80));
  if (in.size() < told_length(data)) return fail(Errc::protocol, "VPD page 80h: cut short");
  return in.text(kHeader, in.size() - kHeader);
}

DesignatorReader::DesignatorReader(Bytes page)
    : rest_(ResponseReader(page, told_length(page)).bytes(kHeader, page.size())) {}

std::optional<Designator> DesignatorReader::next() {
  const ResponseReader in(rest_);
  if (in.size() < kDesignatorHeader) return std::nullopt;
  const size_t length = in.u8(3);
  if (length > in.size() - kDesignatorHeader) return std::nullopt;
  rest_ = rest_.subspan(kDesignatorHeader + length);
  return Designator{.code_set = in.bits(0, 0, 4),
                    .association = static_cast<Association>(in.bits(1, 4, 2)),
                    .type = static_cast<DesignatorType>(in.bits(1, 0, 4)),
                    .value = in.bytes(kDesignatorHeader, length)};
}

UnitIdentity::UnitIdentity(DesignatorType type, Bytes value)
    : type_(type), size_(static_cast<uint8_t>(value.size())) {
  ASSERT(value.size() <= value_.size());
  std::ranges::copy(value, value_.begin());
}

std::string to_string(const UnitIdentity& identity) {
  std::string out;
  switch (identity.type()) {
    case DesignatorType::naa:
      out = "naa.";
      append_hex(out, identity.value());
      return out;
    case DesignatorType::eui64:
      out = "eui.";
      append_hex(out, identity.value());
      return out;
    case DesignatorType::uuid:
      out = "uuid.";
      // Two bytes of type and reserved go before the UUID.
      append_hex(out, identity.value().subspan(std::min<size_t>(2, identity.value().size())));
      return out;
    case DesignatorType::t10_vendor_id:
      out = "t10.";
      break;
    default:
      break;
  }
  append_text(out, identity.value());
  return out;
}

Result<DeviceIdentification> parse_device_identification(Bytes data) {
  TRY_ASSIGN(const ResponseReader in, open_page(data, 0x83));
  DeviceIdentification out;
  out.full_length = told_length(data);
  out.complete = out.full_length == in.size();
  BestIdentity best;
  DesignatorReader designators(data);
  while (const std::optional<Designator> designator = designators.next()) {
    if (designator->association == Association::logical_unit) best.offer(*designator);
    if (designator->association != Association::target_port) continue;
    if (designator->type == DesignatorType::relative_target_port) {
      out.relative_target_port = port_number(designator->value);
    } else if (designator->type == DesignatorType::target_port_group) {
      out.target_port_group = port_number(designator->value);
    }
  }
  out.unit = best.get();
  return out;
}

Result<BlockLimits> parse_block_limits(Bytes data) {
  constexpr uint32_t kAlignmentValid = 0x80000000;
  TRY_ASSIGN(const ResponseReader in, open_page(data, 0xb0));
  BlockLimits out{.write_same_nonzero = in.bit(4, 0),
                  .max_compare_and_write = in.u8(5),
                  .optimal_granularity = in.u16(6),
                  .max_transfer = in.u32(8),
                  .optimal_transfer = in.u32(12),
                  .max_unmap = in.u32(20),
                  .max_unmap_descriptors = in.u32(24),
                  .unmap_granularity = in.u32(28),
                  .max_write_same = in.u64(36)};
  const uint32_t alignment = in.u32(32);
  if ((alignment & kAlignmentValid) != 0) out.unmap_alignment = alignment & ~kAlignmentValid;
  return out;
}

Result<BlockCharacteristics> parse_block_characteristics(Bytes data) {
  TRY_ASSIGN(const ResponseReader in, open_page(data, 0xb1));
  return BlockCharacteristics{.rotation_rate = in.u16(4), .verifies_unmapped = in.bit(8, 0)};
}

Result<ProvisioningLimits> parse_provisioning(Bytes data) {
  TRY_ASSIGN(const ResponseReader in, open_page(data, 0xb2));
  return ProvisioningLimits{.unmap = in.bit(5, 7),
                            .write_same_16 = in.bit(5, 6),
                            .write_same_10 = in.bit(5, 5),
                            // SBC-4 made it three bits, of which xx1b is zeroes.
                            .reads_zeroes = in.bit(5, 2),
                            .provisioning_type = in.bits(6, 0, 3),
                            .threshold_exponent = in.u8(4)};
}

}  // namespace holdfast::scsi
