#include "common/scsi/command_table.h"

#include <set>

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

// The smallest CDB of a row: opcode and service action.
std::vector<uint8_t> plain_cdb(const CommandRow& row) {
  std::vector<uint8_t> out(row.cdb_length);
  out[0] = row.opcode;
  if (row.has_service_action) out[1] = row.service_action;
  return out;
}

TEST(CommandTable, EveryRowIsConsistent) {
  std::set<std::pair<unsigned, unsigned>> seen;
  const CommandRow* previous = nullptr;
  for (const CommandRow& row : command_table()) {
    SCOPED_TRACE(row.name);
    EXPECT_TRUE(seen.insert({row.opcode, row.service_action}).second) << "twice in the table";
    // SPC-4 4.2: the group code in the opcode tells the length.
    const unsigned group = row.opcode >> 5;
    const unsigned expected = group == 0 ? 6 : group <= 2 ? 10 : group == 4 ? 16 : 12;
    EXPECT_EQ(row.cdb_length, expected);
    // The usage map covers the CDB and nothing more; CONTROL has no bit that may be one.
    EXPECT_EQ(row.usage[0], row.opcode);
    EXPECT_EQ(row.usage[row.cdb_length - 1U], 0);
    for (size_t i = row.cdb_length; i < row.usage.size(); ++i) EXPECT_EQ(row.usage[i], 0);
    if (row.has_service_action) {
      EXPECT_EQ(row.usage[1] & 0x1f, row.service_action);
    }
    EXPECT_GE(row.recommended_seconds, row.nominal_seconds);
    EXPECT_GT(row.nominal_seconds, 0);
    if (previous != nullptr) {
      EXPECT_LT(std::pair(previous->opcode, previous->service_action),
                std::pair(row.opcode, row.service_action))
          << "not in order";
    }
    previous = &row;
  }
  EXPECT_EQ(command_table().size(), 50U);
}

TEST(CommandTable, EveryRowIsFoundAndDecodable) {
  size_t index = 0;
  for (const CommandRow& row : command_table()) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(find_command(row.opcode, row.service_action), &row);
    EXPECT_EQ(command_index(row), index++);
    EXPECT_EQ(opcode_has_service_actions(row.opcode), row.has_service_action);
    const auto command = decode(plain_cdb(row));
    ASSERT_TRUE(command.has_value());
    EXPECT_EQ(command->row, &row);
    EXPECT_EQ(command->service_action, row.service_action);
  }
}

TEST(CommandTable, NothingElseIsFound) {
  size_t found = 0;
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    for (unsigned action = 0; action < 256; ++action) {
      const CommandRow* row =
          find_command(static_cast<uint8_t>(opcode), static_cast<uint8_t>(action));
      if (row == nullptr) continue;
      EXPECT_EQ(row->opcode, opcode);
      if (row->has_service_action) {
        EXPECT_EQ(row->service_action, action);
        ++found;
      } else if (action == 0) {
        ++found;
      }
    }
  }
  EXPECT_EQ(found, command_table().size());
}

// What RSOC tells about a CDB is what the decoder does with it: a bit in the usage map changes the
// command (or is refused for its value), a bit outside changes nothing (or is refused).
TEST(CommandTable, UsageMapsAreTrue) {
  for (const CommandRow& row : command_table()) {
    for (size_t byte = 1; byte < row.cdb_length; ++byte) {
      std::vector<uint8_t> plain = plain_cdb(row);
      // An INQUIRY page needs EVPD, a MODE SELECT list PF.
      if (row.operation == Operation::inquiry && byte == 2) plain[1] = 0x01;
      if (row.operation == Operation::mode_select && byte > 1) plain[1] = 0x10;
      const auto base = decode(plain);
      ASSERT_TRUE(base.has_value()) << row.name;
      for (unsigned bit = 0; bit < 8; ++bit) {
        if (byte == 1 && row.has_service_action && bit < 5) continue;
        const bool used = (row.usage[byte] >> bit & 1) != 0;
        std::vector<uint8_t> changed = plain;
        changed[byte] = static_cast<uint8_t>(changed[byte] ^ 1U << bit);
        const auto command = decode(changed);
        if (!command.has_value()) continue;
        EXPECT_EQ(*command != *base, used) << row.name << " byte " << byte << " bit " << bit;
      }
    }
  }
}

TEST(CommandTable, WritesAreMarkedAsSuch) {
  const std::set<Operation> writers = {Operation::write,   Operation::write_and_verify,
                                       Operation::orwrite, Operation::write_same,
                                       Operation::unmap,   Operation::compare_and_write};
  for (const CommandRow& row : command_table()) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(row.has(kWritesMedium), writers.contains(row.operation));
    if (row.has(kWritesMedium)) {
      EXPECT_TRUE(row.has(kMediumAccess));
      EXPECT_EQ(row.reservation, ReservationAccess::write);
    }
    if (row.has(kMediumAccess)) {
      EXPECT_NE(row.reservation, ReservationAccess::always);
      EXPECT_FALSE(row.has(kAllowedWithoutMedium));
      EXPECT_FALSE(row.has(kAllowedInStandby));
      EXPECT_FALSE(row.has(kAllowedInUnavailable));
    }
    EXPECT_TRUE(row.has(kAllowedInStandby) || !row.has(kAllowedInUnavailable));
  }
}

// The tables of SPC-4 5.13 and SBC-3 4.17, row by row.
TEST(CommandTable, ReservationClassesAreThoseOfTheStandard) {
  using enum ReservationAccess;
  const std::vector<std::pair<std::string_view, ReservationAccess>> expected = {
      {"00", always},        {"03", always},        {"08", read},          {"0a", write},
      {"12", always},        {"15", write},         {"1a", read},          {"1b", start_stop},
      {"1e", prevent_allow}, {"25", always},        {"28", read},          {"2a", write},
      {"2e", write},         {"2f", read},          {"34", read},          {"35", write},
      {"41", write},         {"42", write},         {"55", write},         {"5a", read},
      {"5e00", always},      {"5e01", always},      {"5e02", always},      {"5e03", always},
      {"5f00", reserve_out}, {"5f01", reserve_out}, {"5f02", reserve_out}, {"5f03", reserve_out},
      {"5f04", reserve_out}, {"5f05", reserve_out}, {"5f06", reserve_out}, {"88", read},
      {"89", write},         {"8a", write},         {"8b", write},         {"8e", write},
      {"8f", read},          {"90", read},          {"91", write},         {"93", write},
      {"9e10", always},      {"9e12", read},        {"a0", always},        {"a30a", always},
      {"a30c", read},        {"a30d", read},        {"a8", read},          {"aa", write},
      {"ae", write},         {"af", read},
  };
  ASSERT_EQ(expected.size(), command_table().size());
  for (const auto& [code, access] : expected) {
    std::vector<uint8_t> bytes = from_hex(code);
    bytes.resize(2);
    const CommandRow* row = find_command(bytes[0], bytes[1]);
    ASSERT_NE(row, nullptr) << code;
    EXPECT_EQ(row->reservation, access) << row->name;
  }
}

TEST(CommandTable, UnitAttentionsPassByThreeCommandsOnly) {
  std::set<uint8_t> opcodes;
  for (const CommandRow& row : command_table()) {
    if (row.has(kKeepsUnitAttention)) opcodes.insert(row.opcode);
  }
  EXPECT_EQ(opcodes, (std::set<uint8_t>{0x03, 0x12, 0xa0}));
}

}  // namespace
}  // namespace holdfast::scsi
