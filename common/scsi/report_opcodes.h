#pragma once
// REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.35,
// 6.36), both from the command table: what is reported is what is decoded.

#include "common/base/result.h"
#include "common/scsi/cdb.h"

namespace holdfast::scsi {

// All commands, or one, as command.reporting_options asks; commands that this unit does not have
// are left out. The wrong option for an opcode (1 with service actions, 2 without) is 05/24/00.
Outcome<size_t> report_supported_operation_codes(const Command& command, const LunDescription& lun,
                                                 MutableBytes out);

// ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET.
size_t report_supported_task_management_functions(const Command& command, MutableBytes out);

// The initiator's side, of REPORT SUPPORTED OPERATION CODES for one command: does the unit have
// it? Unknown: it does not say, or not now.
enum class OpcodeSupport : uint8_t { unknown, no, yes };
base::Result<OpcodeSupport> parse_supported_opcode(Bytes data);

}  // namespace holdfast::scsi
