// Known records, byte for byte: the format cannot change unnoticed. Nodes of two versions read the
// same disk, so a change here needs a new version number (docs/qdisk-format.md, "Changing it").

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "qdisk/layout.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

// Rows of 16 bytes that are not all zero.
std::string dump(const SectorBytes& sector) {
  std::string out;
  for (size_t row = 0; row < sector.size(); row += 16) {
    std::string line;
    bool zero = true;
    for (size_t i = row; i < row + 16; ++i) {
      line += fmt::format(" {:02x}", sector[i]);
      zero = zero && sector[i] == 0;
    }
    if (!zero) out += fmt::format("{:04x} {}\n", row, line);
  }
  return out;
}

SectorBytes sector_of(auto encode_into) {
  SectorBytes sector;
  encode_into(sector);
  return sector;
}

TEST(LayoutGolden, Superblock) {
  EXPECT_EQ(dump(sector_of([](auto& out) { encode(sample_superblock(), 0, out); })),
            R"(0000  51 44 49 53 4b 01 53 01 30 32 e8 f5 00 00 00 00
0010  a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af
0020  b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 ba bb bc bd be bf
0030  01 00 00 00 00 00 00 00 00 02 00 00 40 00 00 00
0040  e8 03 00 00 10 27 00 00 d0 07 00 00 a0 0f 00 00
0050  98 3a 00 00 b8 0b 00 00 10 27 00 00 30 75 00 00
0060  e8 03 00 00 05 00 00 00 73 74 6f 72 65 00 00 00
)");
}

TEST(LayoutGolden, Heartbeat) {
  EXPECT_EQ(dump(sector_of([](auto& out) { encode(sample_heartbeat(), kSampleCluster, out); })),
            R"(0000  51 44 49 53 4b 01 48 01 61 c6 29 41 15 00 00 00
0010  02 02 01 80 07 00 00 00 67 12 00 00 00 00 00 00
0020  08 1a 99 be 1c 00 00 00 05 01 00 00 00 00 00 00
0030  07 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00
0040  07 00 00 00 00 00 00 00 07 00 00 00 02 cd ab 51
0050  08 07 00 00 03 00 00 00 05 01 00 00 00 00 00 00
0060  04 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00
)");
}

TEST(LayoutGolden, Ballot) {
  EXPECT_EQ(dump(sector_of([](auto& out) { encode(sample_ballot(), 2, kSampleCluster, out); })),
            R"(0000  51 44 49 53 4b 01 42 01 30 9b 18 d7 92 00 00 00
0010  02 00 00 00 07 00 00 00 05 01 00 00 00 02 01 00
0020  02 04 00 00 00 00 00 00 02 03 00 00 00 00 00 00
0030  05 01 00 00 00 02 01 00 07 00 00 00 00 00 00 00
0040  0c 00 00 00 00 00 00 00 40 41 42 43 44 45 46 47
0050  48 49 4a 4b 4c 4d 4e 4f 50 51 52 53 54 55 56 57
0060  58 59 5a 5b 5c 5d 5e 5f b0 b1 b2 b3 b4 b5 b6 b7
0070  b8 b9 ba bb bc bd be bf 03 00 00 00 02 ff ff ff
0080  ff ff ff ff ff ff ff ff ff ff ff 3f 09 00 00 00
00c0  00 00 00 00 00 00 00 00 08 07 06 05 05 00 00 00
00d0  00 00 00 00 07 00 00 00 00 00 00 00 00 00 00 00
01c0  00 00 00 00 00 00 00 00 04 03 02 01 00 00 00 00
)");
}

TEST(LayoutGolden, Mail) {
  EXPECT_EQ(dump(sector_of([](auto& out) { encode(sample_mail(), kSampleCluster, out); })),
            R"(0000  51 44 49 53 4b 01 4d 01 d5 d5 bb 0d d2 00 00 00
0010  02 02 00 00 07 00 00 00 03 00 00 00 00 00 00 00
0020  02 00 00 00 00 00 00 00 05 01 00 00 00 00 00 00
)");
}

TEST(LayoutGolden, Decided) {
  EXPECT_EQ(dump(sector_of([](auto& out) { encode(sample_decision(), kSampleCluster, out); })),
            R"(0000  51 44 49 53 4b 01 44 01 cc 60 31 99 15 01 00 00
0010  05 01 00 00 00 02 01 00 07 00 00 00 00 00 00 00
0020  0c 00 00 00 00 00 00 00 40 41 42 43 44 45 46 47
0030  48 49 4a 4b 4c 4d 4e 4f 50 51 52 53 54 55 56 57
0040  58 59 5a 5b 5c 5d 5e 5f b0 b1 b2 b3 b4 b5 b6 b7
0050  b8 b9 ba bb bc bd be bf 03 00 00 00 02 ff ff ff
0060  ff ff ff ff ff ff ff ff ff ff ff 3f 09 00 00 00
00a0  00 00 00 00 00 00 00 00 08 07 06 05 05 00 00 00
00b0  00 00 00 00 07 00 00 00 00 00 00 00 00 00 00 00
01a0  00 00 00 00 00 00 00 00 04 03 02 01 00 00 00 00
)");
}

TEST(LayoutGolden, Config) {
  EXPECT_EQ(dump(sector_of([](auto& out) { encode(sample_config(), 1, kSampleCluster, out); })),
            R"(0000  51 44 49 53 4b 01 43 01 bf 77 66 26 00 06 00 00
0010  0c 00 00 00 00 00 00 00 40 41 42 43 44 45 46 47
0020  48 49 4a 4b 4c 4d 4e 4f 50 51 52 53 54 55 56 57
0030  58 59 5a 5b 5c 5d 5e 5f d2 04 00 00 00 00 00 00
0040  60 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f
0050  70 71 72 73 74 75 76 77 78 79 7a 7b 7c 7d 7e 7f
)");
}

}  // namespace
}  // namespace holdfast::qdisk
