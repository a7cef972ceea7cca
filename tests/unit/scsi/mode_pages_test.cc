#include "common/scsi/mode_pages.h"

#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

namespace holdfast::scsi {
namespace {

constexpr std::string_view kErrorRecovery = "010a00000000000000000000";
constexpr std::string_view kDisconnect = "020e0000000000000000000000000000";
constexpr std::string_view kCaching = "0812000000000000000000000000000000000000";
constexpr std::string_view kCachingWce = "0812040000000000000000000000000000000000";
constexpr std::string_view kControlPage = "0a0a02100040000000000000";
constexpr std::string_view kExtension =
    "4a01001c01000000000000000000000000000000000000000000000000000000";
constexpr std::string_view kExceptions = "1c0a08000000000000000000";

std::string concat(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (const std::string_view part : parts) out += part;
  return out;
}

std::string sensed(std::string_view text, const LunDescription& lun, const ModeState& state = {}) {
  const Command command = decoded(text);
  return to_hex(build_checked(
      [&](MutableBytes out) { return mode_sense(command, lun, state, out).value_or(0); }));
}

Sense sense_of(std::string_view text) {
  std::array<uint8_t, 512> buffer{};
  const auto result = mode_sense(decoded(text), thin_lun(), {}, buffer);
  return result.has_value() ? kNoSense : result.error();
}

Outcome<ModeChanges> select6(std::string_view list, const ModeState& state = {}) {
  const std::vector<uint8_t> bytes = from_hex(list);
  Command command = decoded("15 10");
  command.parameter_list_length = static_cast<uint32_t>(bytes.size());
  return mode_select(command, thin_lun(), state, bytes);
}

Outcome<ModeChanges> select10(std::string_view list, const LunDescription& lun = thin_lun()) {
  const std::vector<uint8_t> bytes = from_hex(list);
  Command command = decoded("55 10");
  command.parameter_list_length = static_cast<uint32_t>(bytes.size());
  return mode_select(command, lun, {}, bytes);
}

TEST(ModeSense, AllPages6) {
  EXPECT_EQ(sensed("1a 00 3f 00 ff 00", thin_lun()),
            concat({"53001008", "0010000000000200", kErrorRecovery, kDisconnect, kCaching,
                    kControlPage, kExceptions}));
}

TEST(ModeSense, AllPagesAndSubpages10) {
  EXPECT_EQ(sensed("5a 08 3f ff 000000 00ff 00", thin_lun()),
            concat({"006e"
                    "0010"
                    "0000"
                    "0000",
                    kErrorRecovery, kDisconnect, kCaching, kControlPage, kExtension, kExceptions}));
}

TEST(ModeSense, OnePageOrSubpage) {
  EXPECT_EQ(sensed("1a 08 01 00 ff 00", thin_lun()), concat({"0f001000", kErrorRecovery}));
  EXPECT_EQ(sensed("1a 08 02 00 ff 00", thin_lun()), concat({"13001000", kDisconnect}));
  EXPECT_EQ(sensed("1a 08 1c 00 ff 00", thin_lun()), concat({"0f001000", kExceptions}));
  EXPECT_EQ(sensed("1a 08 0a 00 ff 00", thin_lun()), concat({"0f001000", kControlPage}));
  EXPECT_EQ(sensed("1a 08 0a 01 ff 00", thin_lun()), concat({"23001000", kExtension}));
  EXPECT_EQ(sensed("1a 08 0a ff ff 00", thin_lun()),
            concat({"2f001000", kControlPage, kExtension}));
}

TEST(ModeSense, BlockDescriptors) {
  LunDescription lun = thin_lun();
  lun.block_size = 4096;
  EXPECT_EQ(sensed("5a 10 0a 00 000000 00ff 00", lun), concat({"0022"
                                                               "0010"
                                                               "0100"
                                                               "0010",
                                                               "0000000000100000"
                                                               "00000000"
                                                               "00001000",
                                                               kControlPage}));
  EXPECT_EQ(sensed("5a 00 0a 00 000000 00ff 00", lun), concat({"001a"
                                                               "0010"
                                                               "0000"
                                                               "0008",
                                                               "0010000000001000", kControlPage}));
  // LLBAA without a descriptor: LONGLBA stays 0.
  EXPECT_EQ(sensed("5a 18 0a 00 000000 00ff 00", lun), concat({"0012"
                                                               "0010"
                                                               "0000"
                                                               "0000",
                                                               kControlPage}));
  // More blocks than the short descriptor can tell.
  lun.capacity_blocks = 0x1'0000'0000;
  EXPECT_EQ(sensed("1a 00 0a 00 ff 00", lun),
            concat({"17001008", "ffffffff00001000", kControlPage}));
}

TEST(ModeSense, WriteCacheAndWriteProtectionAreTold) {
  LunDescription lun = thin_lun();
  lun.write_cache = true;
  EXPECT_EQ(sensed("1a 08 08 00 ff 00", lun), concat({"17001000", kCachingWce}));
  lun.read_only = true;
  EXPECT_EQ(sensed("1a 08 08 00 ff 00", lun), concat({"17009000", kCachingWce}));
  const ModeState protect{.descriptor_sense = false, .software_write_protect = true};
  EXPECT_EQ(sensed("1a 08 0a 00 ff 00", thin_lun(), protect), "0f0090000a0a02100840000000000000");
}

TEST(ModeSense, PageControl) {
  const ModeState both{.descriptor_sense = true, .software_write_protect = true};
  EXPECT_EQ(sensed("1a 08 0a 00 ff 00", thin_lun(), both), "0f0090000a0a06100840000000000000");
  // Changeable: D_SENSE and SWP, nothing else in any page.
  EXPECT_EQ(sensed("1a 08 4a 00 ff 00", thin_lun(), both), "0f0090000a0a04000800000000000000");
  EXPECT_EQ(sensed("1a 08 7f ff ff 00", thin_lun()),
            concat({"6b001000", "010a00000000000000000000", kDisconnect, kCaching,
                    "0a0a04000800000000000000",
                    "4a01001c00000000000000000000000000000000000000000000000000000000",
                    "1c0a00000000000000000000"}));
  // Defaults, whatever is set now.
  EXPECT_EQ(sensed("1a 08 8a 00 ff 00", thin_lun(), both), concat({"0f009000", kControlPage}));
  EXPECT_EQ(sense_of("1a 08 ca 00 ff 00"), kSavingNotSupported);
  EXPECT_EQ(sense_of("1a 08 ff 00 ff 00"), kSavingNotSupported);
}

TEST(ModeSense, UnknownPages) {
  EXPECT_EQ(sense_of("1a 08 03 00 ff 00"), kInvalidFieldInCdb.at_cdb(2, 5));
  EXPECT_EQ(sense_of("1a 08 3e 00 ff 00"), kInvalidFieldInCdb.at_cdb(2, 5));
  EXPECT_EQ(sense_of("1a 08 0a 02 ff 00"), kInvalidFieldInCdb.at_cdb(3));
  EXPECT_EQ(sense_of("1a 08 08 01 ff 00"), kInvalidFieldInCdb.at_cdb(3));
}

// Page code 3Fh takes subpage codes 00h and FFh only, also where one page has that subpage.
TEST(ModeSense, AllPagesOfOneSubpageIsReserved) {
  EXPECT_EQ(sense_of("1a 08 3f 01 ff 00"), kInvalidFieldInCdb.at_cdb(3));
  EXPECT_EQ(sense_of("5a 08 3f fe 000000 00ff 00"), kInvalidFieldInCdb.at_cdb(3));
}

TEST(ModeSelect, ChangesWhatMayChange) {
  const auto both = select6("00000000 0a0a06100840000000000000");
  ASSERT_TRUE(both.has_value());
  EXPECT_EQ(*both, (ModeChanges{.descriptor_sense = true, .software_write_protect = true}));
  const auto one = select6("00000000 0a0a06100840000000000000",
                           ModeState{.descriptor_sense = true, .software_write_protect = false});
  ASSERT_TRUE(one.has_value());
  EXPECT_EQ(*one, (ModeChanges{.descriptor_sense = std::nullopt, .software_write_protect = true}));
  const auto off = select6("00000000 0a0a02100040000000000000",
                           ModeState{.descriptor_sense = true, .software_write_protect = true});
  ASSERT_TRUE(off.has_value());
  EXPECT_EQ(*off, (ModeChanges{.descriptor_sense = false, .software_write_protect = false}));
}

TEST(ModeSelect, WhatModeSenseToldIsAccepted) {
  for (const std::string_view sense :
       {"5a 00 3f ff 000000 00ff 00", "5a 10 3f ff 000000 00ff 00", "5a 08 3f ff 000000 00ff 00"}) {
    const auto result = select10(sensed(sense, thin_lun()));
    ASSERT_TRUE(result.has_value()) << sense;
    EXPECT_EQ(*result, ModeChanges{});
  }
  const auto six = select6(sensed("1a 00 3f 00 ff 00", thin_lun()));
  ASSERT_TRUE(six.has_value());
  EXPECT_EQ(*six, ModeChanges{});
}

TEST(ModeSelect, EmptyListsChangeNothing) {
  EXPECT_EQ(select6(""), ModeChanges{});
  EXPECT_EQ(select6("00000000"), ModeChanges{});
  EXPECT_EQ(select10("0000000000000000"), ModeChanges{});
}

TEST(ModeSelect, ValuesThatMayNotChangeAreRefusedWithTheirBit) {
  // WCE; a list that is right before it changes nothing either.
  EXPECT_EQ(select6("00000000 0812040000000000000000000000000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(6, 2));
  EXPECT_EQ(select6("00000000 0a0a06100040000000000000"
                    "0812040000000000000000000000000000000000")
                .error(),
            kInvalidFieldInParameterList.at_parameter(18, 2));
  // QERR=01b, TAS=0, TST=001b.
  EXPECT_EQ(select6("00000000 0a0a02120040000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(7, 1));
  EXPECT_EQ(select6("00000000 0a0a02100000000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(9, 6));
  EXPECT_EQ(select6("00000000 0a0a22100040000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(6, 5));
  EXPECT_EQ(select10(concat({"0000000000000000", "4a01001c01000000000000000000000000000000",
                             "000000000000000000000001"}))
                .error(),
            kInvalidFieldInParameterList.at_parameter(39, 0));
}

TEST(ModeSelect, UnknownPages) {
  EXPECT_EQ(select6("00000000 030a00000000000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(4, 5));
  EXPECT_EQ(select6("00000000 3f0a00000000000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(4, 5));
  EXPECT_EQ(select6("00000000 4a02001c").error(), kInvalidFieldInParameterList.at_parameter(4, 5));
  // The subpage format for a page that has none, and the other way round.
  EXPECT_EQ(select6("00000000 4a000008 0000000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(4, 5));
}

TEST(ModeSelect, LengthsAreNotTrusted) {
  EXPECT_EQ(select6("000000").error(), kParameterListLengthError);
  EXPECT_EQ(select10("00000000000000").error(), kParameterListLengthError);
  EXPECT_EQ(select6("00000000 0a").error(), kParameterListLengthError);
  EXPECT_EQ(select6("00000000 0a0a0610084000000000").error(), kParameterListLengthError);
  EXPECT_EQ(select6("00000000 4a0100").error(), kParameterListLengthError);
  EXPECT_EQ(select6("00000000 0a0c06100840000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(5));
  EXPECT_EQ(select6("00000000 0aff06100840000000000000").error(),
            kInvalidFieldInParameterList.at_parameter(5));
  EXPECT_EQ(select6("00000008 00100000").error(), kParameterListLengthError);
  EXPECT_EQ(select6("00000009 00100000 00000200 00").error(),
            kInvalidFieldInParameterList.at_parameter(3));
  EXPECT_EQ(select6("000000ff").error(), kInvalidFieldInParameterList.at_parameter(3));
  EXPECT_EQ(select10("000000000000ffff").error(), kInvalidFieldInParameterList.at_parameter(6));
  EXPECT_EQ(select10("0000000001000008"
                     "0000000000000000")
                .error(),
            kInvalidFieldInParameterList.at_parameter(6));
  EXPECT_EQ(select6(std::string(2 * (kMaxModeParameterBytes + 1), '0')).error(),
            kParameterListLengthError);
}

TEST(ModeSelect, BlockDescriptorsMayOnlyRepeat) {
  EXPECT_TRUE(select6("00000008 0010000000000200").has_value());
  EXPECT_TRUE(select6("00000008 0000000000000200").has_value());
  EXPECT_TRUE(select6("00000008 ffffffff00000200").has_value());
  EXPECT_EQ(select6("00000008 0010000100000200").error(),
            kInvalidFieldInParameterList.at_parameter(4));
  EXPECT_EQ(select6("00000008 0010000000001000").error(),
            kInvalidFieldInParameterList.at_parameter(9));
  EXPECT_TRUE(select10("0000000001000010 0000000000100000 00000000 00000200").has_value());
  EXPECT_EQ(select10("0000000001000010 0000000000000001 00000000 00000200").error(),
            kInvalidFieldInParameterList.at_parameter(8));
  EXPECT_EQ(select10("0000000001000010 0000000000100000 00000000 00000000").error(),
            kInvalidFieldInParameterList.at_parameter(20));
}

TEST(ModeSelect, MediumTypeIsZero) {
  EXPECT_EQ(select6("00010000").error(), kInvalidFieldInParameterList.at_parameter(1));
  EXPECT_EQ(select10("0000010000000000").error(), kInvalidFieldInParameterList.at_parameter(2));
}

std::vector<uint8_t> sensed10(std::string_view text, const LunDescription& lun) {
  std::vector<uint8_t> out(512);
  out.resize(mode_sense(decoded(text), lun, {}, out).value_or(0));
  return out;
}

TEST(ParseModeSense, OurOwnData) {
  LunDescription lun = thin_lun();
  for (const bool cache : {false, true}) {
    for (const bool read_only : {false, true}) {
      lun.write_cache = cache;
      lun.read_only = read_only;
      const ModeSenseData wanted{
          .write_protected = read_only, .dpo_fua = true, .write_cache = cache};
      // The page alone; all pages with block descriptors of both kinds; with subpages before.
      for (const std::string_view text :
           {"5a 08 08 00 000000 0200", "5a 00 3f 00 000000 0200", "5a 10 3f ff 000000 0200"}) {
        EXPECT_EQ(parse_mode_sense10(sensed10(text, lun)).value_or(ModeSenseData{}), wanted)
            << text;
      }
    }
  }
}

TEST(ParseModeSense, WithoutTheCachingPage) {
  const auto parsed = parse_mode_sense10(sensed10("5a 08 0a 00 000000 0200", thin_lun()));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->write_cache, std::nullopt);
}

TEST(ParseModeSense, SubpagesAndEmptyPagesAreNotTheCachingPage) {
  const auto cache = [](std::string_view pages) {
    const std::vector<uint8_t> body = from_hex(pages);
    std::vector<uint8_t> data = from_hex("0000 00 10 00 00 0000");
    data[1] = static_cast<uint8_t>(6 + body.size());
    data.insert(data.end(), body.begin(), body.end());
    return parse_mode_sense10(data)->write_cache;
  };
  EXPECT_EQ(cache("0801 04"), true);
  EXPECT_EQ(cache("0801 00"), false);
  EXPECT_EQ(cache("8801 04"), true) << "PS=1";
  EXPECT_EQ(cache("4801000104 0801 00"), false) << "48h is page 08h's subpage 01h";
  EXPECT_EQ(cache("0800 0401"), std::nullopt) << "an empty page; the next byte is no WCE";
  EXPECT_EQ(cache("0801"), std::nullopt);
}

TEST(ParseModeSense, LengthsThatLie) {
  std::vector<uint8_t> data = sensed10("5a 08 08 00 000000 0200", thin_lun());
  data[6] = 0xff;  // BLOCK DESCRIPTOR LENGTH
  EXPECT_EQ(parse_mode_sense10(data)->write_cache, std::nullopt);
  data[6] = 0;
  data[0] = 0xff;  // MODE DATA LENGTH
  EXPECT_EQ(parse_mode_sense10(data)->write_cache, false);
  data[0] = 0;
  data[1] = 6;
  EXPECT_EQ(parse_mode_sense10(data)->write_cache, std::nullopt);
}

// "No cache" would save a flush: never from half an answer.
TEST(ParseModeSense, Truncations) {
  LunDescription lun = thin_lun();
  lun.write_cache = true;
  for_each_truncation(sensed10("5a 00 3f ff 000000 0200", lun), [](Bytes part) {
    const auto cut = parse_mode_sense10(part);
    ASSERT_EQ(cut.has_value(), part.size() >= 8);
    if (!cut.has_value()) return;
    EXPECT_NE(cut->write_cache, false);
  });
}

TEST(ParseModeSense, Damage) {
  size_t told = 0;
  for_each_damage(sensed10("5a 10 3f ff 000000 0200", thin_lun()), [&](Bytes data) {
    const auto parsed = parse_mode_sense10(data);
    EXPECT_EQ(parsed.has_value(), data.size() >= 8);
    if (parsed.has_value() && parsed->write_cache.has_value()) ++told;
  });
  EXPECT_GT(told, 0U) << "nothing got past the header";
}

}  // namespace
}  // namespace holdfast::scsi
