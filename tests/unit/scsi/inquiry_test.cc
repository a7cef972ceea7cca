#include "common/scsi/inquiry.h"

#include "tests/unit/scsi/hex.h"

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

}  // namespace
}  // namespace holdfast::scsi
