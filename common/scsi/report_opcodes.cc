#include "common/scsi/report_opcodes.h"

#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr uint16_t kTimeoutsLength = 0x0a;
constexpr unsigned kServactv = 0x01;
constexpr unsigned kCtdpAll = 0x02;
constexpr unsigned kCtdpOne = 0x80;
constexpr unsigned kNotSupported = 0x01;
constexpr unsigned kSupported = 0x03;  // in conformance with a standard

// REPORTING OPTIONS, SPC-4 6.35.
constexpr uint8_t kAllCommands = 0;
constexpr uint8_t kByOpcode = 1;
constexpr uint8_t kByServiceAction = 2;

bool exists_on(const CommandRow& row, const LunDescription& lun) {
  return lun.thin || !row.has(kNeedsThin);
}

// SPC-4 6.35, command timeouts descriptor.
void write_timeouts(const CommandRow& row, ResponseWriter& writer) {
  writer.u16(kTimeoutsLength);
  writer.zeros(2);
  writer.u32(row.nominal_seconds);
  writer.u32(row.recommended_seconds);
}

size_t report_all(const Command& command, const LunDescription& lun, MutableBytes out) {
  ResponseWriter writer(out);
  writer.u32(0);
  for (const CommandRow& row : command_table()) {
    if (!exists_on(row, lun)) continue;
    writer.u8(row.opcode);
    writer.u8(0);
    writer.u16(row.service_action);
    writer.u8(0);
    writer.u8((row.has_service_action ? kServactv : 0U) |
              (command.return_timeouts ? kCtdpAll : 0U));
    writer.u16(row.cdb_length);
    if (command.return_timeouts) write_timeouts(row, writer);
  }
  writer.patch_u32(0, writer.size() - 4);
  return writer.size();
}

// Null: not supported.
const CommandRow* find_requested(const Command& command) {
  const uint16_t service_action = command.requested_service_action;
  if (!opcode_has_service_actions(command.requested_opcode)) {
    // Option 3 asks for exactly this service action; there is none but zero.
    if (command.reporting_options != kByOpcode && service_action != 0) return nullptr;
    return find_command(command.requested_opcode, 0);
  }
  if (service_action > 0xff) return nullptr;
  return find_command(command.requested_opcode, static_cast<uint8_t>(service_action));
}

size_t report_one(const Command& command, const LunDescription& lun, MutableBytes out) {
  ResponseWriter writer(out);
  const CommandRow* row = find_requested(command);
  writer.u8(0);
  if (row == nullptr || !exists_on(*row, lun)) {
    writer.u8(kNotSupported);
    writer.u16(0);
    return writer.size();
  }
  writer.u8(kSupported | (command.return_timeouts ? kCtdpOne : 0U));
  writer.u16(row->cdb_length);
  writer.bytes(Bytes(row->usage).first(row->cdb_length));
  if (command.return_timeouts) write_timeouts(*row, writer);
  return writer.size();
}

}  // namespace

Outcome<size_t> report_supported_operation_codes(const Command& command, const LunDescription& lun,
                                                 MutableBytes out) {
  if (command.reporting_options == kAllCommands) return report_all(command, lun, out);
  const uint8_t opcode = command.requested_opcode;
  const bool has_actions = opcode_has_service_actions(opcode);
  // An opcode that is not known has no wrong option: it is answered "not supported".
  const bool known = has_actions || find_command(opcode, 0) != nullptr;
  const bool wrong = (command.reporting_options == kByOpcode && has_actions) ||
                     (command.reporting_options == kByServiceAction && known && !has_actions);
  if (wrong) return std::unexpected(kInvalidFieldInCdb.at_cdb(2, 2));
  return report_one(command, lun, out);
}

size_t report_supported_task_management_functions(const Command& command, MutableBytes out) {
  constexpr unsigned kAts = 0x80;   // ABORT TASK
  constexpr unsigned kAtss = 0x40;  // ABORT TASK SET
  constexpr unsigned kCtss = 0x10;  // CLEAR TASK SET
  constexpr unsigned kLurs = 0x08;  // LOGICAL UNIT RESET
  constexpr unsigned kTrs = 0x02;   // TARGET RESET
  constexpr size_t kExtendedLength = 0x0c;
  ResponseWriter writer(out);
  writer.u8(kAts | kAtss | kCtss | kLurs | kTrs);
  writer.zeros(2);
  writer.u8(command.extended_data ? kExtendedLength : 0);
  if (command.extended_data) writer.zeros(kExtendedLength);  // TMFTMOV=0: no timeouts told
  return writer.size();
}

}  // namespace holdfast::scsi
