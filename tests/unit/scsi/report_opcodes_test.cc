#include "common/scsi/report_opcodes.h"

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

std::vector<uint8_t> report(std::string_view text, const LunDescription& lun = thin_lun()) {
  const Command command = decoded(text);
  return build_checked([&](MutableBytes out) {
    return report_supported_operation_codes(command, lun, out).value_or(0);
  });
}

Sense sense_of(std::string_view text) {
  std::array<uint8_t, 64> buffer{};
  const auto result = report_supported_operation_codes(decoded(text), thin_lun(), buffer);
  return result.has_value() ? kNoSense : result.error();
}

TEST(ReportOpcodes, AllCommands) {
  const auto data = report("a3 0c 00 00 0000 00002000 00 00");
  ASSERT_EQ(data.size(), 4 + 8 * command_table().size());
  EXPECT_EQ(to_hex(Bytes(data).first(12)),
            "00000190"
            "0000000000000006");
  size_t at = 4;
  for (const CommandRow& row : command_table()) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(data[at], row.opcode);
    EXPECT_EQ(data[at + 3], row.service_action);
    EXPECT_EQ(data[at + 5], row.has_service_action ? 0x01 : 0x00);
    EXPECT_EQ(data[at + 7], row.cdb_length);
    at += 8;
  }
}

TEST(ReportOpcodes, AllCommandsWithTimeouts) {
  const auto data = report("a3 0c 80 00 0000 00002000 00 00");
  ASSERT_EQ(data.size(), 4 + 20 * command_table().size());
  EXPECT_EQ(to_hex(Bytes(data).first(24)),
            "000003e8"
            "0000000000020006"
            "000a0000"
            "00000001"
            "0000000a");
}

TEST(ReportOpcodes, ThickUnitsDoNotListUnmap) {
  const auto data = report("a3 0c 00 00 0000 00002000 00 00", thick_lun());
  ASSERT_EQ(data.size(), 4 + 8 * (command_table().size() - 1));
  for (size_t at = 4; at < data.size(); at += 8) EXPECT_NE(data[at], 0x42);
  EXPECT_EQ(to_hex(report("a3 0c 01 42 0000 00002000 00 00", thick_lun())), "00010000");
  EXPECT_EQ(to_hex(report("a3 0c 01 42 0000 00002000 00 00", thin_lun())),
            "0003000a"
            "42000000000000ffff00");
}

TEST(ReportOpcodes, OneCommand) {
  EXPECT_EQ(to_hex(report("a3 0c 01 28 0000 00002000 00 00")),
            "0003000a"
            "2818ffffffff00ffff00");
  EXPECT_EQ(to_hex(report("a3 0c 81 28 0000 00002000 00 00")),
            "0083000a"
            "2818ffffffff00ffff00"
            "000a0000"
            "00000001"
            "0000001e");
  EXPECT_EQ(to_hex(report("a3 0c 02 9e 0010 00002000 00 00")),
            "00030010"
            "9e10ffffffffffffffffffffffff0100");
}

TEST(ReportOpcodes, OneCommandNotSupported) {
  for (const char* text : {"a3 0c 01 16", "a3 0c 81 ff", "a3 0c 02 83 0001", "a3 0c 03 4d 0000",
                           "a3 0c 02 9e 0011", "a3 0c 02 9e 0110", "a3 0c 02 5f 0007",
                           "a3 0c 03 28 0001", "a3 0c 03 a3 ff0c", "a3 0c 03 9e 00ff"}) {
    EXPECT_EQ(to_hex(report(text)), "00010000") << text;
  }
}

TEST(ReportOpcodes, TheWrongOptionForTheOpcode) {
  EXPECT_EQ(sense_of("a3 0c 01 9e 0010"), kInvalidFieldInCdb.at_cdb(2, 2));
  EXPECT_EQ(sense_of("a3 0c 01 5f 0000"), kInvalidFieldInCdb.at_cdb(2, 2));
  EXPECT_EQ(sense_of("a3 0c 02 28 0000"), kInvalidFieldInCdb.at_cdb(2, 2));
}

TEST(ReportOpcodes, OptionThreeTakesBoth) {
  EXPECT_EQ(report("a3 0c 03 28 0000"), report("a3 0c 01 28 0000"));
  EXPECT_EQ(report("a3 0c 03 9e 0012"), report("a3 0c 02 9e 0012"));
}

TEST(ReportOpcodes, EveryCommandIsReportedAlone) {
  for (const CommandRow& row : command_table()) {
    std::vector<uint8_t> bytes = cdb("a3 0c");
    bytes[2] = row.has_service_action ? 2 : 1;
    bytes[3] = row.opcode;
    bytes[5] = row.service_action;
    const auto command = decode(bytes);
    ASSERT_TRUE(command.has_value());
    std::array<uint8_t, 64> out{};
    const auto length = report_supported_operation_codes(*command, thin_lun(), out);
    ASSERT_EQ(length, 4U + row.cdb_length) << row.name;
    EXPECT_EQ(out[1], 3) << row.name;
    EXPECT_EQ(to_hex(Bytes(out).subspan(4, row.cdb_length)),
              to_hex(Bytes(row.usage).first(row.cdb_length)));
  }
}

TEST(ReportTaskManagement, BothForms) {
  const auto form = [](std::string_view text) {
    const Command command = decoded(text);
    return to_hex(build_checked([&](MutableBytes out) {
      return report_supported_task_management_functions(command, out);
    }));
  };
  EXPECT_EQ(form("a3 0d 00 000000 00000010"), "da000000");
  EXPECT_EQ(form("a3 0d 80 000000 00000010"), "da00000c000000000000000000000000");
}

TEST(ParseSupportedOpcode, OurOwnData) {
  const auto support = [](std::string_view text, const LunDescription& lun) {
    std::vector<uint8_t> out(64);
    out.resize(report_supported_operation_codes(decoded(text), lun, out).value_or(0));
    return parse_supported_opcode(out).value_or(OpcodeSupport::unknown);
  };
  EXPECT_EQ(support("a3 0c 01 89 0000 00000040", thin_lun()), OpcodeSupport::yes);
  EXPECT_EQ(support("a3 0c 81 89 0000 00000040", thin_lun()), OpcodeSupport::yes);
  EXPECT_EQ(support("a3 0c 01 42 0000 00000040", thick_lun()), OpcodeSupport::no);
  EXPECT_EQ(support("a3 0c 02 5f 0005 00000040", thin_lun()), OpcodeSupport::yes);
  EXPECT_EQ(support("a3 0c 02 5f 0007 00000040", thin_lun()), OpcodeSupport::no);
}

// SPC-4 6.35.3, SUPPORT.
TEST(ParseSupportedOpcode, EveryCode) {
  for (unsigned code = 0; code < 8; ++code) {
    const std::vector<uint8_t> data = {0, static_cast<uint8_t>(code), 0, 0};
    OpcodeSupport wanted = OpcodeSupport::unknown;
    if (code == 1) wanted = OpcodeSupport::no;
    if (code == 3 || code == 5) wanted = OpcodeSupport::yes;
    const auto parsed = parse_supported_opcode(data);
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(*parsed, wanted) << code;
  }
  EXPECT_FALSE(parse_supported_opcode(from_hex("00")).has_value());
}

}  // namespace
}  // namespace holdfast::scsi
