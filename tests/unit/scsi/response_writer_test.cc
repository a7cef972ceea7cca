#include "common/scsi/response_writer.h"

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

TEST(ResponseWriter, WritesBigEndianAndPads) {
  const auto data = build_checked([](MutableBytes out) {
    ResponseWriter writer(out);
    writer.u8(0x101);  // the low byte of it
    writer.u16(0x0203);
    writer.u24(0x040506);
    writer.u32(0x0708090a);
    writer.u64(0x0b0c0d0e0f101112);
    writer.text("ab", 4);
    writer.text("abcdef", 3);
    writer.zeros(2);
    return writer.size();
  });
  EXPECT_EQ(to_hex(data),
            "010203040506"
            "0708090a0b0c0d0e0f101112"
            "61622020"
            "616263"
            "0000");
}

TEST(ResponseWriter, PatchesWhatFits) {
  const auto data = build_checked([](MutableBytes out) {
    ResponseWriter writer(out);
    writer.zeros(8);
    writer.patch_u8(0, 0xaa);
    writer.patch_u16(1, 0x1234);
    writer.patch_u32(4, 0xdeadbeef);
    return writer.size();
  });
  EXPECT_EQ(to_hex(data), "aa123400deadbeef");
}

TEST(ResponseWriter, DoesNotPatchWhatWasNotWritten) {
  std::array<uint8_t, 4> buffer{9, 9, 9, 9};
  ResponseWriter writer(buffer);
  writer.u8(1);
  writer.patch_u8(2, 7);
  EXPECT_EQ(to_hex(buffer), "01090909");
}

}  // namespace
}  // namespace holdfast::scsi
