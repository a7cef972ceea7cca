// CDBs and parameter lists from hostile bytes, through every builder and parser of common/scsi.
//   byte 0: the unit's flavour (bits) and, above, the length of the response buffer
//   byte 1: response buffer length, low byte   bytes 2-17: the CDB   then: the parameter list

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "common/base/assert.h"
#include "common/scsi/alua.h"
#include "common/scsi/capacity.h"
#include "common/scsi/inquiry.h"
#include "common/scsi/lba_status.h"
#include "common/scsi/mode_pages.h"
#include "common/scsi/report_luns.h"
#include "common/scsi/report_opcodes.h"
#include "common/scsi/unmap.h"

namespace holdfast::scsi {
namespace {

constexpr size_t kCdbLength = 16;
constexpr uint8_t kGuard = 0xa5;

struct Unit {
  LunDescription lun;
  PortDescription port;
  ModeState mode;
};

Unit make_unit(uint8_t flavour) {
  Unit unit;
  unit.lun.thin = (flavour & 1) != 0;
  unit.lun.removable = (flavour & 2) != 0;
  unit.lun.write_cache = (flavour & 4) != 0;
  unit.lun.block_size = (flavour & 8) != 0 ? 4096 : 512;
  unit.lun.capacity_blocks = (flavour & 16) != 0 ? 0x2'0000'0000 : 0x1000;
  unit.port.target_name = "iqn.2026-11.org.holdfast:fuzz";
  unit.mode.descriptor_sense = (flavour & 4) != 0;
  return unit;
}

size_t respond(const Command& command, const Unit& unit, MutableBytes out) {
  const std::array<uint16_t, 3> luns{0, 1, 300};
  const std::array<TargetPortGroup, 1> groups{
      TargetPortGroup{.tag = 1, .relative_port_ids = {1, 2}}};
  const std::array<LbaExtent, 1> extents{LbaExtent{.lba = command.lba, .blocks = 8}};
  switch (command.row->operation) {
    case Operation::inquiry:
      (void)inquiry_without_lun(command, out);
      return inquiry(command, unit.lun, unit.port, out).value_or(0);
    case Operation::mode_sense:
      return mode_sense(command, unit.lun, unit.mode, out).value_or(0);
    case Operation::read_capacity_10:
    case Operation::read_capacity_16:
      return read_capacity(command, unit.lun, out).value_or(0);
    case Operation::report_luns:
      return report_luns(command.select_report, luns, out);
    case Operation::report_supported_operation_codes:
      return report_supported_operation_codes(command, unit.lun, out).value_or(0);
    case Operation::report_supported_task_management_functions:
      return report_supported_task_management_functions(command, out);
    case Operation::report_target_port_groups:
      return report_target_port_groups(command, groups, 30, out);
    case Operation::get_lba_status:
      return lba_status(extents, out);
    default:
      return 0;
  }
}

void parse_list(const Command& command, const Unit& unit, Bytes list) {
  if (command.row->operation == Operation::mode_select) {
    const auto changes = mode_select(command, unit.lun, unit.mode, list);
    if (!changes) ASSERT(changes.error().key == SenseKey::illegal_request);
  } else if (command.row->operation == Operation::unmap) {
    std::vector<UnmapRange> ranges(max_unmap_descriptors(unit.lun));
    const auto count = parse_unmap(list, unit.lun, ranges);
    if (!count) return;
    uint64_t total = 0;
    for (size_t i = 0; i < *count; ++i) {
      ASSERT(ranges[i].blocks > 0);
      ASSERT(ranges[i].lba < unit.lun.capacity_blocks);
      ASSERT(ranges[i].blocks <= unit.lun.capacity_blocks - ranges[i].lba);
      total += ranges[i].blocks;
    }
    ASSERT(total <= max_unmap_blocks(unit.lun));
  }
}

// What passed check_limits addresses only blocks that exist, and not more than was promised.
void check_accepted(const Command& command, const Unit& unit) {
  if (!command.row->has(kMediumAccess) || command.row->operation == Operation::unmap) return;
  const uint64_t blocks = block_count(command, unit.lun.capacity_blocks);
  ASSERT(command.lba <= unit.lun.capacity_blocks);
  ASSERT(blocks <= unit.lun.capacity_blocks - command.lba);
  if (data_direction(command) != DataDirection::none &&
      command.row->operation != Operation::get_lba_status) {
    ASSERT(data_length(command, unit.lun.block_size) <= 2 * uint64_t{kMaxTransferBytes});
  }
}

// The rows that depend on the CDB's fields have been decided by them.
void check_access(const Command& command) {
  const ReservationAccess access = reservation_access(command);
  ASSERT(access != ReservationAccess::start_stop && access != ReservationAccess::prevent_allow);
  if (command.row->has(kWritesMedium)) {
    ASSERT(access == ReservationAccess::write);
    ASSERT(check_alua(AluaState::standby, *command.row));
  }
}

void check_sense(const Sense& sense) {
  std::array<uint8_t, kMaxSenseLength> out{};
  ASSERT(sense.key == SenseKey::illegal_request);
  ASSERT(encode(sense, false, out) == 18);
  ASSERT(encode(sense, true, out) <= out.size());
}

void fuzz_one(Bytes in) {
  (void)decode(in);  // CDBs of any length
  (void)decode_lun(in.first(std::min<size_t>(in.size(), 8)));
  if (in.size() < 2 + kCdbLength) return;
  const Unit unit = make_unit(in[0]);
  const size_t room = static_cast<size_t>(in[0] >> 5) << 8 | in[1];
  const auto command = decode(in.subspan(2, kCdbLength));
  if (!command) {
    check_sense(command.error());
    return;
  }
  ASSERT(command->row->opcode == in[2]);
  check_access(*command);
  if (const auto sense = check_limits(*command, unit.lun)) {
    check_sense(*sense);
  } else {
    check_accepted(*command, unit);
  }
  std::vector<uint8_t> out(room + 64, kGuard);
  respond(*command, unit, MutableBytes(out).first(room));
  for (size_t i = room; i < out.size(); ++i) ASSERT(out[i] == kGuard);
  parse_list(*command, unit, in.subspan(2 + kCdbLength));
}

}  // namespace
}  // namespace holdfast::scsi

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  holdfast::scsi::fuzz_one({data, size});
  return 0;
}
