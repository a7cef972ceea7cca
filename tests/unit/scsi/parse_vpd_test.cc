#include "common/scsi/parse_vpd.h"

#include "common/scsi/inquiry.h"
#include "common/scsi/vpd.h"
#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

namespace holdfast::scsi {
namespace {

std::vector<uint8_t> page_of(uint8_t code, const LunDescription& lun) {
  std::vector<uint8_t> out(8192);
  out.resize(vpd_page(code, lun, port(), out).value_or(0));
  return out;
}

// "00830008 ..." with the length filled in.
std::vector<uint8_t> page_with(std::string_view code, std::string_view body) {
  const std::vector<uint8_t> bytes = from_hex(body);
  std::vector<uint8_t> out = from_hex("00" + std::string(code) + "0000");
  out[2] = static_cast<uint8_t>(bytes.size() >> 8);
  out[3] = static_cast<uint8_t>(bytes.size());
  out.insert(out.end(), bytes.begin(), bytes.end());
  return out;
}

TEST(ParseVpd, SupportedPages) {
  const auto pages = parse_supported_pages(page_of(0x00, thin_lun()));
  ASSERT_TRUE(pages.has_value());
  EXPECT_EQ(pages->count(), 7U);
  for (const uint8_t code : from_hex("00808386b0b1b2")) EXPECT_TRUE(pages->test(code));
}

TEST(ParseVpd, StandardDataIsNoListOfPages) {
  std::vector<uint8_t> data(96);
  standard_inquiry(thin_lun(), data);
  EXPECT_FALSE(parse_supported_pages(data).has_value());
  EXPECT_FALSE(parse_supported_pages(page_with("00", "")).has_value());
}

TEST(ParseVpd, AnotherPageIsRefused) {
  const std::vector<uint8_t> wrong = page_of(0x86, thin_lun());
  EXPECT_FALSE(parse_supported_pages(wrong).has_value());
  EXPECT_FALSE(parse_serial_number(wrong).has_value());
  EXPECT_FALSE(parse_device_identification(wrong).has_value());
  EXPECT_FALSE(parse_block_limits(wrong).has_value());
  EXPECT_FALSE(parse_block_characteristics(wrong).has_value());
  const auto provisioning = parse_provisioning(wrong);
  ASSERT_FALSE(provisioning.has_value());
  EXPECT_EQ(provisioning.error().code, base::Errc::protocol);
}

TEST(ParseVpd, SerialNumber) {
  LunDescription lun = thin_lun();
  EXPECT_EQ(parse_serial_number(page_of(0x80, lun)).value_or(""),
            "00112233445566778899aabbccddeeff");
  lun.serial = "  S 1  ";
  EXPECT_EQ(parse_serial_number(page_of(0x80, lun)).value_or(""), "S 1");
  const auto none = parse_serial_number(page_with("80", "2020202020"));
  ASSERT_TRUE(none.has_value());
  EXPECT_EQ(*none, "") << "blanks: the unit has none";
  // The beginning of a serial number is not the serial number.
  for_each_truncation(page_of(0x80, lun),
                      [](Bytes part) { EXPECT_FALSE(parse_serial_number(part).has_value()); });
}

TEST(ParseVpd, IdentificationOfOurTarget) {
  const LunDescription lun = thin_lun();
  const auto parsed = parse_device_identification(page_of(0x83, lun));
  ASSERT_TRUE(parsed.has_value());
  ASSERT_TRUE(parsed->unit.has_value());
  EXPECT_EQ(*parsed->unit, UnitIdentity(DesignatorType::naa, naa_identifier(lun.uuid)));
  EXPECT_EQ(to_string(*parsed->unit), "naa.60248460011223348899aabbccddeeff");
  EXPECT_EQ(parsed->relative_target_port, port().relative_target_port_id);
  EXPECT_EQ(parsed->target_port_group, port().target_port_group);
  EXPECT_TRUE(parsed->complete);
}

struct Named {
  std::string_view designator;
  std::string_view name;
};
// Worst first.
constexpr Named kRanked[] = {
    {"0201000a 4945542020202020 3031", "t10.IET     01"},
    {"01030008 3000000000000001", "naa.3000000000000001"},
    {"03080008 69716e2e783a7900", "iqn.x:y"},
    {"010a0012 1000 00112233445566778899aabbccddeeff", "uuid.00112233445566778899aabbccddeeff"},
    {"01020008 0011223344556677", "eui.0011223344556677"},
    {"01030008 2001020304050607", "naa.2001020304050607"},
    {"01030008 5001020304050607", "naa.5001020304050607"},
    {"01030010 60010203040506070809000102030405", "naa.60010203040506070809000102030405"},
};

std::string identity_in(std::string_view body) {
  const auto parsed = parse_device_identification(page_with("83", body));
  if (!parsed.has_value()) return "refused";
  return parsed->unit.has_value() ? to_string(*parsed->unit) : "none";
}

TEST(ParseVpd, TheBestDesignatorIsTheIdentity) {
  for (size_t better = 0; better < std::size(kRanked); ++better) {
    EXPECT_EQ(identity_in(kRanked[better].designator), kRanked[better].name);
    for (size_t worse = 0; worse < better; ++worse) {
      const std::string first(kRanked[worse].designator);
      const std::string second(kRanked[better].designator);
      EXPECT_EQ(identity_in(first + second), kRanked[better].name);
      EXPECT_EQ(identity_in(second + first), kRanked[better].name);
    }
  }
}

TEST(ParseVpd, OrderOfEqualDesignatorsDoesNotMatter) {
  const std::string one = "01030008 5000000000000001";
  const std::string two = "01030008 5000000000000002";
  EXPECT_EQ(identity_in(one + two), "naa.5000000000000001");
  EXPECT_EQ(identity_in(two + one), "naa.5000000000000001");
}

TEST(ParseVpd, OnlyTheUnitsOwnDesignatorsIdentifyIt) {
  EXPECT_EQ(identity_in("51930008 5000000000000001"), "none") << "of the port";
  EXPECT_EQ(identity_in("51a30008 5000000000000001"), "none") << "of the device";
}

// Two units may have these in common.
TEST(ParseVpd, DesignatorsWithoutContentAreNoIdentity) {
  EXPECT_EQ(identity_in(""), "none");
  EXPECT_EQ(identity_in("01030000"), "none");
  EXPECT_EQ(identity_in("01030008 0000000000000000"), "none");
  EXPECT_EQ(identity_in("01030007 50000000000001"), "none") << "NAA 5 has 8 bytes";
  EXPECT_EQ(identity_in("01030008 6000000000000001"), "none") << "NAA 6 has 16";
  EXPECT_EQ(identity_in("01030008 4000000000000001"), "none") << "NAA 4 is reserved";
  EXPECT_EQ(identity_in("01020008 0000000000000000"), "none");
  EXPECT_EQ(identity_in("01020004 00112233"), "none") << "EUI-64 has 8, 12 or 16 bytes";
  EXPECT_EQ(identity_in("02010008 4945542020202020"), "none") << "a vendor only";
  EXPECT_EQ(identity_in("0201000c 4945542020202020 20202020"), "none");
  EXPECT_EQ(identity_in("010a0012 1000 00000000000000000000000000000000"), "none");
  EXPECT_EQ(identity_in("03080004 00000000"), "none");
  EXPECT_EQ(identity_in("01000004 01020304"), "none") << "vendor specific";
}

TEST(ParseVpd, PaddingOfANameIsNoDifference) {
  const auto four = parse_device_identification(page_with("83", "03080004 61620000"));
  const auto eight = parse_device_identification(page_with("83", "03080008 6162000000000000"));
  ASSERT_TRUE(four.has_value() && eight.has_value());
  ASSERT_TRUE(four->unit.has_value());
  EXPECT_EQ(four->unit, eight->unit);
}

TEST(ParseVpd, IdentitiesCompareByTypeAndValue) {
  const UnitIdentity naa(DesignatorType::naa, from_hex("5000000000000001"));
  EXPECT_EQ(naa, UnitIdentity(DesignatorType::naa, from_hex("5000000000000001")));
  EXPECT_NE(naa, UnitIdentity(DesignatorType::naa, from_hex("5000000000000002")));
  EXPECT_NE(naa, UnitIdentity(DesignatorType::eui64, from_hex("5000000000000001")));
  EXPECT_NE(naa, UnitIdentity(DesignatorType::naa, from_hex("500000000000000100")));
}

TEST(ParseVpd, NamesAreSafeToPrint) {
  EXPECT_EQ(identity_in("03080008 611b5b335c0a0000"), "a\\x1b[3\\x5c\\x0a");
}

TEST(ParseVpd, DesignatorsInTheirOrder) {
  const std::vector<uint8_t> page = page_of(0x83, thin_lun());
  DesignatorReader reader(page);
  std::string seen;
  while (const auto designator = reader.next()) {
    seen += std::to_string(static_cast<int>(designator->association)) + "/" +
            std::to_string(static_cast<int>(designator->type)) + "/" +
            std::to_string(designator->value.size()) + " ";
  }
  EXPECT_EQ(seen, "0/3/16 0/1/40 1/4/4 1/5/4 1/8/40 2/8/32 ");
}

// SBC-3 6.6.3: each field is the one our target put there.
TEST(ParseVpd, BlockLimits) {
  LunDescription lun = thin_lun();
  lun.physical_block_exponent = 3;
  lun.max_transfer_blocks = 0x01020304;
  lun.optimal_transfer_blocks = 0x11121314;
  lun.max_unmap_blocks = 0x21222324;
  lun.max_unmap_descriptors = 0x31;
  lun.unmap_granularity_blocks = 0x41424344;
  lun.unmap_alignment_blocks = 0x51525354;
  lun.max_write_same_blocks = 0x6162636465666768;
  const BlockLimits wanted{.max_compare_and_write = 255,
                           .optimal_granularity = 8,
                           .max_transfer = 0x01020304,
                           .optimal_transfer = 0x11121314,
                           .max_unmap = 0x21222324,
                           .max_unmap_descriptors = 0x31,
                           .unmap_granularity = 0x41424344,
                           .unmap_alignment = 0x51525354,
                           .max_write_same = 0x6162636465666768};
  EXPECT_EQ(parse_block_limits(page_of(0xb0, lun)).value_or(BlockLimits{}), wanted);
  const auto thick = parse_block_limits(page_of(0xb0, thick_lun()));
  ASSERT_TRUE(thick.has_value());
  EXPECT_EQ(thick->max_unmap, 0U);
  EXPECT_EQ(thick->unmap_alignment, std::nullopt);
  std::vector<uint8_t> nonzero = page_of(0xb0, lun);
  nonzero[4] = 1;
  EXPECT_TRUE(parse_block_limits(nonzero)->write_same_nonzero);
}

TEST(ParseVpd, BlockLimitsOfSbc2) {
  const auto old = parse_block_limits(page_with("b0", "00 00 0008 00000100 00000080"));
  ASSERT_TRUE(old.has_value());
  EXPECT_EQ(*old, (BlockLimits{
                      .optimal_granularity = 8, .max_transfer = 0x100, .optimal_transfer = 0x80}));
}

// What lies in the buffer behind the page is not of the page.
TEST(ParseVpd, PageLengthEndsThePage) {
  std::vector<uint8_t> data = page_of(0xb0, thin_lun());
  data[3] = 0x0c;
  EXPECT_EQ(parse_block_limits(data)->max_unmap, 0U);
  data = page_of(0x83, thin_lun());
  data[3] = 0x04;
  EXPECT_EQ(parse_device_identification(data)->unit, std::nullopt);
}

TEST(ParseVpd, Characteristics) {
  const auto ours = parse_block_characteristics(page_of(0xb1, thin_lun()));
  ASSERT_TRUE(ours.has_value());
  EXPECT_EQ(*ours, (BlockCharacteristics{.rotation_rate = 1, .verifies_unmapped = true}));
  EXPECT_TRUE(ours->is_non_rotating());
  EXPECT_EQ(parse_block_characteristics(page_with("b1", "1c20"))->rotation_rate, 7200);
}

TEST(ParseVpd, Provisioning) {
  const ProvisioningLimits thin{.unmap = true,
                                .write_same_16 = true,
                                .write_same_10 = true,
                                .reads_zeroes = true,
                                .provisioning_type = 2};
  EXPECT_EQ(parse_provisioning(page_of(0xb2, thin_lun())).value_or(ProvisioningLimits{}), thin);
  const auto thick = parse_provisioning(page_of(0xb2, thick_lun()));
  ASSERT_TRUE(thick.has_value());
  EXPECT_EQ(*thick, ProvisioningLimits{});
  const auto bits = [](std::string_view byte) {
    return *parse_provisioning(page_with("b2", "09" + std::string(byte) + "0100"));
  };
  EXPECT_EQ(bits("80"),
            (ProvisioningLimits{.unmap = true, .provisioning_type = 1, .threshold_exponent = 9}));
  EXPECT_TRUE(bits("40").write_same_16);
  EXPECT_TRUE(bits("20").write_same_10);
  EXPECT_TRUE(bits("04").reads_zeroes);
  EXPECT_FALSE(bits("08").reads_zeroes) << "SBC-4: an initialization pattern";
}

// A cut page has fewer fields, never others; a cut list of designators says that it is cut.
TEST(ParseVpd, Truncations) {
  const LunDescription lun = thin_lun();
  const auto limits = parse_block_limits(page_of(0xb0, lun));
  ASSERT_TRUE(limits.has_value());
  for_each_truncation(page_of(0xb0, lun), [&](Bytes part) {
    const auto cut = parse_block_limits(part);
    EXPECT_EQ(cut.has_value(), part.size() >= 4);
    if (!cut.has_value()) return;
    EXPECT_TRUE(cut->max_transfer == limits->max_transfer || cut->max_transfer == 0);
    EXPECT_TRUE(cut->max_write_same == limits->max_write_same || cut->max_write_same == 0);
  });
  const auto whole = parse_device_identification(page_of(0x83, lun));
  ASSERT_TRUE(whole.has_value());
  for_each_truncation(page_of(0x83, lun), [&](Bytes part) {
    const auto cut = parse_device_identification(part);
    EXPECT_EQ(cut.has_value(), part.size() >= 4);
    if (!cut.has_value()) return;
    EXPECT_FALSE(cut->complete);
    EXPECT_EQ(cut->full_length, whole->full_length);
    EXPECT_TRUE(!cut->unit.has_value() || cut->unit == whole->unit);
  });
}

TEST(ParseVpd, DesignatorLengthThatLies) {
  EXPECT_EQ(identity_in("010300ff 5000000000000001"), "none");
  EXPECT_EQ(identity_in("01030008 5000000000000001 010300ff 60"), "naa.5000000000000001");
  EXPECT_EQ(identity_in("01030008 5000000000000001 0103"), "naa.5000000000000001");
}

TEST(ParseVpd, Damage) {
  size_t identified = 0;
  for (const uint8_t code : from_hex("008083b0b1b2")) {
    for_each_damage(page_of(code, thin_lun()), [&](Bytes data) {
      (void)parse_supported_pages(data);
      (void)parse_block_limits(data);
      (void)parse_block_characteristics(data);
      (void)parse_provisioning(data);
      if (const auto serial = parse_serial_number(data)) {
        EXPECT_LE(serial->size(), data.size() - 4);
        EXPECT_TRUE(std::ranges::all_of(*serial, [](char c) { return c >= 0x20 && c <= 0x7e; }));
      }
      const auto identification = parse_device_identification(data);
      if (!identification.has_value() || !identification->unit.has_value()) return;
      ++identified;
      EXPECT_LE(identification->unit->value().size() + 8, data.size());
      EXPECT_TRUE(std::ranges::all_of(to_string(*identification->unit),
                                      [](char c) { return c >= 0x20 && c <= 0x7e; }));
    });
  }
  EXPECT_GT(identified, 0U) << "nothing got past the header";
}

}  // namespace
}  // namespace holdfast::scsi
