#include "common/scsi/build_cdb.h"

#include "common/base/random.h"
#include "common/scsi/unmap.h"
#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

constexpr BlockRange kRange{.lba = 0x0102030405060708, .blocks = 0x11121314};
constexpr int kRounds = 2000;

// What our own target understands. The data it would move must be what the initiator announces,
// or the residual counts would be wrong.
Command understood(const OutgoingCdb& cdb, uint32_t block_size = 512) {
  const auto command = decode(cdb.bytes);
  EXPECT_TRUE(command.has_value()) << to_hex(cdb.bytes);
  if (!command.has_value()) return {};
  EXPECT_EQ(data_length(*command, block_size), cdb.length) << command->row->name;
  EXPECT_EQ(data_direction(*command), cdb.direction) << command->row->name;
  EXPECT_TRUE(std::all_of(cdb.bytes.begin() + command->row->cdb_length, cdb.bytes.end(),
                          [](uint8_t byte) { return byte == 0; }));
  // No bit that this target's usage map does not have, but for the service action in byte 1.
  for (size_t i = 1; i < command->row->cdb_length; ++i) {
    EXPECT_EQ(cdb.bytes[i] & ~command->row->usage[i], 0) << command->row->name << " byte " << i;
  }
  return *command;
}

// `wanted` with the row of what was understood: every other field must be as named, or zero.
void expect_command(const OutgoingCdb& cdb, Operation operation, Command wanted,
                    uint32_t block_size = 512) {
  const Command command = understood(cdb, block_size);
  ASSERT_NE(command.row, nullptr);
  EXPECT_EQ(command.row->operation, operation);
  wanted.row = command.row;
  EXPECT_EQ(command, wanted) << to_hex(cdb.bytes);
}

std::string hex_of(const OutgoingCdb& cdb) { return to_hex(cdb.bytes); }

std::string golden(std::string_view text) { return to_hex(cdb(text)); }

class Values {
 public:
  // Edges as often as anything else.
  uint64_t u64() { return edge(64); }
  uint32_t u32() { return static_cast<uint32_t>(edge(32)); }
  uint16_t u16() { return static_cast<uint16_t>(edge(16)); }
  uint8_t u8() { return static_cast<uint8_t>(edge(8)); }
  bool flag() { return random_.below(2) == 1; }
  uint32_t block_size() { return 512U << random_.below(4); }
  // With blocks whose bytes can be told.
  BlockRange range(uint32_t block_size) { return {.lba = u64(), .blocks = u32() / block_size}; }

 private:
  uint64_t edge(unsigned bits) {
    const uint64_t all = ~uint64_t{0} >> (64 - bits);
    switch (random_.below(8)) {
      case 0:
        return 0;
      case 1:
        return all;
      case 2:
        return uint64_t{1} << random_.below(bits);
      default:
        return random_.next() & all;
    }
  }
  base::SeededRandom random_{0x5c51};
};

// SPC-4 6.6, 6.13, 6.33, 6.35, 6.37, 6.47, SBC-3 5.16.
TEST(BuildCdb, ManagementByteForByte) {
  EXPECT_EQ(hex_of(build::test_unit_ready()), golden("00 00 00 00 00 00"));
  EXPECT_EQ(hex_of(build::inquiry(0x1234)), golden("12 00 00 1234 00"));
  EXPECT_EQ(hex_of(build::inquiry_vpd(0x83, 0x1234)), golden("12 01 83 1234 00"));
  EXPECT_EQ(hex_of(build::report_luns(0x12345678)), golden("a0 00 00 00 00 00 12345678 00 00"));
  EXPECT_EQ(hex_of(build::read_capacity16()), golden("9e 10 0000000000000000 00000020 00 00"));
  EXPECT_EQ(hex_of(build::mode_sense10(0x08, 0x1234)), golden("5a 08 08 00 00 00 00 1234 00"));
  EXPECT_EQ(hex_of(build::report_target_port_groups(false, 0x12345678)),
            golden("a3 0a 00 00 00 00 12345678 00 00"));
  EXPECT_EQ(hex_of(build::report_target_port_groups(true, 0x12345678)),
            golden("a3 2a 00 00 00 00 12345678 00 00"));
  EXPECT_EQ(hex_of(build::report_supported_opcodes(0x12345678)),
            golden("a3 0c 00 00 0000 12345678 00 00"));
  EXPECT_EQ(hex_of(build::report_supported_opcode(0x89, std::nullopt, 0x40)),
            golden("a3 0c 01 89 0000 00000040 00 00"));
  EXPECT_EQ(hex_of(build::report_supported_opcode(0x9e, 0x12, 0x40)),
            golden("a3 0c 02 9e 0012 00000040 00 00"));
}

