#pragma once
// CDBs that an initiator sends: what cdb.h decodes, built. Plain values, no allocation, no clock.
// Arguments come from our own code, so a wrong one is an ASSERT. Always the 10- or 16-byte form,
// whose LBA reaches the end of any unit, and never protection information.

#include <array>
#include <optional>

#include "common/scsi/cdb.h"
#include "common/scsi/persistent_reservation.h"

namespace holdfast::scsi {

struct OutgoingCdb {
  std::array<uint8_t, 16> bytes{};  // zeroes behind a shorter one, as iSCSI sends it
  DataDirection direction = DataDirection::none;
  uint32_t length = 0;  // bytes of data: iSCSI's Expected Data Transfer Length
  bool operator==(const OutgoingCdb&) const = default;
};

struct BlockRange {
  uint64_t lba = 0;
  uint32_t blocks = 0;
};

enum class WriteSameData : uint8_t { one_block, none };

}  // namespace holdfast::scsi

// A namespace of their own: the target's builders of the answers have the same names.
namespace holdfast::scsi::build {

// Commands without a unit's blocks. `allocation` is how much of the answer is wanted at most.
OutgoingCdb test_unit_ready();
OutgoingCdb inquiry(uint16_t allocation);
OutgoingCdb inquiry_vpd(uint8_t page, uint16_t allocation);
OutgoingCdb report_luns(uint32_t allocation);  // SELECT REPORT 0: no well-known units
OutgoingCdb read_capacity16();
OutgoingCdb mode_sense10(uint8_t page, uint16_t allocation);  // current values, DBD=1
OutgoingCdb report_target_port_groups(bool extended_header, uint32_t allocation);
// All commands; or one, where an opcode that has service actions needs one to be named.
OutgoingCdb report_supported_opcodes(uint32_t allocation);
OutgoingCdb report_supported_opcode(uint8_t opcode, std::optional<uint16_t> service_action,
                                    uint32_t allocation);
OutgoingCdb persistent_reserve_in(ReserveIn action, uint16_t allocation);
// Scope: logical unit. The type counts, and must be given, for RESERVE, RELEASE and the two
// PREEMPTs. The 24 bytes of data are encode_pr_out_parameters().
OutgoingCdb persistent_reserve_out(ReserveOut action, std::optional<PrType> type);

// Commands on blocks. What moves must be below 4 GiB.
OutgoingCdb read16(const BlockRange& range, uint32_t block_size, bool fua);
OutgoingCdb write16(const BlockRange& range, uint32_t block_size, bool fua);
// The data is the comparand, then what to write. 1 block or more: with 0 the command succeeds
// without a comparison, and somebody would believe in a lock.
OutgoingCdb compare_and_write(uint64_t lba, uint8_t blocks, uint32_t block_size, bool fua);
// Without data (BYTCHK=0): the target reads its medium.
OutgoingCdb verify16(const BlockRange& range);
// With data (BYTCHK=1): the target compares.
OutgoingCdb verify16_compare(const BlockRange& range, uint32_t block_size);
// One block of data; or none (NDOB=1) and the blocks become zeroes. `unmap`: the target may
// deallocate. 1 block or more: 0 is "to the end of the unit".
OutgoingCdb write_same16(const BlockRange& range, WriteSameData data, bool unmap,
                         uint32_t block_size);
// The data is encode_unmap() of as many ranges.
OutgoingCdb unmap(size_t ranges);
OutgoingCdb synchronize_cache16(const BlockRange& range);  // 0 blocks: to the end of the unit
OutgoingCdb get_lba_status(uint64_t lba, uint32_t allocation);

}  // namespace holdfast::scsi::build
