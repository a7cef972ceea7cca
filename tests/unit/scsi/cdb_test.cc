#include "common/scsi/cdb.h"

#include <limits>

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

TEST(Cdb, Read6) {
  const Command command = decoded("08 1f ffff 10 00");
  EXPECT_EQ(command.row->operation, Operation::read);
  EXPECT_EQ(command.lba, 0x1fffffU);
  EXPECT_EQ(command.blocks, 0x10U);
  // Zero blocks is 256, and the three high bits were the LUN once: not a protection field.
  EXPECT_EQ(decoded("08 00 0000 00 00").blocks, 256U);
  EXPECT_EQ(decoded("08 e0 0001 01 00").lba, 1U);
  EXPECT_EQ(decoded("0a 00 0000 00 00").blocks, 256U);
}

TEST(Cdb, Read10) {
  const Command command = decoded("28 18 89abcdef 1f 1234 c0");
  EXPECT_EQ(command.lba, 0x89abcdefU);
  EXPECT_EQ(command.blocks, 0x1234U);
  EXPECT_TRUE(command.fua);
  EXPECT_TRUE(command.dpo);
  EXPECT_EQ(decoded("28 00 00000000 00 0000 00").blocks, 0U);
  EXPECT_FALSE(decoded("28 10 00000000 00 0001 00").fua);
}

TEST(Cdb, Write12And16) {
  const Command twelve = decoded("aa 08 fffffffe 00010002 00 00");
  EXPECT_EQ(twelve.lba, 0xfffffffeU);
  EXPECT_EQ(twelve.blocks, 0x10002U);
  EXPECT_TRUE(twelve.fua);
  const Command sixteen = decoded("8a 00 0123456789abcdef fffffffd 00 00");
  EXPECT_EQ(sixteen.lba, 0x0123456789abcdefU);
  EXPECT_EQ(sixteen.blocks, 0xfffffffdU);
  EXPECT_EQ(sixteen.row->operation, Operation::write);
}

TEST(Cdb, ProtectionIsRefusedWithTheField) {
  for (const char* text :
       {"28 20", "28 e0", "2a 40", "a8 20", "aa 80", "88 20", "8a 20", "2f 20", "af 40", "8f 80",
        "2e 20", "ae 20", "8e 20", "8b 20", "41 20", "93 20", "89 20"}) {
    EXPECT_EQ(refused(text), kInvalidFieldInCdb.at_cdb(1, 7)) << text;
  }
}

TEST(Cdb, NacaAndLinkAreRefusedInEveryCommand) {
  for (const CommandRow& row : command_table()) {
    std::vector<uint8_t> bytes(row.cdb_length);
    bytes[0] = row.opcode;
    bytes[1] = row.service_action;
    const auto last = static_cast<uint16_t>(row.cdb_length - 1);
    bytes[last] = 0x04;
    auto naca = decode(bytes);
    ASSERT_FALSE(naca.has_value()) << row.name;
    EXPECT_EQ(naca.error(), kInvalidFieldInCdb.at_cdb(last, 2));
    bytes[last] = 0x01;
    auto link = decode(bytes);
    ASSERT_FALSE(link.has_value()) << row.name;
    EXPECT_EQ(link.error(), kInvalidFieldInCdb.at_cdb(last, 0));
    bytes[last] = 0xc0;  // vendor specific
    EXPECT_TRUE(decode(bytes).has_value()) << row.name;
  }
}

TEST(Cdb, UnknownOpcodesAndServiceActions) {
  EXPECT_EQ(refused("ff"), kInvalidOpcode.at_cdb(0));
  EXPECT_EQ(refused("16"), kInvalidOpcode.at_cdb(0));  // RESERVE(6)
  EXPECT_EQ(refused("83"), kInvalidOpcode.at_cdb(0));  // EXTENDED COPY
  EXPECT_EQ(refused("7f"), kInvalidOpcode.at_cdb(0));  // variable length
  EXPECT_EQ(refused("a4 0a"), kInvalidOpcode.at_cdb(0));
  EXPECT_EQ(refused("5e 04"), kInvalidFieldInCdb.at_cdb(1, 4));
  EXPECT_EQ(refused("5e 1f"), kInvalidFieldInCdb.at_cdb(1, 4));
  EXPECT_EQ(refused("5f 07"), kInvalidFieldInCdb.at_cdb(1, 4));  // REGISTER AND MOVE
  EXPECT_EQ(refused("9e 11"), kInvalidFieldInCdb.at_cdb(1, 4));
  EXPECT_EQ(refused("a3 00"), kInvalidFieldInCdb.at_cdb(1, 4));
}

