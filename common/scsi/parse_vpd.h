#pragma once
// Vital product data as an initiator reads it (SPC-4 7.8, SBC-3 6.6): the other half of vpd.h. A
// page is at most what came, whatever its PAGE LENGTH says; a page that is another than the one
// asked for is Errc::protocol (old targets answer with standard data). Fields that an older
// standard did not have read as zero.

#include <array>
#include <bitset>
#include <optional>
#include <string>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace holdfast::scsi {

// Page 00h.
using SupportedPages = std::bitset<256>;
base::Result<SupportedPages> parse_supported_pages(base::Bytes data);

// Page 80h: without padding; unprintable characters are '?'. Empty: the unit has none. For people,
// and to tell units apart where their identities are equal: it is no identity itself.
base::Result<std::string> parse_serial_number(base::Bytes data);

// Page 83h, SPC-4 7.8.6.
enum class Association : uint8_t { logical_unit = 0, target_port = 1, target_device = 2 };
enum class DesignatorType : uint8_t {
  vendor_specific = 0,
  t10_vendor_id = 1,
  eui64 = 2,
  naa = 3,
  relative_target_port = 4,
  target_port_group = 5,
  logical_unit_group = 6,
  md5 = 7,
  scsi_name = 8,
  protocol_specific_port = 9,
  uuid = 10,
};
// One descriptor; `value` lies in the page.
struct Designator {
  uint8_t code_set = 0;  // 1 binary, 2 ASCII, 3 UTF-8
  Association association{};
  DesignatorType type{};  // other codes than those listed occur
  base::Bytes value{};
};
// Over the descriptors of a page, in their order; ends where the next one is not whole.
class DesignatorReader {
 public:
  explicit DesignatorReader(base::Bytes page);
  std::optional<Designator> next();

 private:
  base::Bytes rest_;
};

// Two paths lead to the same unit if, and only if, these are equal.
class UnitIdentity {
 public:
  UnitIdentity(DesignatorType type, base::Bytes value);
  DesignatorType type() const { return type_; }
  base::Bytes value() const { return base::Bytes(value_).first(size_); }
  bool operator==(const UnitIdentity&) const = default;

 private:
  DesignatorType type_;
  uint8_t size_;
  std::array<uint8_t, 255> value_{};  // zero behind size_
};
// "naa.60248460...", "eui...", "uuid...", "t10.VENDOR...": printable, unprintable bytes as \xNN;
// a SCSI name string is itself.
std::string to_string(const UnitIdentity& identity);

struct DeviceIdentification {
  // The best designator of the unit: NAA 6, NAA 5 and 2, EUI-64, UUID, SCSI name, NAA 3 (its
  // administrator promises that it is unique, not its maker), T10 vendor ID. Of two equally good
  // ones that with the smaller bytes, so it is the same in whatever order a port lists them.
  // Nothing of the wrong length or without content: two units may share that.
  std::optional<UnitIdentity> unit{};
  // Of the port that answered.
  std::optional<uint16_t> relative_target_port{};
  std::optional<uint16_t> target_port_group{};
  uint64_t full_length = 0;  // of the whole page
  bool complete = false;     // false: a better identity may be missing; ask with full_length
};
base::Result<DeviceIdentification> parse_device_identification(base::Bytes data);

// Page B0h. In blocks; 0 where the unit states no limit.
struct BlockLimits {
  bool write_same_nonzero = false;  // WSNZ
  uint8_t max_compare_and_write = 0;
  uint16_t optimal_granularity = 0;
  uint32_t max_transfer = 0;
  uint32_t optimal_transfer = 0;
  uint32_t max_unmap = 0;
  uint32_t max_unmap_descriptors = 0;
  uint32_t unmap_granularity = 0;
  std::optional<uint32_t> unmap_alignment{};
  uint64_t max_write_same = 0;
  bool operator==(const BlockLimits&) const = default;
};
base::Result<BlockLimits> parse_block_limits(base::Bytes data);

// Page B1h.
struct BlockCharacteristics {
  uint16_t rotation_rate = 0;  // 0: not told; 1: does not rotate; else per minute
  bool verifies_unmapped = false;
  bool is_non_rotating() const { return rotation_rate == 1; }
  bool operator==(const BlockCharacteristics&) const = default;
};
base::Result<BlockCharacteristics> parse_block_characteristics(base::Bytes data);

// Page B2h.
struct ProvisioningLimits {
  bool unmap = false;              // LBPU: UNMAP
  bool write_same_16 = false;      // LBPWS: WRITE SAME(16) with UNMAP
  bool write_same_10 = false;      // LBPWS10
  bool reads_zeroes = false;       // LBPRZ, of SBC-3 and of SBC-4
  uint8_t provisioning_type = 0;   // 0 not told, 1 resource provisioned, 2 thin
  uint8_t threshold_exponent = 0;  // 0: no thresholds
  bool operator==(const ProvisioningLimits&) const = default;
};
base::Result<ProvisioningLimits> parse_provisioning(base::Bytes data);

}  // namespace holdfast::scsi
