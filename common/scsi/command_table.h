#pragma once
// Every command this target serves, one row per operation code and service action: what the CDB
// decoder, REPORT SUPPORTED OPERATION CODES, the access checks (write protection, ALUA state,
// missing medium, reservations) and the statistics know about it. A command without a row does not
// exist.

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace holdfast::scsi {

// What to do, whatever the CDB's size.
enum class Operation : uint8_t {
  test_unit_ready,
  request_sense,
  inquiry,
  mode_sense,
  mode_select,
  start_stop_unit,
  prevent_allow_medium_removal,
  read_capacity_10,
  read_capacity_16,
  read,
  write,
  verify,
  write_and_verify,
  orwrite,
  write_same,
  unmap,
  compare_and_write,
  get_lba_status,
  pre_fetch,
  synchronize_cache,
  report_luns,
  report_supported_operation_codes,
  report_supported_task_management_functions,
  report_target_port_groups,
  persistent_reserve_in,
  persistent_reserve_out,
};

enum class DataDirection : uint8_t { none, in, out };

// The tables of allowed commands in SPC-4 5.13 and SBC-3 4.17, in the presence of a reservation
// held by another nexus: the columns are write exclusive / exclusive access from any nexus,
// all-registrants and registrants-only types from a registered nexus, and those types from an
// unregistered one.
enum class ReservationAccess : uint8_t {
  always,         // allowed in every column
  read,           // conflicts only with exclusive access types (unless registered with RO/AR)
  write,          // conflicts with every type (unless registered with RO/AR)
  start_stop,     // always when START=1 and POWER CONDITION=0, else write
  prevent_allow,  // always when PREVENT=0, else write
  reserve_out,    // the reservation state machine decides by service action (SPC-4 5.13)
};

enum CommandFlag : uint8_t {
  kMediumAccess = 1 << 0,          // addresses logical blocks
  kWritesMedium = 1 << 1,          // refused on a write-protected unit (07/27/00)
  kAllowedWithoutMedium = 1 << 2,  // served when a removable medium is ejected
  kAllowedInStandby = 1 << 3,      // SPC-4 5.15, standby; also allowed extras, see docs/scsi.md
  kAllowedInUnavailable = 1 << 4,  // SPC-4 5.15, unavailable; and while transitioning
  kKeepsUnitAttention = 1 << 5,    // INQUIRY, REPORT LUNS, REQUEST SENSE: SAM-5, unit attention
  kNeedsThin = 1 << 6,             // exists only on a thin unit (05/20/00 on another)
};

struct CommandRow {
  std::string_view name;
  uint8_t opcode = 0;
  bool has_service_action = false;
  uint8_t service_action = 0;
  Operation operation{};
  uint8_t cdb_length = 0;
  DataDirection direction{};  // at most; VERIFY without BYTCHK moves nothing: see cdb.h
  uint8_t flags = 0;          // CommandFlag
  ReservationAccess reservation{};
  uint16_t nominal_seconds = 0;      // NOMINAL COMMAND PROCESSING TIMEOUT
  uint16_t recommended_seconds = 0;  // RECOMMENDED COMMAND TIMEOUT
  // A one where this target uses the bit (SPC-4 6.35); bits that must be zero are zero. Byte 0
  // is the operation code.
  std::array<uint8_t, 16> usage{};

  constexpr bool has(CommandFlag flag) const { return (flags & flag) != 0; }
};

std::span<const CommandRow> command_table();

// Null when there is no such command. `service_action` is ignored for an opcode without any.
const CommandRow* find_command(uint8_t opcode, uint8_t service_action);

// The opcode selects among service actions (5Eh, 5Fh, 9Eh, A3h).
bool opcode_has_service_actions(uint8_t opcode);

// Row number, dense from 0: an index for per-command counters.
size_t command_index(const CommandRow& row);

}  // namespace holdfast::scsi