TEST(Cdb, ShortBuffersAreRefusedNotRead) {
  for (const CommandRow& row : command_table()) {
    std::vector<uint8_t> bytes(row.cdb_length);
    bytes[0] = row.opcode;
    bytes[1] = row.service_action;
    for (size_t length = 0; length < bytes.size(); ++length) {
      // A copy of exactly that size, so that a sanitizer sees a read behind it.
      const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
      const auto command = decode(cut);
      ASSERT_FALSE(command.has_value()) << row.name << " " << length;
      EXPECT_TRUE(command.error().same_code(kInvalidFieldInCdb));
    }
  }
}

TEST(Cdb, Verify) {
  EXPECT_EQ(decoded("2f 10 00000001 00 0002 00").bytchk, 0);
  EXPECT_EQ(decoded("2f 02 00000001 00 0002 00").bytchk, 1);
  EXPECT_EQ(decoded("8f 06").bytchk, 3);
  EXPECT_EQ(refused("2f 04"), kInvalidFieldInCdb.at_cdb(1, 2));
  EXPECT_EQ(decoded("2e 02").bytchk, 1);
  EXPECT_EQ(refused("2e 04"), kInvalidFieldInCdb.at_cdb(1, 2));
  EXPECT_EQ(refused("2e 06"), kInvalidFieldInCdb.at_cdb(1, 2));
  EXPECT_EQ(refused("8e 06"), kInvalidFieldInCdb.at_cdb(1, 2));
}

TEST(Cdb, WriteSame) {
  const Command sixteen = decoded("93 09 0000000000000010 00000020 00 00");
  EXPECT_TRUE(sixteen.unmap);
  EXPECT_TRUE(sixteen.ndob);
  EXPECT_EQ(sixteen.lba, 0x10U);
  EXPECT_EQ(sixteen.blocks, 0x20U);
  // In the 10-byte command this bit is RELADR of old, not NDOB: taking it for NDOB would lose the
  // data-out.
  EXPECT_FALSE(decoded("41 01").ndob);
  EXPECT_EQ(refused("41 10"), kInvalidFieldInCdb.at_cdb(1, 4));  // ANCHOR
  EXPECT_EQ(refused("93 18"), kInvalidFieldInCdb.at_cdb(1, 4));
  EXPECT_EQ(refused("41 02"), kInvalidFieldInCdb.at_cdb(1, 1));  // LBDATA
  EXPECT_EQ(refused("93 04"), kInvalidFieldInCdb.at_cdb(1, 2));  // PBDATA
}

TEST(Cdb, UnmapAndCompareAndWrite) {
  EXPECT_EQ(decoded("42 00 00000000 00 0018 00").parameter_list_length, 0x18U);
  EXPECT_EQ(refused("42 01 00000000 00 0018 00"), kInvalidFieldInCdb.at_cdb(1, 0));
  const Command command = decoded("89 08 0000000100000002 000000 ff 00 00");
  EXPECT_EQ(command.lba, 0x100000002U);
  EXPECT_EQ(command.blocks, 255U);
  EXPECT_TRUE(command.fua);
}

TEST(Cdb, Inquiry) {
  const Command page = decoded("12 01 83 0102 00");
  EXPECT_TRUE(page.evpd);
  EXPECT_EQ(page.page, 0x83);
  EXPECT_EQ(page.allocation_length, 0x102U);
  EXPECT_EQ(refused("12 00 83 00ff 00"), kInvalidFieldInCdb.at_cdb(2));
  EXPECT_EQ(refused("12 02 00 00ff 00"), kInvalidFieldInCdb.at_cdb(1, 1));
}

