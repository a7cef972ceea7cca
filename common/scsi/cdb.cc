#include "common/scsi/cdb.h"

#include <limits>

namespace holdfast::scsi {
namespace {

using base::be16;
using base::be24;
using base::be32;
using base::be64;
using base::load;

constexpr uint8_t kServiceActionMask = 0x1f;

// The CDB has been checked to be at least row->cdb_length long.
class Fields {
 public:
  explicit Fields(Bytes cdb) : cdb_(cdb) {}
  uint8_t u8(size_t at) const { return cdb_[at]; }
  bool bit(size_t at, unsigned number) const { return (unsigned{cdb_[at]} >> number & 1U) != 0; }
  uint8_t bits(size_t at, unsigned low, unsigned count) const {
    return static_cast<uint8_t>(unsigned{cdb_[at]} >> low & ((1U << count) - 1U));
  }
  uint16_t u16(size_t at) const { return load<be16>(cdb_.subspan(at)); }
  uint32_t u24(size_t at) const { return load<be24>(cdb_.subspan(at)); }
  uint32_t u32(size_t at) const { return load<be32>(cdb_.subspan(at)); }
  uint64_t u64(size_t at) const { return load<be64>(cdb_.subspan(at)); }

 private:
  Bytes cdb_;
};

// The common layouts of SBC-3: LBA and length by CDB size.
void decode_range(const Fields& in, Command& out) {
  switch (out.row->cdb_length) {
    case 6:
      out.lba = in.u24(1) & 0x1fffff;
      out.blocks = in.u8(4) == 0 ? 256 : in.u8(4);
      return;
    case 10:
      out.lba = in.u32(2);
      out.blocks = in.u16(7);
      return;
    case 12:
      out.lba = in.u32(2);
      out.blocks = in.u32(6);
      return;
    default:
      out.lba = in.u64(2);
      out.blocks = out.row->operation == Operation::compare_and_write ? in.u8(13) : in.u32(10);
      return;
  }
}

// RDPROTECT, WRPROTECT, VRPROTECT, ORPROTECT: no protection information here, so any value but
// zero is an error (SBC-3 4.22).
std::optional<Sense> refuse_protection(const Fields& in) {
  if (in.bits(1, 5, 3) != 0) return kInvalidFieldInCdb.at_cdb(1, 7);
  return std::nullopt;
}

std::optional<Sense> decode_transfer(const Fields& in, Command& out) {
  decode_range(in, out);
  if (out.row->cdb_length == 6) return std::nullopt;  // these bits were the LUN of SCSI-2
  out.dpo = in.bit(1, 4);
  out.fua = in.bit(1, 3);
  return refuse_protection(in);
}

std::optional<Sense> decode_verify(const Fields& in, Command& out) {
  decode_range(in, out);
  out.dpo = in.bit(1, 4);
  out.bytchk = in.bits(1, 1, 2);
  const bool known =
      out.bytchk <= 1 || (out.bytchk == 3 && out.row->operation == Operation::verify);
  if (!known) return kInvalidFieldInCdb.at_cdb(1, 2);
  return refuse_protection(in);
}

std::optional<Sense> decode_write_same(const Fields& in, Command& out) {
  decode_range(in, out);
  out.anchor = in.bit(1, 4);
  out.unmap = in.bit(1, 3);
  out.ndob = out.row->cdb_length == 16 && in.bit(1, 0);
  // ANC_SUP=0 in VPD B2h (SBC-3 6.6).
  if (out.anchor) return kInvalidFieldInCdb.at_cdb(1, 4);
  // PBDATA and LBDATA, obsolete: they ask for other data in each block than what is given, so
  // ignoring them would write something the initiator did not mean.
  if (in.bits(1, 1, 2) != 0) return kInvalidFieldInCdb.at_cdb(1, in.bit(1, 2) ? 2 : 1);
  return refuse_protection(in);
}

std::optional<Sense> decode_unmap(const Fields& in, Command& out) {
  out.anchor = in.bit(1, 0);
  out.parameter_list_length = in.u16(7);
  if (out.anchor) return kInvalidFieldInCdb.at_cdb(1, 0);
  return std::nullopt;
}

std::optional<Sense> decode_inquiry(const Fields& in, Command& out) {
  out.evpd = in.bit(1, 0);
  out.page = in.u8(2);
  out.allocation_length = in.u16(3);
  if (in.bit(1, 1)) return kInvalidFieldInCdb.at_cdb(1, 1);  // CMDDT, obsolete
  if (!out.evpd && out.page != 0) return kInvalidFieldInCdb.at_cdb(2);
  return std::nullopt;
}

void decode_mode_sense(const Fields& in, Command& out) {
  const bool ten = out.row->cdb_length == 10;
  out.dbd = in.bit(1, 3);
  out.llbaa = ten && in.bit(1, 4);
  out.page_control = static_cast<PageControl>(in.bits(2, 6, 2));
  out.page = in.bits(2, 0, 6);
  out.subpage = in.u8(3);
  out.allocation_length = ten ? in.u16(7) : in.u8(4);
}

std::optional<Sense> decode_mode_select(const Fields& in, Command& out) {
  out.pf = in.bit(1, 4);
  out.sp = in.bit(1, 0);
  out.parameter_list_length = out.row->cdb_length == 10 ? in.u16(7) : in.u8(4);
  // No page is saveable (SPC-4 6.11); PF=0 pages would be vendor specific.
  if (out.sp) return kInvalidFieldInCdb.at_cdb(1, 0);
  if (!out.pf && out.parameter_list_length != 0) return kInvalidFieldInCdb.at_cdb(1, 4);
  return std::nullopt;
}

// SBC-3 5.25. No power conditions: ACTIVE, IDLE, STANDBY, LU_CONTROL and the two FORCE codes
// change nothing here; a reserved code value is an error (SPC-4 3.3, "reserved").
std::optional<Sense> decode_start_stop(const Fields& in, Command& out) {
  constexpr uint16_t kKnownConditions =
      1U << 0x0 | 1U << 0x1 | 1U << 0x2 | 1U << 0x3 | 1U << 0x7 | 1U << 0xa | 1U << 0xb;
  out.immed = in.bit(1, 0);
  out.power_condition_modifier = in.bits(3, 0, 4);
  out.power_condition = in.bits(4, 4, 4);
  out.no_flush = in.bit(4, 2);
  out.loej = in.bit(4, 1);
  out.start = in.bit(4, 0);
  if (((kKnownConditions >> out.power_condition) & 1U) == 0) return kInvalidFieldInCdb.at_cdb(4, 7);
  return std::nullopt;
}

std::optional<Sense> decode_prevent(const Fields& in, Command& out) {
  out.prevent = in.bits(4, 0, 2);
  if (out.prevent > 1) return kInvalidFieldInCdb.at_cdb(4, 1);  // 2 and 3 are obsolete
  return std::nullopt;
}

void decode_read_capacity(const Fields& in, Command& out) {
  if (out.row->operation == Operation::read_capacity_10) {
    out.lba = in.u32(2);
    out.pmi = in.bit(8, 0);
    out.allocation_length = 8;  // the CDB has none
  } else {
    out.lba = in.u64(2);
    out.allocation_length = in.u32(10);
    out.pmi = in.bit(14, 0);
  }
}

std::optional<Sense> decode_maintenance_in(const Fields& in, Command& out) {
  out.allocation_length = in.u32(6);
  switch (out.row->operation) {
    case Operation::report_target_port_groups: {
      const uint8_t format = in.bits(1, 5, 3);
      out.extended_header = format == 1;
      if (format > 1) return kInvalidFieldInCdb.at_cdb(1, 7);
      return std::nullopt;
    }
    case Operation::report_supported_operation_codes:
      out.return_timeouts = in.bit(2, 7);
      out.reporting_options = in.bits(2, 0, 3);
      out.requested_opcode = in.u8(3);
      out.requested_service_action = in.u16(4);
      if (out.reporting_options > 3) return kInvalidFieldInCdb.at_cdb(2, 2);
      return std::nullopt;
    default:
      out.extended_data = in.bit(2, 7);
      return std::nullopt;
  }
}

std::optional<Sense> decode_report_luns(const Fields& in, Command& out) {
  out.select_report = in.u8(2);
  out.allocation_length = in.u32(6);
  if (out.select_report > 2) return kInvalidFieldInCdb.at_cdb(2);
  return std::nullopt;
}

std::optional<Sense> decode_fields(const Fields& in, Command& out) {
  switch (out.row->operation) {
    case Operation::read:
    case Operation::write:
    case Operation::orwrite:
    case Operation::compare_and_write:
      return decode_transfer(in, out);
    case Operation::verify:
    case Operation::write_and_verify:
      return decode_verify(in, out);
    case Operation::write_same:
      return decode_write_same(in, out);
    case Operation::synchronize_cache:
    case Operation::pre_fetch:
      decode_range(in, out);
      out.immed = in.bit(1, 1);
      return std::nullopt;
    case Operation::unmap:
      return decode_unmap(in, out);
    case Operation::get_lba_status:
      out.lba = in.u64(2);
      out.allocation_length = in.u32(10);
      return std::nullopt;
    case Operation::test_unit_ready:
      return std::nullopt;
    case Operation::request_sense:
      out.descriptor_sense = in.bit(1, 0);
      out.allocation_length = in.u8(4);
      return std::nullopt;
    case Operation::inquiry:
      return decode_inquiry(in, out);
    case Operation::mode_sense:
      decode_mode_sense(in, out);
      return std::nullopt;
    case Operation::mode_select:
      return decode_mode_select(in, out);
    case Operation::start_stop_unit:
      return decode_start_stop(in, out);
    case Operation::prevent_allow_medium_removal:
      return decode_prevent(in, out);
    case Operation::read_capacity_10:
    case Operation::read_capacity_16:
      decode_read_capacity(in, out);
      return std::nullopt;
    case Operation::report_luns:
      return decode_report_luns(in, out);
    case Operation::report_supported_operation_codes:
    case Operation::report_supported_task_management_functions:
    case Operation::report_target_port_groups:
      return decode_maintenance_in(in, out);
    case Operation::persistent_reserve_in:
      out.allocation_length = in.u16(7);
      return std::nullopt;
    case Operation::persistent_reserve_out:
      out.reservation_scope = in.bits(2, 4, 4);
      out.reservation_type = in.bits(2, 0, 4);
      out.parameter_list_length = in.u32(5);
      return std::nullopt;
  }
  return kInvalidOpcode;
}

// Where the length field lies, for the field pointer.
uint16_t length_field(const CommandRow& row) {
  if (row.operation == Operation::compare_and_write) return 13;
  switch (row.cdb_length) {
    case 6:
      return 4;
    case 10:
      return 7;
    case 12:
      return 6;
    default:
      return 10;
  }
}

// The most blocks one such command may address; SBC-3 6.6, Block Limits.
uint64_t limit_of(const Command& command, const LunDescription& lun) {
  switch (command.row->operation) {
    case Operation::read:
    case Operation::write:
    case Operation::write_and_verify:
    case Operation::orwrite:
      return max_transfer_blocks(lun);
    case Operation::verify:
      return command.bytchk == 1 ? max_transfer_blocks(lun) : std::numeric_limits<uint64_t>::max();
    case Operation::compare_and_write:
      return kMaxCompareAndWriteBlocks;
    case Operation::write_same:
      return max_write_same_blocks(lun);
    default:
      return std::numeric_limits<uint64_t>::max();
  }
}

}  // namespace

Outcome<Command> decode(Bytes cdb) {
  if (cdb.size() < 6) return std::unexpected(kInvalidFieldInCdb.at_cdb(0));
  const uint8_t service_action = cdb[1] & kServiceActionMask;
  const CommandRow* row = find_command(cdb[0], service_action);
  if (row == nullptr) {
    return std::unexpected(opcode_has_service_actions(cdb[0]) ? kInvalidFieldInCdb.at_cdb(1, 4)
                                                              : kInvalidOpcode.at_cdb(0));
  }
  if (cdb.size() < row->cdb_length) return std::unexpected(kInvalidFieldInCdb.at_cdb(0));

  Outcome<Command> command(std::in_place);
  command->row = row;
  command->service_action = row->has_service_action ? service_action : uint8_t{0};
  // NACA asks for ACA, which NORMACA=0 denies; LINK asks for linked commands, which SAM-5 has no
  // more (SAM-5 5.2).
  const uint16_t control_at = row->cdb_length - 1;
  const uint8_t control = cdb[control_at];
  if ((control & 0x05) != 0) {
    return std::unexpected(kInvalidFieldInCdb.at_cdb(control_at, (control & 0x04) != 0 ? 2 : 0));
  }
  if (std::optional<Sense> sense = decode_fields(Fields(cdb), *command); sense.has_value()) {
    return std::unexpected(*sense);
  }
  return command;
}

std::optional<Sense> check_range(uint64_t lba, uint64_t blocks, uint64_t capacity_blocks) {
  if (lba > capacity_blocks || blocks > capacity_blocks - lba) return kLbaOutOfRange;
  return std::nullopt;
}

uint64_t block_count(const Command& command, uint64_t capacity_blocks) {
  switch (command.row->operation) {
    case Operation::write_same:
    case Operation::synchronize_cache:
    case Operation::pre_fetch:
      if (command.blocks != 0) return command.blocks;
      // At least 1, so that an LBA which does not exist is out of range.
      return command.lba < capacity_blocks ? capacity_blocks - command.lba : 1;
    default:
      return command.blocks;
  }
}

std::optional<Sense> check_limits(const Command& command, const LunDescription& lun) {
  const CommandRow& row = *command.row;
  if (row.has(kNeedsThin) && !lun.thin) return kInvalidOpcode.at_cdb(0);
  if (!row.has(kMediumAccess) || row.operation == Operation::unmap) return std::nullopt;

  uint64_t blocks = block_count(command, lun.capacity_blocks);
  if (row.operation == Operation::get_lba_status) blocks = 1;  // its LBA must exist
  if (auto sense = check_range(command.lba, blocks, lun.capacity_blocks); sense.has_value()) {
    return sense;
  }
  if (blocks > limit_of(command, lun)) return kInvalidFieldInCdb.at_cdb(length_field(row));
  if (command.unmap && !lun.thin) return kInvalidFieldInCdb.at_cdb(1, 3);
  return std::nullopt;
}

uint64_t data_length(const Command& command, uint32_t block_size) {
  const uint64_t bytes = uint64_t{command.blocks} * block_size;
  switch (command.row->operation) {
    case Operation::read:
    case Operation::write:
    case Operation::write_and_verify:
    case Operation::orwrite:
      return bytes;
    case Operation::verify:
      if (command.bytchk == 1) return bytes;
      return command.bytchk == 3 && command.blocks != 0 ? block_size : 0;
    case Operation::compare_and_write:
      return 2 * bytes;
    case Operation::write_same:
      return command.ndob ? 0 : block_size;
    default:
      return command.row->direction == DataDirection::in ? command.allocation_length
                                                         : command.parameter_list_length;
  }
}

DataDirection data_direction(const Command& command) {
  return data_length(command, 1) == 0 ? DataDirection::none : command.row->direction;
}

ReservationAccess reservation_access(const Command& command) {
  switch (command.row->reservation) {
    case ReservationAccess::start_stop:
      return command.start && command.power_condition == 0 ? ReservationAccess::always
                                                           : ReservationAccess::write;
    case ReservationAccess::prevent_allow:
      return command.prevent == 0 ? ReservationAccess::always : ReservationAccess::write;
    default:
      return command.row->reservation;
  }
}

}  // namespace holdfast::scsi
