#include "common/scsi/inquiry.h"

#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

namespace holdfast::scsi {
namespace {

TEST(Inquiry, StandardData) {
  const LunDescription lun = thin_lun();
  const auto data = build_checked([&](MutableBytes out) { return standard_inquiry(lun, out); });
  EXPECT_EQ(to_hex(data),
            "00000612"                          // direct access, fixed, SPC-4, HISUP
            "5b100002"                          // 91 more bytes, implicit ALUA, CMDQUE
            "484f4c4446415354"                  // HOLDFAST
            "5649525455414c2d4449534b20202020"  // VIRTUAL-DISK
            "30303031"                          // 0001
            "0000000000000000000000000000000000000000"
            "0000"
            "00a0"
            "0960"
            "0460"
            "04c0"  // SAM-5 iSCSI SPC-4 SBC-3
            "0000000000000000"
            "00000000000000000000000000000000000000000000");
}

TEST(Inquiry, RemovableAndLongNames) {
  LunDescription lun = thin_lun();
  lun.removable = true;
  lun.vendor = "ABC";
  lun.product = "a product name that is too long";
  lun.revision = "";
  const auto data = build_checked([&](MutableBytes out) { return standard_inquiry(lun, out); });
  EXPECT_EQ(data[1], 0x80);
  EXPECT_EQ(std::string(data.begin() + 8, data.begin() + 36), "ABC     a product name t    ");
}

TEST(Inquiry, EvpdGoesToThePage) {
  const LunDescription lun = thin_lun();
  const Command command = decoded("12 01 80 00ff 00");
  const auto data = build_checked(
      [&](MutableBytes out) { return inquiry(command, lun, port(), out).value_or(0); });
  EXPECT_EQ(data[1], 0x80);
  const Command unknown = decoded("12 01 89 00ff 00");
  std::array<uint8_t, 8> buffer{};
  EXPECT_EQ(inquiry(unknown, lun, port(), buffer).error(), kInvalidFieldInCdb.at_cdb(2));
  EXPECT_EQ(inquiry(decoded("12 00 00 00ff 00"), lun, port(), buffer), 96U);
}

TEST(Inquiry, UnknownLun) {
  const Command command = decoded("12 00 00 0024 00");
  const auto data = build_checked(
      [&](MutableBytes out) { return inquiry_without_lun(command, out).value_or(0); });
  EXPECT_EQ(to_hex(data),
            "7f0006121f000002"
            "484f4c4446415354"
            "20202020202020202020202020202020"
            "20202020");
}

TEST(Inquiry, UnknownLunHasOneVpdPage) {
  const auto data = build_checked([&](MutableBytes out) {
    return inquiry_without_lun(decoded("12 01 00 0024 00"), out).value_or(0);
  });
  EXPECT_EQ(to_hex(data), "7f00000100");
  std::array<uint8_t, 8> buffer{};
  EXPECT_EQ(inquiry_without_lun(decoded("12 01 83 0024 00"), buffer).error(),
            kInvalidFieldInCdb.at_cdb(2));
}

std::vector<uint8_t> standard_data(const LunDescription& lun) {
  std::vector<uint8_t> out(96);
  out.resize(standard_inquiry(lun, out));
  return out;
}

TEST(ParseInquiry, OurOwnData) {
  LunDescription lun = thin_lun();
  lun.vendor = "ACME";
  lun.product = "Disk of 16 bytes";
  lun.revision = "7";
  const auto parsed = parse_standard_inquiry(standard_data(lun));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(*parsed, (InquiryData{.version = 6,
                                  .tpgs = 1,
                                  .vendor = "ACME",
                                  .product = "Disk of 16 bytes",
                                  .revision = "7"}));
  EXPECT_TRUE(parsed->is_disk());
  lun.removable = true;
  EXPECT_TRUE(parse_standard_inquiry(standard_data(lun))->removable);
}

TEST(ParseInquiry, NoUnit) {
  std::vector<uint8_t> data(96);
  data.resize(inquiry_without_lun(decoded("12 00 00 0060"), data).value_or(0));
  const auto parsed = parse_standard_inquiry(data);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->peripheral_qualifier, 3);
  EXPECT_EQ(parsed->device_type, 0x1f);
  EXPECT_FALSE(parsed->is_disk());
}

// SPC-4 6.6.2.
TEST(ParseInquiry, EveryField) {
  const auto parsed = parse_standard_inquiry(from_hex(
      "2d 80 05 12 1f 39 00 02 2056454e444f5220 50524f4455435400ffffffffffffffff 312e3220"));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(*parsed, (InquiryData{.peripheral_qualifier = 1,
                                  .device_type = 0x0d,
                                  .removable = true,
                                  .version = 5,
                                  .tpgs = 3,
                                  .protection = true,
                                  .third_party_copy = true,
                                  .vendor = "VENDOR",
                                  .product = "PRODUCT",
                                  .revision = "1.2"}));
}

TEST(ParseInquiry, AncientFormatIsRefused) {
  std::vector<uint8_t> data = standard_data(thin_lun());
  data[3] = 0x01;
  EXPECT_FALSE(parse_standard_inquiry(data).has_value());
}

TEST(ParseInquiry, StatedLengthDoesNotHideMandatoryFields) {
  std::vector<uint8_t> data = standard_data(thin_lun());
  data[4] = 0;
  EXPECT_EQ(parse_standard_inquiry(data)->vendor, "HOLDFAST");
}

TEST(ParseInquiry, Truncations) {
  const std::vector<uint8_t> whole = standard_data(thin_lun());
  for_each_truncation(whole, [](Bytes part) {
    const auto cut = parse_standard_inquiry(part);
    ASSERT_EQ(cut.has_value(), part.size() >= 8);
    if (!cut.has_value()) return;
    EXPECT_EQ(cut->vendor, part.size() >= 16 ? "HOLDFAST" : "");
    EXPECT_EQ(cut->product, part.size() >= 32 ? "VIRTUAL-DISK" : "");
    EXPECT_EQ(cut->revision, part.size() >= 36 ? "0001" : "");
  });
}

TEST(ParseInquiry, Damage) {
  const auto printable = [](const std::string& text) {
    return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c <= 0x7e; });
  };
  for_each_damage(standard_data(thin_lun()), [&](Bytes data) {
    const auto parsed = parse_standard_inquiry(data);
    if (!parsed.has_value()) return;
    EXPECT_TRUE(printable(parsed->vendor) && printable(parsed->product) &&
                printable(parsed->revision));
  });
}

}  // namespace
}  // namespace holdfast::scsi
