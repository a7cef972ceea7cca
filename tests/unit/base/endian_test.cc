#include "common/base/endian.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "common/base/bytes.h"

namespace holdfast::base {
namespace {

template <class Wire>
std::vector<uint8_t> bytes_of(const Wire& value) {
  const Bytes bytes = as_bytes(value);
  return {bytes.begin(), bytes.end()};
}

TEST(Endian, BytesLieInTheirOrder) {
  EXPECT_EQ(bytes_of(be16(0x0102)), (std::vector<uint8_t>{1, 2}));
  EXPECT_EQ(bytes_of(be24(0x010203)), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(bytes_of(be32(0x01020304)), (std::vector<uint8_t>{1, 2, 3, 4}));
  EXPECT_EQ(bytes_of(be48(0x010203040506)), (std::vector<uint8_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(bytes_of(be64(0x0102030405060708)), (std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(bytes_of(le16(0x0102)), (std::vector<uint8_t>{2, 1}));
  EXPECT_EQ(bytes_of(le32(0x01020304)), (std::vector<uint8_t>{4, 3, 2, 1}));
  EXPECT_EQ(bytes_of(le64(0x0102030405060708)), (std::vector<uint8_t>{8, 7, 6, 5, 4, 3, 2, 1}));
}

TEST(Endian, ValuesComeBack) {
  for (const uint64_t value : {0ull, 1ull, 0x80ull, 0xff00ull, 0xfedcba9876543210ull, ~0ull}) {
    EXPECT_EQ(be16(static_cast<uint16_t>(value)), static_cast<uint16_t>(value));
    EXPECT_EQ(be32(static_cast<uint32_t>(value)), static_cast<uint32_t>(value));
    EXPECT_EQ(be64(value), value);
    EXPECT_EQ(le64(value), value);
    EXPECT_EQ(be48(value), value & 0xffffffffffff);  // what does not fit is cut
    EXPECT_EQ(be24(static_cast<uint32_t>(value)), value & 0xffffff);
  }
}

struct Example {
  be16 a;
  be32 b;
};
static_assert(WireStruct<Example, 6>);
static_assert(!WireStruct<Example, 8>);
struct Padded {
  uint8_t a;
  uint32_t b;
};
static_assert(!WireStruct<Padded, sizeof(Padded)>);

TEST(Bytes, StructsAreCopiedAtAnyAlignment) {
  std::array<uint8_t, 16> bytes{};
  for (size_t at = 0; at < 8; ++at) {
    store(MutableBytes(bytes).subspan(at), Example{.a = 0x1234, .b = 0x56789abc});
    const auto back = load<Example>(Bytes(bytes).subspan(at));
    EXPECT_EQ(back.a, 0x1234);
    EXPECT_EQ(back.b, 0x56789abcu);
  }
  EXPECT_EQ(as_text(as_bytes(std::string_view("text"))), "text");
  EXPECT_EQ(round_up(0, 4), 0u);
  EXPECT_EQ(round_up(5, 4), 8u);
  EXPECT_EQ(round_up(8, 4), 8u);
}

using BytesDeathTest = ::testing::Test;

TEST_F(BytesDeathTest, TooFewBytesAreOurMistake) {
  const std::array<uint8_t, 5> bytes{};
  EXPECT_DEATH(load<Example>(bytes), "in.size\\(\\) >= sizeof\\(T\\)");
}

}  // namespace
}  // namespace holdfast::base
