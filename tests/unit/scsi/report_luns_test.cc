#include "common/scsi/report_luns.h"

#include "common/scsi/limits.h"
#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

namespace holdfast::scsi {
namespace {

TEST(Lun, Decode) {
  const std::pair<std::string_view, std::optional<uint16_t>> table[] = {
      {"0000000000000000", 0},
      {"0001000000000000", 1},
      {"00ff000000000000", 255},
      {"4001000000000000", 1},  // flat space for a small number is well-formed
      {"4100000000000000", 256},
      {"7fff000000000000", 16383},
      {"0100000000000000", std::nullopt},  // bus 1
      {"3f00000000000000", std::nullopt},
      {"8001000000000000", std::nullopt},  // logical unit addressing
      {"c101000000000000", std::nullopt},  // REPORT LUNS well-known unit
      {"d200000100000000", std::nullopt},  // extended flat space
      {"ffffffffffffffff", std::nullopt},
      {"0001000100000000", std::nullopt},  // second level
      {"0001000000000001", std::nullopt},
      {"00010000000000", std::nullopt},  // seven bytes
      {"000100000000000000", std::nullopt},
      {"", std::nullopt},
  };
  for (const auto& [text, lun] : table) EXPECT_EQ(decode_lun(from_hex(text)), lun) << text;
}

TEST(Lun, EncodeIsDecodedBack) {
  for (unsigned lun = 0; lun <= kMaxLun; ++lun) {
    const base::be64 field = encode_lun(static_cast<uint16_t>(lun));
    ASSERT_EQ(decode_lun(base::as_bytes(field)), lun);
  }
  EXPECT_EQ(to_hex(base::as_bytes(encode_lun(255))), "00ff000000000000");
  EXPECT_EQ(to_hex(base::as_bytes(encode_lun(256))), "4100000000000000");
}

TEST(ReportLuns, ListsWithTheFullLength) {
  const std::array<uint16_t, 3> luns{0, 7, 0x1234};
  const auto all = build_checked([&](MutableBytes out) { return report_luns(0, luns, out); });
  EXPECT_EQ(to_hex(all),
            "0000001800000000"
            "0000000000000000"
            "0007000000000000"
            "5234000000000000");
  const auto any = build_checked([&](MutableBytes out) { return report_luns(2, luns, out); });
  EXPECT_EQ(any, all);
  const auto known = build_checked([&](MutableBytes out) { return report_luns(1, luns, out); });
  EXPECT_EQ(to_hex(known), "0000000000000000");
}

std::vector<uint8_t> luns_data(std::span<const uint16_t> luns) {
  std::vector<uint8_t> out(8 + 8 * luns.size());
  report_luns(0, luns, out);
  return out;
}

TEST(ParseReportLuns, OurOwnData) {
  const std::vector<uint16_t> luns = {0, 1, 255, 256, 16383};
  const auto parsed = parse_report_luns(luns_data(luns));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->complete);
  EXPECT_EQ(parsed->full_length, 48U);
  std::vector<uint16_t> numbers;
  for (const base::be64& field : parsed->fields) {
    numbers.push_back(decode_lun(base::as_bytes(field)).value_or(0xffff));
  }
  EXPECT_EQ(numbers, luns);
}

TEST(ParseReportLuns, FieldsAreKeptAsTheyCame) {
  // Flat addressing of a small number, and a well-known unit.
  const auto parsed =
      parse_report_luns(from_hex("00000010 00000000 4003000000000000 c101000000000000"));
  ASSERT_TRUE(parsed.has_value());
  ASSERT_EQ(parsed->fields.size(), 2U);
  EXPECT_EQ(to_hex(base::as_bytes(parsed->fields[0])), "4003000000000000");
  EXPECT_EQ(decode_lun(base::as_bytes(parsed->fields[0])), 3);
  EXPECT_EQ(decode_lun(base::as_bytes(parsed->fields[1])), std::nullopt);
}

TEST(ParseReportLuns, Truncations) {
  const std::vector<uint16_t> luns = {0, 1, 256};
  const std::vector<uint8_t> whole = luns_data(luns);
  for_each_truncation(whole, [&](base::Bytes part) {
    const auto cut = parse_report_luns(part);
    ASSERT_EQ(cut.has_value(), part.size() >= 8);
    if (!cut.has_value()) return;
    EXPECT_FALSE(cut->complete);
    EXPECT_EQ(cut->full_length, whole.size());
    EXPECT_EQ(cut->fields.size(), (part.size() - 8) / 8);
  });
}

TEST(ParseReportLuns, LengthsThatLie) {
  const auto much = parse_report_luns(from_hex("ffffffff 00000000 0001000000000000"));
  ASSERT_TRUE(much.has_value());
  EXPECT_EQ(much->fields.size(), 1U);
  EXPECT_FALSE(much->complete);
  EXPECT_EQ(much->full_length, 0xffffffffULL + 8);
  const auto little =
      parse_report_luns(from_hex("00000008 00000000 0001000000000000 0002000000000000"));
  ASSERT_TRUE(little.has_value());
  EXPECT_EQ(little->fields.size(), 1U);
}

TEST(ParseReportLuns, Damage) {
  const std::vector<uint16_t> luns = {0, 1, 256};
  for_each_damage(luns_data(luns), [](base::Bytes data) {
    const auto parsed = parse_report_luns(data);
    if (!parsed.has_value()) return;
    EXPECT_LE(parsed->fields.size() * 8 + 8, data.size());
    EXPECT_TRUE(!parsed->complete || parsed->full_length <= data.size());
  });
}

}  // namespace
}  // namespace holdfast::scsi