// SPC-4 6.15, 6.16.
TEST(BuildCdb, ReservationsByteForByte) {
  EXPECT_EQ(hex_of(build::persistent_reserve_in(ReserveIn::read_keys, 0x1234)),
            golden("5e 00 00 00 00 00 00 1234 00"));
  EXPECT_EQ(hex_of(build::persistent_reserve_in(ReserveIn::full_status, 0x1234)),
            golden("5e 03 00 00 00 00 00 1234 00"));
  EXPECT_EQ(hex_of(build::persistent_reserve_out(ReserveOut::register_and_ignore, std::nullopt)),
            golden("5f 06 00 00 00 00000018 00"));
  EXPECT_EQ(hex_of(build::persistent_reserve_out(ReserveOut::preempt_and_abort,
                                                 PrType::write_exclusive_all_registrants)),
            golden("5f 05 07 00 00 00000018 00"));
}

// SBC-3 5.2, 5.4, 5.13, 5.27, 5.28, 5.31, 5.35, 5.44.
TEST(BuildCdb, BlocksByteForByte) {
  const BlockRange range{.lba = kRange.lba, .blocks = 0x1234};
  EXPECT_EQ(hex_of(build::read16(range, 512, false)),
            golden("88 00 0102030405060708 00001234 00 00"));
  EXPECT_EQ(hex_of(build::write16(range, 512, true)),
            golden("8a 08 0102030405060708 00001234 00 00"));
  EXPECT_EQ(hex_of(build::compare_and_write(range.lba, 3, 512, true)),
            golden("89 08 0102030405060708 000000 03 00 00"));
  EXPECT_EQ(hex_of(build::verify16(kRange)), golden("8f 00 0102030405060708 11121314 00 00"));
  EXPECT_EQ(hex_of(build::verify16_compare(range, 512)),
            golden("8f 02 0102030405060708 00001234 00 00"));
  EXPECT_EQ(hex_of(build::write_same16(kRange, WriteSameData::none, true, 512)),
            golden("93 09 0102030405060708 11121314 00 00"));
  EXPECT_EQ(hex_of(build::write_same16(kRange, WriteSameData::one_block, false, 512)),
            golden("93 00 0102030405060708 11121314 00 00"));
  EXPECT_EQ(hex_of(build::unmap(2)), golden("42 00 00 00 00 00 00 0028 00"));
  EXPECT_EQ(hex_of(build::synchronize_cache16(kRange)),
            golden("91 00 0102030405060708 11121314 00 00"));
  EXPECT_EQ(hex_of(build::get_lba_status(kRange.lba, 0x12345678)),
            golden("9e 12 0102030405060708 12345678 00 00"));
}

TEST(BuildCdb, TransfersAreUnderstoodAsMeant) {
  Values values;
  for (int round = 0; round < kRounds; ++round) {
    const uint32_t size = values.block_size();
    const BlockRange range = values.range(size);
    const bool fua = values.flag();
    const Command wanted{.lba = range.lba, .blocks = range.blocks, .fua = fua};
    expect_command(build::read16(range, size, fua), Operation::read, wanted, size);
    expect_command(build::write16(range, size, fua), Operation::write, wanted, size);
    expect_command(build::verify16_compare(range, size), Operation::verify,
                   {.lba = range.lba, .blocks = range.blocks, .bytchk = 1}, size);
    const auto few = static_cast<uint8_t>(std::max<unsigned>(values.u8(), 1));
    expect_command(build::compare_and_write(range.lba, few, size, fua),
                   Operation::compare_and_write, {.lba = range.lba, .blocks = few, .fua = fua},
                   size);
  }
}

