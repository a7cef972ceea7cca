#include "common/scsi/vpd.h"

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

std::string page(uint8_t code, const LunDescription& lun) {
  return to_hex(build_checked(
      [&](MutableBytes out) { return vpd_page(code, lun, port(), out).value_or(0); }));
}

std::string zeros(size_t bytes) { return std::string(2 * bytes, '0'); }

TEST(Vpd, SupportedPages) {
  EXPECT_EQ(page(0x00, thin_lun()),
            "00000007"
            "00808386b0b1b2");
}

TEST(Vpd, EveryListedPageExistsAndNoOther) {
  const LunDescription lun = thin_lun();
  std::array<uint8_t, 1024> buffer{};
  const std::vector<uint8_t> listed = from_hex("00808386b0b1b2");
  for (unsigned code = 0; code < 256; ++code) {
    const bool expected = std::ranges::find(listed, code) != listed.end();
    const auto result = vpd_page(static_cast<uint8_t>(code), lun, port(), buffer);
    EXPECT_EQ(result.has_value(), expected) << code;
    if (!result.has_value()) {
      EXPECT_EQ(result.error(), kInvalidFieldInCdb.at_cdb(2));
    } else {
      EXPECT_EQ(buffer[1], code);
      EXPECT_EQ(*result, (size_t{buffer[2]} << 8 | buffer[3]) + 4);
    }
  }
}

TEST(Vpd, SerialIsTheUuidUnlessSet) {
  LunDescription lun = thin_lun();
  EXPECT_EQ(page(0x80, lun),
            "00800020"
            "3030313132323333343435353636373738383939616162626363646465656666");
  lun.serial = "S1";
  EXPECT_EQ(page(0x80, lun),
            "00800002"
            "5331");
  lun.serial = std::string(1000, 'x');
  EXPECT_EQ(page(0x80, lun).size(), 2 * (4U + 252U));
}

TEST(Vpd, IdentificationByteForByte) {
  EXPECT_EQ(page(0x83, thin_lun()),
            "008300a0"
            // NAA 6 of the unit
            "01030010"
            "60248460"
            "01122334"
            "8899aabbccddeeff"
            // T10 vendor ID of the unit
            "02010028"
            "484f4c4446415354"
            "3030313132323333343435353636373738383939616162626363646465656666"
            // relative target port 2, target port group 3
            "51940004"
            "00000002"
            "51950004"
            "00000003"
            // port name: iqn.2026-11.org.holdfast:store,t,0x12ab
            "53980028"
            "69716e2e323032362d31312e6f72672e686f6c64666173743a73746f7265"
            "2c742c307831326162"
            "00"
            // device name, padded to a multiple of four
            "53a80020"
            "69716e2e323032362d31312e6f72672e686f6c64666173743a73746f7265"
            "0000");
}

TEST(Vpd, UnitDesignatorsAreEqualOnAllPorts) {
  const LunDescription lun = thin_lun();
  PortDescription other = port();
  other.portal_group_tag = 7;
  other.relative_target_port_id = 9;
  other.target_port_group = 4;
  std::array<uint8_t, 512> first{};
  std::array<uint8_t, 512> second{};
  ASSERT_TRUE(vpd_page(0x83, lun, port(), first).has_value());
  ASSERT_TRUE(vpd_page(0x83, lun, other, second).has_value());
  constexpr size_t kUnitDesignators = 4 + 20 + 44;
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + kUnitDesignators, second.begin()));
  EXPECT_NE(first, second);
}

TEST(Vpd, NaaUsesTheRandomBitsOfTheUuid) {
  std::array<uint8_t, 16> uuid{};
  const auto zero = naa_identifier(uuid);
  EXPECT_EQ(to_hex(zero), "60248460000000000000000000000000");
  for (size_t byte = 0; byte < 16; ++byte) {
    if (byte >= 5 && byte < 8) continue;  // time_mid's end and the version: not used
    for (unsigned bit = byte == 4 ? 4 : 0; bit < 8; ++bit) {
      auto changed = uuid;
      changed[byte] = static_cast<uint8_t>(1U << bit);
      EXPECT_NE(naa_identifier(changed), zero) << byte << "." << bit;
      EXPECT_EQ(to_hex(naa_identifier(changed)).substr(0, 7), "6024846");
    }
  }
}

TEST(Vpd, NamesTooLongForIscsiAreCut) {
  const LunDescription lun = thin_lun();
  PortDescription long_name = port();
  long_name.target_name = std::string(5000, 'n');
  std::vector<uint8_t> buffer(8192);
  const auto length = vpd_page(0x83, lun, long_name, buffer);
  ASSERT_TRUE(length.has_value());
  EXPECT_EQ(*length, 4 + 20 + 44 + 8 + 8 + (4 + 236) + (4 + 224U));
}

TEST(Vpd, ExtendedInquiry) {
  LunDescription lun = thin_lun();
  EXPECT_EQ(page(0x86, lun),
            "0086003c"
            "000100" +
                zeros(6) + "1c" + zeros(50));
  lun.write_cache = true;
  EXPECT_EQ(page(0x86, lun),
            "0086003c"
            "000101" +
                zeros(6) + "1c" + zeros(50));
}

TEST(Vpd, BlockLimitsOfAThinUnit) {
  LunDescription lun = thin_lun();
  lun.physical_block_exponent = 3;
  lun.optimal_transfer_blocks = 0x800;
  lun.unmap_alignment_blocks = 5;
  EXPECT_EQ(page(0xb0, lun),
            "00b0003c"
            "00"
            "ff"        // WSNZ=0, COMPARE AND WRITE up to 255
            "0008"      // optimal granularity: one physical block
            "00010000"  // 32 MiB at most
            "00000800"
            "00000000"
            "00100000"  // UNMAP: 512 MiB
            "00000100"
            "00000008"
            "80000005"
            "0000000000080000"  // WRITE SAME: 256 MiB
                + zeros(20));
}

TEST(Vpd, BlockLimitsOfAThickUnitHaveNoUnmap) {
  EXPECT_EQ(page(0xb0, thick_lun()),
            "00b0003c"
            "00"
            "ff"
            "0001"
            "00010000"
            "00000000"
            "00000000" +
                zeros(16) + "0000000000080000" + zeros(20));
}

TEST(Vpd, BlockLimitsAreInBlocksAndConfigurable) {
  LunDescription lun = thin_lun();
  lun.block_size = 4096;
  lun.max_unmap_blocks = 0x11;
  lun.max_unmap_descriptors = 0x22;
  lun.unmap_granularity_blocks = 0x33;
  lun.max_write_same_blocks = 0x4444;
  EXPECT_EQ(page(0xb0, lun),
            "00b0003c"
            "00"
            "ff"
            "0001"
            "00002000"
            "00000000"
            "00000000"
            "00000011"
            "00000022"
            "00000033"
            "80000000"
            "0000000000004444" +
                zeros(20));
  lun.max_transfer_blocks = 0x55;
  EXPECT_EQ(page(0xb0, lun).substr(16, 8), "00000055");
}

TEST(Vpd, Characteristics) {
  EXPECT_EQ(page(0xb1, thin_lun()),
            "00b1003c"
            "0001"
            "0000"
            "01" +
                zeros(0x3c - 5));
}

TEST(Vpd, Provisioning) {
  EXPECT_EQ(page(0xb2, thin_lun()),
            "00b20004"
            "00e40200");
  EXPECT_EQ(page(0xb2, thick_lun()),
            "00b20004"
            "00000000");
}

}  // namespace
}  // namespace holdfast::scsi
