#include "common/scsi/response_reader.h"

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

TEST(ResponseReader, ReadsWholeFieldsOnly) {
  const std::vector<uint8_t> data = from_hex("0102030405060708");
  const ResponseReader in(data);
  EXPECT_EQ(in.u8(7), 8);
  EXPECT_EQ(in.u8(8), 0);
  EXPECT_EQ(in.u16(6), 0x0708);
  EXPECT_EQ(in.u16(7), 0) << "half of it is not its value";
  EXPECT_EQ(in.u32(4), 0x05060708U);
  EXPECT_EQ(in.u32(5), 0U);
  EXPECT_EQ(in.u64(0), 0x0102030405060708U);
  EXPECT_EQ(in.u64(1), 0U);
  EXPECT_EQ(in.u64(SIZE_MAX), 0U);
  EXPECT_TRUE(in.bit(2, 0));
  EXPECT_FALSE(in.bit(2, 2));
  EXPECT_EQ(in.bits(6, 1, 2), 3);
}

TEST(ResponseReader, TheToldLengthOnlyShortens) {
  const std::vector<uint8_t> data = from_hex("0102030405060708");
  EXPECT_EQ(ResponseReader(data, 3).size(), 3U);
  EXPECT_EQ(ResponseReader(data, 3).u8(3), 0);
  EXPECT_EQ(ResponseReader(data, 8).size(), 8U);
  EXPECT_EQ(ResponseReader(data, UINT64_MAX).size(), 8U);
}

TEST(ResponseReader, BytesEndWithTheData) {
  const std::vector<uint8_t> data = from_hex("010203");
  const ResponseReader in(data);
  EXPECT_EQ(to_hex(in.bytes(1, 1)), "02");
  EXPECT_EQ(to_hex(in.bytes(1, SIZE_MAX)), "0203");
  EXPECT_TRUE(in.bytes(3, 1).empty());
  EXPECT_TRUE(in.bytes(SIZE_MAX, SIZE_MAX).empty());
}

std::string text_of(std::string_view field) {
  return ResponseReader(base::as_bytes(field)).text(0, field.size());
}

TEST(ResponseReader, TextIsTrimmedAndPrintable) {
  EXPECT_EQ(text_of("LIO-ORG "), "LIO-ORG");
  EXPECT_EQ(text_of("  two words  "), "two words");
  EXPECT_EQ(text_of(std::string_view("IET\0junk", 8)), "IET") << "a NUL ends it";
  EXPECT_EQ(text_of("a\x1b[31m\n\xff"), "a?[31m??") << "nothing for a terminal to obey";
  EXPECT_EQ(text_of("        "), "");
  EXPECT_EQ(text_of(std::string_view("\0\0\0\0", 4)), "");
  EXPECT_EQ(ResponseReader(base::as_bytes("VENDOR")).text(0, 8), "") << "it is cut";
}

}  // namespace
}  // namespace holdfast::scsi