TEST(BuildCdb, RangesWithoutTransferAreUnderstoodAsMeant) {
  Values values;
  for (int round = 0; round < kRounds; ++round) {
    const BlockRange range{.lba = values.u64(), .blocks = values.u32()};
    const Command wanted{.lba = range.lba, .blocks = range.blocks};
    expect_command(build::verify16(range), Operation::verify, wanted);
    expect_command(build::synchronize_cache16(range), Operation::synchronize_cache, wanted);
    const BlockRange some{.lba = range.lba, .blocks = std::max(range.blocks, 1U)};
    const bool unmap = values.flag();
    const bool none = values.flag();
    const uint32_t size = values.block_size();
    expect_command(build::write_same16(some, none ? WriteSameData::none : WriteSameData::one_block,
                                       unmap, size),
                   Operation::write_same,
                   {.lba = some.lba, .blocks = some.blocks, .unmap = unmap, .ndob = none}, size);
    const uint32_t allocation = values.u32();
    expect_command(build::get_lba_status(range.lba, allocation), Operation::get_lba_status,
                   {.lba = range.lba, .allocation_length = allocation, .service_action = 0x12});
  }
}

TEST(BuildCdb, ManagementIsUnderstoodAsMeant) {
  Values values;
  for (int round = 0; round < kRounds; ++round) {
    const uint16_t little = values.u16();
    const uint32_t much = values.u32();
    const uint8_t page = values.u8();
    const bool extended = values.flag();
    expect_command(build::inquiry(little), Operation::inquiry, {.allocation_length = little});
    expect_command(build::inquiry_vpd(page, little), Operation::inquiry,
                   {.allocation_length = little, .evpd = true, .page = page});
    expect_command(build::report_luns(much), Operation::report_luns, {.allocation_length = much});
    const uint8_t mode_page = page & 0x3f;
    expect_command(build::mode_sense10(mode_page, little), Operation::mode_sense,
                   {.allocation_length = little, .page = mode_page, .dbd = true});
    expect_command(
        build::report_target_port_groups(extended, much), Operation::report_target_port_groups,
        {.allocation_length = much, .extended_header = extended, .service_action = 0x0a});
    expect_command(build::report_supported_opcodes(much),
                   Operation::report_supported_operation_codes,
                   {.allocation_length = much, .service_action = 0x0c});
    expect_command(build::report_supported_opcode(page, little, much),
                   Operation::report_supported_operation_codes,
                   {.allocation_length = much,
                    .reporting_options = 2,
                    .requested_opcode = page,
                    .requested_service_action = little,
                    .service_action = 0x0c});
    expect_command(build::report_supported_opcode(page, std::nullopt, much),
                   Operation::report_supported_operation_codes,
                   {.allocation_length = much,
                    .reporting_options = 1,
                    .requested_opcode = page,
                    .service_action = 0x0c});
  }
  expect_command(build::test_unit_ready(), Operation::test_unit_ready, {});
  expect_command(build::read_capacity16(), Operation::read_capacity_16,
                 {.allocation_length = 32, .service_action = 0x10});
}

TEST(BuildCdb, ReservationsAreUnderstoodAsMeant) {
  for (const auto action : {ReserveIn::read_keys, ReserveIn::read_reservation,
                            ReserveIn::report_capabilities, ReserveIn::full_status}) {
    for (const uint16_t allocation : {uint16_t{0}, uint16_t{8}, uint16_t{0xffff}}) {
      expect_command(
          build::persistent_reserve_in(action, allocation), Operation::persistent_reserve_in,
          {.allocation_length = allocation, .service_action = static_cast<uint8_t>(action)});
    }
  }
  for (const auto action :
       {ReserveOut::register_key, ReserveOut::reserve, ReserveOut::release, ReserveOut::clear,
        ReserveOut::preempt, ReserveOut::preempt_and_abort, ReserveOut::register_and_ignore}) {
    for (const PrType type : kPrTypes) {
      expect_command(build::persistent_reserve_out(action, type), Operation::persistent_reserve_out,
                     {.parameter_list_length = kPrOutParameterBytes,
                      .service_action = static_cast<uint8_t>(action),
                      .reservation_scope = kPrScopeLogicalUnit,
                      .reservation_type = static_cast<uint8_t>(type)});
    }
  }
  // Those that have no type send none.
  EXPECT_EQ(
      understood(build::persistent_reserve_out(ReserveOut::clear, std::nullopt)).reservation_type,
      0);
}