TEST(Cdb, ModeSenseAndSelect) {
  const Command six = decoded("1a 08 4a 01 ff 00");
  EXPECT_TRUE(six.dbd);
  EXPECT_EQ(six.page_control, PageControl::changeable);
  EXPECT_EQ(six.page, 0x0a);
  EXPECT_EQ(six.subpage, 1);
  EXPECT_EQ(six.allocation_length, 255U);
  EXPECT_FALSE(decoded("1a 10 3f 00 ff 00").llbaa);
  const Command ten = decoded("5a 10 ff ff 000000 1000 00");
  EXPECT_TRUE(ten.llbaa);
  EXPECT_EQ(ten.page_control, PageControl::saved);
  EXPECT_EQ(ten.allocation_length, 0x1000U);
  EXPECT_EQ(decoded("15 10 0000 18 00").parameter_list_length, 0x18U);
  EXPECT_EQ(decoded("55 10 0000000000 0118 00").parameter_list_length, 0x118U);
  EXPECT_EQ(refused("15 11 0000 18 00"), kInvalidFieldInCdb.at_cdb(1, 0));
  EXPECT_EQ(refused("15 00 0000 18 00"), kInvalidFieldInCdb.at_cdb(1, 4));
  EXPECT_EQ(decoded("15 00 0000 00 00").parameter_list_length, 0U);
}

TEST(Cdb, ReadCapacityAndLbaStatus) {
  EXPECT_EQ(decoded("25").allocation_length, 8U);
  EXPECT_TRUE(decoded("25 00 00000001 0000 01 00").pmi);
  const Command sixteen = decoded("9e 10 0000000000000000 00000020 00 00");
  EXPECT_EQ(sixteen.allocation_length, 32U);
  EXPECT_EQ(sixteen.row->operation, Operation::read_capacity_16);
  const Command status = decoded("9e 12 0000000000000007 00000018 00 00");
  EXPECT_EQ(status.lba, 7U);
  EXPECT_EQ(status.allocation_length, 24U);
}

TEST(Cdb, StartStopAndPrevent) {
  const Command eject = decoded("1b 01 00 00 02 00");
  EXPECT_TRUE(eject.immed);
  EXPECT_TRUE(eject.loej);
  EXPECT_FALSE(eject.start);
  const Command standby = decoded("1b 00 00 01 37 00");
  EXPECT_EQ(standby.power_condition, 3);
  EXPECT_EQ(standby.power_condition_modifier, 1);
  EXPECT_TRUE(standby.no_flush && standby.loej && standby.start);
  for (const unsigned condition : {4U, 5U, 6U, 8U, 9U, 12U, 13U, 14U, 15U}) {
    std::vector<uint8_t> bytes = cdb("1b");
    bytes[4] = static_cast<uint8_t>(condition << 4);
    const auto command = decode(bytes);
    ASSERT_FALSE(command.has_value()) << condition;
    EXPECT_EQ(command.error(), kInvalidFieldInCdb.at_cdb(4, 7));
  }
  EXPECT_EQ(decoded("1e 00 0000 01 00").prevent, 1);
  EXPECT_EQ(refused("1e 00 0000 02 00"), kInvalidFieldInCdb.at_cdb(4, 1));
  EXPECT_EQ(refused("1e 00 0000 03 00"), kInvalidFieldInCdb.at_cdb(4, 1));
}

TEST(Cdb, Reports) {
  EXPECT_EQ(decoded("a0 00 02 000000 00000100 00 00").select_report, 2);
  EXPECT_EQ(refused("a0 00 03 000000 00000100 00 00"), kInvalidFieldInCdb.at_cdb(2));
  EXPECT_EQ(refused("a0 00 10 000000 00000100 00 00"), kInvalidFieldInCdb.at_cdb(2));
  const Command codes = decoded("a3 0c 82 9e 0010 00001000 00 00");
  EXPECT_TRUE(codes.return_timeouts);
  EXPECT_EQ(codes.reporting_options, 2);
  EXPECT_EQ(codes.requested_opcode, 0x9e);
  EXPECT_EQ(codes.requested_service_action, 0x10);
  EXPECT_EQ(codes.allocation_length, 0x1000U);
  EXPECT_EQ(refused("a3 0c 04"), kInvalidFieldInCdb.at_cdb(2, 2));
  EXPECT_TRUE(decoded("a3 0d 80").extended_data);
  EXPECT_FALSE(decoded("a3 0a").extended_header);
  EXPECT_TRUE(decoded("a3 2a").extended_header);
  EXPECT_EQ(refused("a3 4a"), kInvalidFieldInCdb.at_cdb(1, 7));
  EXPECT_TRUE(decoded("03 01 0000 fc 00").descriptor_sense);
}

