#include "common/base/crc32c.h"

#include <gtest/gtest.h>

#include <vector>

namespace holdfast::base {
namespace {

// The examples of RFC 7143 appendix A.4 (bytes there are in wire order, least significant first).
TEST(Crc32c, MatchesRfc7143Examples) {
  EXPECT_EQ(crc32c(std::vector<uint8_t>(32, 0x00)), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::vector<uint8_t>(32, 0xff)), 0x62a8ab43u);
  std::vector<uint8_t> rising(32);
  for (size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(crc32c(rising), 0x46dd794eu);
}

TEST(Crc32c, PiecesGiveTheSameAsTheWhole) {
  std::vector<uint8_t> bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7);
  for (size_t cut = 0; cut <= bytes.size(); cut += 37) {
    Crc32c crc;
    crc.update(Bytes(bytes).first(cut));
    crc.update(Bytes(bytes).subspan(cut));
    EXPECT_EQ(crc.value(), crc32c(bytes));
  }
}

}  // namespace
}  // namespace holdfast::base
