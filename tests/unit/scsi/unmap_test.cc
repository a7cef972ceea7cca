#include "common/scsi/unmap.h"

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

struct Parsed {
  Outcome<size_t> count;
  std::vector<UnmapRange> ranges;
};

Parsed parse(std::string_view text, const LunDescription& lun = thin_lun()) {
  std::vector<UnmapRange> ranges(max_unmap_descriptors(lun));
  const auto count = parse_unmap(from_hex(text), lun, ranges);
  ranges.resize(count.value_or(0));
  return {count, ranges};
}

std::string descriptors(size_t count, std::string_view one) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += one;
  return out;
}

TEST(Unmap, TwoRanges) {
  const Parsed parsed = parse(
      "0026 0020 00000000 0000000000000010 00000008 00000000"
      "00000000000ffff0 00000010 00000000");
  EXPECT_EQ(parsed.count, 2U);
  EXPECT_EQ(parsed.ranges,
            (std::vector<UnmapRange>{{.lba = 0x10, .blocks = 8}, {.lba = 0xffff0, .blocks = 16}}));
}

TEST(Unmap, NothingToDo) {
  EXPECT_EQ(parse("").count, 0U);
  EXPECT_EQ(parse("0006 0000 00000000").count, 0U);
  // A descriptor of no blocks is dropped; its LBA is checked.
  EXPECT_EQ(parse("0016 0010 00000000 0000000000000010 00000000 00000000").count, 0U);
  EXPECT_EQ(parse("0016 0010 00000000 0000000000100001 00000000 00000000").count.error(),
            kLbaOutOfRange);
}

TEST(Unmap, AnIncompleteDescriptorIsIgnored) {
  const Parsed parsed =
      parse("001e 0018 00000000 0000000000000010 00000008 00000000 0000000000000020");
  EXPECT_EQ(parsed.count, 1U);
}

TEST(Unmap, LengthsAreNotTrusted) {
  for (size_t length = 1; length < 8; ++length) {
    EXPECT_EQ(parse(descriptors(length, "00")).count.error(), kParameterListLengthError);
  }
  // More descriptors told than there are.
  EXPECT_EQ(parse("0026 0020 00000000 0000000000000010 00000008 00000000").count.error(),
            kParameterListLengthError);
  EXPECT_EQ(parse("ffff fff0 00000000").count.error(), kParameterListLengthError);
  EXPECT_EQ(parse("0006 fff0 00000000").count.error(), kParameterListLengthError);
  EXPECT_EQ(parse("ffff 0000 00000000").count.error(), kParameterListLengthError);
  // UNMAP DATA LENGTH that does not hold its descriptors.
  EXPECT_EQ(parse("0006 0010 00000000 0000000000000010 00000008 00000000").count.error(),
            kInvalidFieldInParameterList.at_parameter(2));
}

TEST(Unmap, RangesBeyondTheEnd) {
  EXPECT_EQ(parse("0016 0010 00000000 00000000000fffff 00000002 00000000").count.error(),
            kLbaOutOfRange);
  EXPECT_EQ(parse("0016 0010 00000000 ffffffffffffffff 00000001 00000000").count.error(),
            kLbaOutOfRange);
  EXPECT_EQ(parse("0016 0010 00000000 0000000000000000 ffffffff 00000000").count.error(),
            kLbaOutOfRange);
  // All or nothing: the second one is wrong.
  EXPECT_EQ(parse("0026 0020 00000000 0000000000000010 00000008 00000000"
                  "0000000000100000 00000001 00000000")
                .count.error(),
            kLbaOutOfRange);
}

TEST(Unmap, BoundsOfVpdB0) {
  LunDescription lun = thin_lun();
  lun.max_unmap_descriptors = 2;
  lun.max_unmap_blocks = 16;
  const std::string_view one = "0000000000000010 00000008 00000000";
  EXPECT_EQ(parse("0026 0020 00000000" + descriptors(2, one), lun).count, 2U);
  EXPECT_EQ(parse("0036 0030 00000000" + descriptors(3, one), lun).count.error(),
            kInvalidFieldInParameterList.at_parameter(2));
  EXPECT_EQ(parse("0026 0020 00000000 0000000000000010 00000008 00000000"
                  "0000000000000010 00000009 00000000",
                  lun)
                .count.error(),
            kInvalidFieldInParameterList.at_parameter(32));
}

TEST(Unmap, TheMostDescriptorsFit) {
  const std::string_view one = "0000000000000010 00000001 00000000";
  EXPECT_EQ(parse("1006 1000 00000000" + descriptors(256, one)).count, 256U);
  EXPECT_EQ(parse("1016 1010 00000000" + descriptors(257, one)).count.error(),
            kInvalidFieldInParameterList.at_parameter(2));
}

}  // namespace
}  // namespace holdfast::scsi