TEST(Cdb, PersistentReserve) {
  const Command in = decoded("5e 03 0000000000 1000 00");
  EXPECT_EQ(in.reserve_in(), ReserveIn::full_status);
  EXPECT_EQ(in.allocation_length, 0x1000U);
  const Command out = decoded("5f 05 15 0000 00000018 00");
  EXPECT_EQ(out.reserve_out(), ReserveOut::preempt_and_abort);
  EXPECT_EQ(out.reservation_scope, 1);
  EXPECT_EQ(out.reservation_type, 5);
  EXPECT_EQ(out.parameter_list_length, 24U);
}

TEST(Cdb, RangeIsCheckedWithoutOverflow) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(check_range(0, 100, 100), std::nullopt);
  EXPECT_EQ(check_range(99, 1, 100), std::nullopt);
  EXPECT_EQ(check_range(100, 0, 100), std::nullopt);
  EXPECT_EQ(check_range(100, 1, 100), kLbaOutOfRange);
  EXPECT_EQ(check_range(101, 0, 100), kLbaOutOfRange);
  EXPECT_EQ(check_range(kMax, 1, 100), kLbaOutOfRange);
  EXPECT_EQ(check_range(kMax, kMax, 100), kLbaOutOfRange);
  EXPECT_EQ(check_range(1, kMax, 100), kLbaOutOfRange);
  EXPECT_EQ(check_range(kMax - 1, 2, kMax), kLbaOutOfRange);
}

TEST(Cdb, LengthZero) {
  // To the end for these, nothing for READ.
  EXPECT_EQ(block_count(decoded("41 00 0000000a 00 0000 00"), 100), 90U);
  EXPECT_EQ(block_count(decoded("35 00 00000000 00 0000 00"), 100), 100U);
  EXPECT_EQ(block_count(decoded("34 00 00000063 00 0000 00"), 100), 1U);
  EXPECT_EQ(block_count(decoded("28 00 0000000a 00 0000 00"), 100), 0U);
  EXPECT_EQ(block_count(decoded("41 00 0000000a 00 0007 00"), 100), 7U);
  // Without an LBA there is no "from here to the end".
  LunDescription lun = thin_lun();
  lun.capacity_blocks = 100;
  EXPECT_EQ(check_limits(decoded("41 00 00000063 00 0000 00"), lun), std::nullopt);
  EXPECT_EQ(check_limits(decoded("41 00 00000064 00 0000 00"), lun), kLbaOutOfRange);
  EXPECT_EQ(check_limits(decoded("93 00 ffffffffffffffff 00000000 00 00"), lun), kLbaOutOfRange);
}

TEST(Cdb, LimitsOfTheUnit) {
  LunDescription lun = thin_lun();
  lun.max_transfer_blocks = 0x8000;
  EXPECT_EQ(check_limits(decoded("88 00 0000000000000000 00008000 00 00"), lun), std::nullopt);
  EXPECT_EQ(check_limits(decoded("88 00 0000000000000000 00008001 00 00"), lun),
            kInvalidFieldInCdb.at_cdb(10));
  EXPECT_EQ(check_limits(decoded("aa 00 00000000 00008001 00 00"), lun),
            kInvalidFieldInCdb.at_cdb(6));
  EXPECT_EQ(check_limits(decoded("2f 02 00000000 00 ffff 00"), lun), kInvalidFieldInCdb.at_cdb(7));
  EXPECT_EQ(check_limits(decoded("2f 00 00000000 00 ffff 00"), lun), std::nullopt);
  // Out of range is said first, as the standard's clients expect.
  EXPECT_EQ(check_limits(decoded("88 00 0000000000100000 00008001 00 00"), lun), kLbaOutOfRange);
  EXPECT_EQ(check_limits(decoded("93 00 0000000000000000 00080000 00 00"), lun), std::nullopt);
  EXPECT_EQ(check_limits(decoded("93 00 0000000000000000 00080001 00 00"), lun),
            kInvalidFieldInCdb.at_cdb(10));
  // Zero, to the end, is longer than the limit here.
  EXPECT_EQ(check_limits(decoded("93 00 0000000000000000 00000000 00 00"), lun),
            kInvalidFieldInCdb.at_cdb(10));
  EXPECT_EQ(check_limits(decoded("89 00 0000000000000000 000000 ff 00 00"), lun), std::nullopt);
  EXPECT_EQ(check_limits(decoded("89 00 0000000000100000 000000 01 00 00"), lun), kLbaOutOfRange);
}

