#include "common/scsi/command_table.h"

#include <cstddef>

#include "common/base/assert.h"

namespace holdfast::scsi {
namespace {

using enum DataDirection;
using Access = ReservationAccess;
using Op = Operation;

constexpr uint8_t kRead = kMediumAccess;
constexpr uint8_t kWrite = kMediumAccess | kWritesMedium;
// Says nothing about the medium, and works in every state a path can be in.
constexpr uint8_t kEverywhere = kAllowedWithoutMedium | kAllowedInStandby | kAllowedInUnavailable;
constexpr uint8_t kManagement = kAllowedWithoutMedium | kAllowedInStandby;

// Seconds: ready answers; a disk's own worst case; commands that touch many blocks.
constexpr uint16_t kQuick = 10;
constexpr uint16_t kDisk = 30;
constexpr uint16_t kLong = 120;

// The usage map in hex is the row's source for the opcode and the CDB length too. The nominal time
// is a second for all: what a loaded disk takes, not what a broken one may.
consteval CommandRow row(std::string_view name, std::string_view usage, Op operation,
                         DataDirection direction, uint8_t flags, Access reservation,
                         uint16_t recommended_seconds, int service_action = -1) {
  CommandRow out{.name = name,
                 .has_service_action = service_action >= 0,
                 .service_action = static_cast<uint8_t>(service_action >= 0 ? service_action : 0),
                 .operation = operation,
                 .direction = direction,
                 .flags = flags,
                 .reservation = reservation,
                 .nominal_seconds = 1,
                 .recommended_seconds = recommended_seconds};
  size_t digits = 0;
  for (const char c : usage) {
    if (c == ' ') continue;
    const int value = c >= 'a' ? c - 'a' + 10 : c - '0';
    uint8_t& byte = out.usage.at(digits / 2);
    byte = static_cast<uint8_t>(byte << 4 | value);
    ++digits;
  }
  out.cdb_length = static_cast<uint8_t>(digits / 2);
  out.opcode = out.usage[0];
  return out;
}

// Ordered by opcode, then service action: REPORT SUPPORTED OPERATION CODES lists it so. The
// reservation class is that of the tables in SPC-4 5.13 and SBC-3 4.17.
constexpr CommandRow kTable[] = {
    row("TEST UNIT READY", "00 00 00 00 00 00", Op::test_unit_ready, none, 0, Access::always,
        kQuick),
    row("REQUEST SENSE", "03 01 00 00 ff 00", Op::request_sense, in,
        kEverywhere | kKeepsUnitAttention, Access::always, kQuick),
    row("READ(6)", "08 1f ffffff 00", Op::read, in, kRead, Access::read, kDisk),
    row("WRITE(6)", "0a 1f ffffff 00", Op::write, out, kWrite, Access::write, kDisk),
    row("INQUIRY", "12 01 ffffff 00", Op::inquiry, in, kEverywhere | kKeepsUnitAttention,
        Access::always, kQuick),
    row("MODE SELECT(6)", "15 11 00 00 ff 00", Op::mode_select, out, kManagement, Access::write,
        kQuick),
    row("MODE SENSE(6)", "1a 08 ffffff 00", Op::mode_sense, in, kManagement, Access::read, kQuick),
    row("START STOP UNIT", "1b 01 00 0f f7 00", Op::start_stop_unit, none, kAllowedWithoutMedium,
        Access::start_stop, kDisk),
    row("PREVENT ALLOW MEDIUM REMOVAL", "1e 00 00 00 03 00", Op::prevent_allow_medium_removal, none,
        kAllowedWithoutMedium, Access::prevent_allow, kQuick),
    row("READ CAPACITY(10)", "25 00 ffffffff 00 00 01 00", Op::read_capacity_10, in,
        kAllowedInStandby, Access::always, kQuick),
    row("READ(10)", "28 18 ffffffff 00 ffff 00", Op::read, in, kRead, Access::read, kDisk),
    row("WRITE(10)", "2a 18 ffffffff 00 ffff 00", Op::write, out, kWrite, Access::write, kDisk),
    row("WRITE AND VERIFY(10)", "2e 12 ffffffff 00 ffff 00", Op::write_and_verify, out, kWrite,
        Access::write, kDisk),
    row("VERIFY(10)", "2f 16 ffffffff 00 ffff 00", Op::verify, out, kRead, Access::read, kLong),
    row("PRE-FETCH(10)", "34 02 ffffffff 00 ffff 00", Op::pre_fetch, none, kRead, Access::read,
        kDisk),
    row("SYNCHRONIZE CACHE(10)", "35 02 ffffffff 00 ffff 00", Op::synchronize_cache, none, kRead,
        Access::write, kLong),
    row("WRITE SAME(10)", "41 08 ffffffff 00 ffff 00", Op::write_same, out, kWrite, Access::write,
        kLong),
    row("UNMAP", "42 00 00 00 00 00 00 ffff 00", Op::unmap, out, kWrite | kNeedsThin, Access::write,
        kLong),
    row("MODE SELECT(10)", "55 11 00 00 00 00 00 ffff 00", Op::mode_select, out, kManagement,
        Access::write, kQuick),
    row("MODE SENSE(10)", "5a 18 ffff 00 00 00 ffff 00", Op::mode_sense, in, kManagement,
        Access::read, kQuick),
    row("PERSISTENT RESERVE IN/READ KEYS", "5e 00 00 00 00 00 00 ffff 00",
        Op::persistent_reserve_in, in, kManagement, Access::always, kQuick, 0x00),
    row("PERSISTENT RESERVE IN/READ RESERVATION", "5e 01 00 00 00 00 00 ffff 00",
        Op::persistent_reserve_in, in, kManagement, Access::always, kQuick, 0x01),
    row("PERSISTENT RESERVE IN/REPORT CAPABILITIES", "5e 02 00 00 00 00 00 ffff 00",
        Op::persistent_reserve_in, in, kManagement, Access::always, kQuick, 0x02),
    row("PERSISTENT RESERVE IN/READ FULL STATUS", "5e 03 00 00 00 00 00 ffff 00",
        Op::persistent_reserve_in, in, kManagement, Access::always, kQuick, 0x03),
    row("PERSISTENT RESERVE OUT/REGISTER", "5f 00 ff 00 00 ffffffff 00", Op::persistent_reserve_out,
        out, kManagement, Access::reserve_out, kDisk, 0x00),
    row("PERSISTENT RESERVE OUT/RESERVE", "5f 01 ff 00 00 ffffffff 00", Op::persistent_reserve_out,
        out, kManagement, Access::reserve_out, kDisk, 0x01),
    row("PERSISTENT RESERVE OUT/RELEASE", "5f 02 ff 00 00 ffffffff 00", Op::persistent_reserve_out,
        out, kManagement, Access::reserve_out, kDisk, 0x02),
    row("PERSISTENT RESERVE OUT/CLEAR", "5f 03 ff 00 00 ffffffff 00", Op::persistent_reserve_out,
        out, kManagement, Access::reserve_out, kDisk, 0x03),
    row("PERSISTENT RESERVE OUT/PREEMPT", "5f 04 ff 00 00 ffffffff 00", Op::persistent_reserve_out,
        out, kManagement, Access::reserve_out, kDisk, 0x04),
    row("PERSISTENT RESERVE OUT/PREEMPT AND ABORT", "5f 05 ff 00 00 ffffffff 00",
        Op::persistent_reserve_out, out, kManagement, Access::reserve_out, kDisk, 0x05),
    row("PERSISTENT RESERVE OUT/REGISTER AND IGNORE EXISTING KEY", "5f 06 ff 00 00 ffffffff 00",
        Op::persistent_reserve_out, out, kManagement, Access::reserve_out, kDisk, 0x06),
    row("READ(16)", "88 18 ffffffffffffffffffffffff 00 00", Op::read, in, kRead, Access::read,
        kDisk),
    row("COMPARE AND WRITE", "89 18 ffffffffffffffff 00 00 00 ff 00 00", Op::compare_and_write, out,
        kWrite, Access::write, kDisk),
    row("WRITE(16)", "8a 18 ffffffffffffffffffffffff 00 00", Op::write, out, kWrite, Access::write,
        kDisk),
    row("ORWRITE(16)", "8b 18 ffffffffffffffffffffffff 00 00", Op::orwrite, out, kWrite,
        Access::write, kDisk),
    row("WRITE AND VERIFY(16)", "8e 12 ffffffffffffffffffffffff 00 00", Op::write_and_verify, out,
        kWrite, Access::write, kDisk),
    row("VERIFY(16)", "8f 16 ffffffffffffffffffffffff 00 00", Op::verify, out, kRead, Access::read,
        kLong),
    row("PRE-FETCH(16)", "90 02 ffffffffffffffffffffffff 00 00", Op::pre_fetch, none, kRead,
        Access::read, kDisk),
    row("SYNCHRONIZE CACHE(16)", "91 02 ffffffffffffffffffffffff 00 00", Op::synchronize_cache,
        none, kRead, Access::write, kLong),
    row("WRITE SAME(16)", "93 09 ffffffffffffffffffffffff 00 00", Op::write_same, out, kWrite,
        Access::write, kLong),
    row("READ CAPACITY(16)", "9e 10 ffffffffffffffffffffffff 01 00", Op::read_capacity_16, in,
        kAllowedInStandby, Access::always, kQuick, 0x10),
    row("GET LBA STATUS", "9e 12 ffffffffffffffffffffffff 00 00", Op::get_lba_status, in, kRead,
        Access::read, kDisk, 0x12),
    row("REPORT LUNS", "a0 00 ff 00 00 00 ffffffff 00 00", Op::report_luns, in,
        kEverywhere | kKeepsUnitAttention, Access::always, kQuick),
    row("REPORT TARGET PORT GROUPS", "a3 ea 00 00 00 00 ffffffff 00 00",
        Op::report_target_port_groups, in, kEverywhere, Access::always, kQuick, 0x0a),
    row("REPORT SUPPORTED OPERATION CODES", "a3 0c 87 ffffffffffffff 00 00",
        Op::report_supported_operation_codes, in, kManagement, Access::read, kQuick, 0x0c),
    row("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", "a3 0d 80 00 00 00 ffffffff 00 00",
        Op::report_supported_task_management_functions, in, kManagement, Access::read, kQuick,
        0x0d),
    row("READ(12)", "a8 18 ffffffffffffffff 00 00", Op::read, in, kRead, Access::read, kDisk),
    row("WRITE(12)", "aa 18 ffffffffffffffff 00 00", Op::write, out, kWrite, Access::write, kDisk),
    row("WRITE AND VERIFY(12)", "ae 12 ffffffffffffffff 00 00", Op::write_and_verify, out, kWrite,
        Access::write, kDisk),
    row("VERIFY(12)", "af 16 ffffffffffffffff 00 00", Op::verify, out, kRead, Access::read, kLong),
};

constexpr uint8_t kNoRow = 0xff;
constexpr uint8_t kServiceActions = 32;

// Two loads and no loop per lookup: opcode -> row, or opcode -> group -> service action -> row.
struct Index {
  std::array<uint8_t, 256> by_opcode{};
  std::array<uint8_t, 256> group_of{};
  std::array<std::array<uint8_t, kServiceActions>, 4> groups{};
};

consteval Index make_index() {
  Index index;
  index.by_opcode.fill(kNoRow);
  index.group_of.fill(kNoRow);
  for (auto& group : index.groups) group.fill(kNoRow);
  uint8_t group_count = 0;
  for (size_t i = 0; i < std::size(kTable); ++i) {
    const CommandRow& row = kTable[i];
    if (!row.has_service_action) {
      index.by_opcode[row.opcode] = static_cast<uint8_t>(i);
      continue;
    }
    if (index.group_of[row.opcode] == kNoRow) index.group_of[row.opcode] = group_count++;
    index.groups.at(index.group_of[row.opcode]).at(row.service_action) = static_cast<uint8_t>(i);
  }
  return index;
}

constexpr Index kIndex = make_index();
static_assert(std::size(kTable) < kNoRow);

}  // namespace

std::span<const CommandRow> command_table() { return kTable; }

const CommandRow* find_command(uint8_t opcode, uint8_t service_action) {
  const uint8_t group = kIndex.group_of[opcode];
  uint8_t row = kIndex.by_opcode[opcode];
  if (group != kNoRow) {
    row = service_action < kServiceActions ? kIndex.groups[group][service_action] : kNoRow;
  }
  return row == kNoRow ? nullptr : &kTable[row];
}

bool opcode_has_service_actions(uint8_t opcode) { return kIndex.group_of[opcode] != kNoRow; }

size_t command_index(const CommandRow& row) {
  ASSERT(&row >= kTable && &row < kTable + std::size(kTable));
  return static_cast<size_t>(&row - kTable);
}

}  // namespace holdfast::scsi
