#include "common/scsi/report_luns.h"

#include "common/scsi/limits.h"
#include "tests/unit/scsi/hex.h"

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

}  // namespace
}  // namespace holdfast::scsi
