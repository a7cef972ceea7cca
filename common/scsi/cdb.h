#pragma once
// CDB decoding: bytes of a peer in, a checked flat Command or the Sense to answer with out.
// Table lookup by opcode, no loops, no allocation: it is on the path of every READ and WRITE.
// Not checked here, because they need the logical unit: the range (check_range), limits
// (check_limits), write protection, ALUA state, reservations.

#include <cstdint>
#include <optional>

#include "common/base/bytes.h"
#include "common/scsi/command_table.h"
#include "common/scsi/lun_description.h"
#include "common/scsi/sense.h"

namespace holdfast::scsi {

// PERSISTENT RESERVE IN service actions (SPC-4 6.15).
enum class ReserveIn : uint8_t {
  read_keys = 0,
  read_reservation,
  report_capabilities,
  full_status
};

// PERSISTENT RESERVE OUT service actions (SPC-4 6.16). REGISTER AND MOVE is not served.
enum class ReserveOut : uint8_t {
  register_key = 0,
  reserve = 1,
  release = 2,
  clear = 3,
  preempt = 4,
  preempt_and_abort = 5,
  register_and_ignore = 6,
};

// MODE SENSE page control (SPC-4 6.13).
enum class PageControl : uint8_t { current = 0, changeable = 1, defaults = 2, saved = 3 };

// Only the fields of the command's own CDB are set; the others keep their zeroes.
struct Command {
  const CommandRow* row = nullptr;
  uint64_t lba = 0;
  // Transfer, verification, prefetch or write-same length; READ(6) and WRITE(6) 0 are 256. See
  // block_count() for the commands where 0 means "to the end".
  uint32_t blocks = 0;
  uint32_t allocation_length = 0;
  uint32_t parameter_list_length = 0;

  bool fua = false;
  bool dpo = false;
  bool immed = false;
  bool unmap = false;   // WRITE SAME
  bool anchor = false;  // always refused: ANC_SUP=0
  bool ndob = false;    // WRITE SAME(16) without data: zeroes
  uint8_t bytchk = 0;   // VERIFY: 0, 1 or 3; WRITE AND VERIFY: 0 or 1

  bool evpd = false;
  uint8_t page = 0;     // INQUIRY, MODE SENSE
  uint8_t subpage = 0;  // MODE SENSE
  PageControl page_control = PageControl::current;
  bool dbd = false;    // MODE SENSE: no block descriptors
  bool llbaa = false;  // MODE SENSE(10)
  bool pf = false;     // MODE SELECT
  bool sp = false;     // MODE SELECT: always refused, nothing is saveable

  bool pmi = false;               // READ CAPACITY
  bool descriptor_sense = false;  // REQUEST SENSE DESC
  uint8_t select_report = 0;      // REPORT LUNS
  bool extended_header = false;   // REPORT TARGET PORT GROUPS
  bool return_timeouts = false;   // RSOC RCTD
  bool extended_data = false;     // RSTMF REPD
  uint8_t reporting_options = 0;  // RSOC 0..3
  uint8_t requested_opcode = 0;   // RSOC
  uint16_t requested_service_action = 0;

  uint8_t service_action = 0;
  uint8_t reservation_scope = 0;  // PERSISTENT RESERVE OUT; not checked here
  uint8_t reservation_type = 0;

  uint8_t prevent = 0;          // PREVENT ALLOW: 0 or 1
  uint8_t power_condition = 0;  // START STOP UNIT
  uint8_t power_condition_modifier = 0;
  bool no_flush = false;
  bool loej = false;
  bool start = false;

  ReserveIn reserve_in() const { return static_cast<ReserveIn>(service_action); }
  ReserveOut reserve_out() const { return static_cast<ReserveOut>(service_action); }
  bool operator==(const Command&) const = default;
};

// `cdb` is the whole CDB field (iSCSI: 16 bytes, plus any extended CDB). Too short for its
// opcode, unknown, or a field this target must refuse: the sense says which byte and bit.
Outcome<Command> decode(Bytes cdb);

// lba + blocks <= capacity, without overflow. SBC-3 4.5; a zero length at the very end is in
// range, beyond it is not. The sense carries no INFORMATION (only the first wrong LBA is known to
// be wrong and it is the CDB's own).
std::optional<Sense> check_range(uint64_t lba, uint64_t blocks, uint64_t capacity_blocks);

// How many blocks the command addresses. A length of 0 is "from the LBA to the last one" for
// WRITE SAME (WSNZ=0), SYNCHRONIZE CACHE and PRE-FETCH, and nothing for the others.
uint64_t block_count(const Command& command, uint64_t capacity_blocks);

// What the LUN's description alone can refuse, in this order: a command this unit does not have
// (05/20/00), the range (05/21/00), then the limits VPD B0h promises (05/24/00): MAXIMUM TRANSFER
// LENGTH (also for VERIFY and WRITE AND VERIFY with data), MAXIMUM WRITE SAME LENGTH (a length of
// 0 that reaches further counts too), MAXIMUM COMPARE AND WRITE LENGTH; and WRITE SAME with UNMAP
// on a unit that is not thin. Check for a missing medium and for write protection first: their
// sense takes precedence. VERIFY without data may cover the whole unit: the caller reads it in
// pieces.
std::optional<Sense> check_limits(const Command& command, const LunDescription& lun);

// Bytes the CDB itself asks to move, and which way; residuals are counted against it. In-commands
// with an allocation length give that length: the response may be shorter.
uint64_t data_length(const Command& command, uint32_t block_size);
DataDirection data_direction(const Command& command);

// The row's class with START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL resolved by their fields:
// always, read, write or reserve_out.
ReservationAccess reservation_access(const Command& command);

}  // namespace holdfast::scsi