TEST(BuildCdb, NothingMovesWithoutALength) {
  const BlockRange none{.lba = 5, .blocks = 0};
  for (const OutgoingCdb& cdb :
       {build::read16(none, 512, false), build::write16(none, 512, false), build::inquiry(0),
        build::verify16_compare(none, 512), build::get_lba_status(0, 0)}) {
    EXPECT_EQ(cdb.direction, DataDirection::none);
    EXPECT_EQ(cdb.length, 0U);
  }
}

// The list that goes with the CDB, as our target reads it.
TEST(BuildCdb, UnmapListIsUnderstoodAsMeant) {
  LunDescription lun = thin_lun();
  lun.capacity_blocks = uint64_t{1} << 40;
  lun.max_unmap_blocks = ~0U;
  base::SeededRandom random(1);
  for (size_t count = 0; count <= kMaxUnmapDescriptors; ++count) {
    std::vector<UnmapRange> ranges(count);
    for (UnmapRange& range : ranges) {
      range = {.lba = random.below(lun.capacity_blocks / 2),
               .blocks = static_cast<uint32_t>(1 + random.below(0xffffff))};
    }
    const OutgoingCdb cdb = build::unmap(count);
    expect_command(cdb, Operation::unmap, {.parameter_list_length = cdb.length});
    std::vector<uint8_t> list(cdb.length + 1, 0xee);
    ASSERT_EQ(encode_unmap(ranges, list), cdb.length);
    EXPECT_EQ(list.back(), 0xee) << "nothing behind it";
    std::vector<UnmapRange> parsed(kMaxUnmapDescriptors);
    const auto parsed_count = parse_unmap(Bytes(list).first(cdb.length), lun, parsed);
    ASSERT_TRUE(parsed_count.has_value());
    parsed.resize(*parsed_count);
    EXPECT_EQ(parsed, ranges);
  }
}

TEST(BuildCdb, LongestUnmapListFitsItsLengthFields) {
  const std::vector<UnmapRange> ranges(kMaxUnmapListRanges, UnmapRange{.lba = 1, .blocks = 2});
  const OutgoingCdb cdb = build::unmap(ranges.size());
  EXPECT_EQ(cdb.length, 8 + 16 * kMaxUnmapListRanges);
  std::vector<uint8_t> list(cdb.length);
  EXPECT_EQ(encode_unmap(ranges, list), cdb.length);
  EXPECT_EQ(to_hex(Bytes(list).first(4)), "fff6fff0");
  EXPECT_EQ(to_hex(Bytes(list).last(16)),
            "0000000000000001"
            "00000002"
            "00000000");
}

// Mistakes of ours that a target would carry out.
TEST(BuildCdbDeath, ArgumentsThatWouldMeanSomethingElse) {
  const BlockRange none{.lba = 5, .blocks = 0};
  EXPECT_DEATH(build::write_same16(none, WriteSameData::none, true, 512), "blocks != 0");
  EXPECT_DEATH(build::compare_and_write(5, 0, 512, false), "blocks != 0");
  EXPECT_DEATH(build::read16({.lba = 0, .blocks = 0x800000}, 512, false), "length <=");
  EXPECT_DEATH(build::persistent_reserve_out(ReserveOut::reserve, std::nullopt), "needs_type");
  EXPECT_DEATH(build::unmap(kMaxUnmapListRanges + 1), "kMaxUnmapListRanges");
}

}  // namespace
}  // namespace holdfast::scsi