TEST(Cdb, ThickUnitsHaveNoUnmap) {
  const LunDescription lun = thick_lun();
  EXPECT_EQ(check_limits(decoded("42 00 00000000 00 0018 00"), lun), kInvalidOpcode.at_cdb(0));
  EXPECT_EQ(check_limits(decoded("42 00 00000000 00 0018 00"), thin_lun()), std::nullopt);
  EXPECT_EQ(check_limits(decoded("41 08 00000000 00 0001 00"), lun),
            kInvalidFieldInCdb.at_cdb(1, 3));
  EXPECT_EQ(check_limits(decoded("93 01 0000000000000000 00000001 00 00"), lun), std::nullopt);
  EXPECT_EQ(check_limits(decoded("93 08 0000000000000000 00000001 00 00"), thin_lun()),
            std::nullopt);
}

TEST(Cdb, GetLbaStatusNeedsAnLbaThatExists) {
  const LunDescription lun = thin_lun();
  EXPECT_EQ(check_limits(decoded("9e 12 00000000000fffff 00000018 00 00"), lun), std::nullopt);
  EXPECT_EQ(check_limits(decoded("9e 12 0000000000100000 00000018 00 00"), lun), kLbaOutOfRange);
  EXPECT_EQ(check_limits(decoded("9e 12 ffffffffffffffff 00000018 00 00"), lun), kLbaOutOfRange);
}

TEST(Cdb, DataLength) {
  EXPECT_EQ(data_length(decoded("28 00 00000000 00 0008 00"), 4096), 32768U);
  EXPECT_EQ(data_length(decoded("8a 00 0000000000000000 ffffffff 00 00"), 4096),
            0xffffffffULL * 4096);
  EXPECT_EQ(data_length(decoded("2f 00 00000000 00 0008 00"), 512), 0U);
  EXPECT_EQ(data_length(decoded("2f 02 00000000 00 0008 00"), 512), 4096U);
  EXPECT_EQ(data_length(decoded("2f 06 00000000 00 0008 00"), 512), 512U);
  EXPECT_EQ(data_length(decoded("2f 06 00000000 00 0000 00"), 512), 0U);
  EXPECT_EQ(data_length(decoded("89 00 0000000000000000 000000 02 00 00"), 512), 2048U);
  EXPECT_EQ(data_length(decoded("41 00 00000000 00 0008 00"), 512), 512U);
  EXPECT_EQ(data_length(decoded("93 01 0000000000000000 00000008 00 00"), 512), 0U);
  EXPECT_EQ(data_length(decoded("12 00 00 0060 00"), 512), 96U);
  EXPECT_EQ(data_length(decoded("5f 00 00 0000 00000018 00"), 512), 24U);
  EXPECT_EQ(data_length(decoded("25"), 512), 8U);
  EXPECT_EQ(data_length(decoded("35"), 512), 0U);

  EXPECT_EQ(data_direction(decoded("28 00 00000000 00 0008 00")), DataDirection::in);
  EXPECT_EQ(data_direction(decoded("28 00 00000000 00 0000 00")), DataDirection::none);
  EXPECT_EQ(data_direction(decoded("2f 00 00000000 00 0008 00")), DataDirection::none);
  EXPECT_EQ(data_direction(decoded("2f 02 00000000 00 0008 00")), DataDirection::out);
  EXPECT_EQ(data_direction(decoded("93 01 0000000000000000 00000008 00 00")), DataDirection::none);
  EXPECT_EQ(data_direction(decoded("00")), DataDirection::none);
}

TEST(Cdb, ReservationAccessOfConditionalCommands) {
  EXPECT_EQ(reservation_access(decoded("1b 00 00 00 01 00")), ReservationAccess::always);
  EXPECT_EQ(reservation_access(decoded("1b 00 00 00 00 00")), ReservationAccess::write);
  EXPECT_EQ(reservation_access(decoded("1b 00 00 00 11 00")), ReservationAccess::write);
  EXPECT_EQ(reservation_access(decoded("1e 00 0000 00 00")), ReservationAccess::always);
  EXPECT_EQ(reservation_access(decoded("1e 00 0000 01 00")), ReservationAccess::write);
  EXPECT_EQ(reservation_access(decoded("28")), ReservationAccess::read);
  EXPECT_EQ(reservation_access(decoded("5f 01")), ReservationAccess::reserve_out);
}

}  // namespace
}  // namespace holdfast::scsi
