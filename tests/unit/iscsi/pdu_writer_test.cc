#include "common/iscsi/pdu_writer.h"

#include <gtest/gtest.h>

#include <numeric>

namespace holdfast::iscsi {
namespace {

using Wire = std::vector<uint8_t>;

// RFC 7143 A.4 (RFC 3720 B.4): the CRC examples, as they stand on the wire.
TEST(PduWriter, DigestMatchesTheExamplesOfTheRfc) {
  const auto on_wire = [](const Wire& data) {
    const base::le32 digest = digest_of(data);
    const base::Bytes bytes = base::as_bytes(digest);
    return Wire(bytes.begin(), bytes.end());
  };
  EXPECT_EQ(on_wire(Wire(32, 0x00)), (Wire{0xaa, 0x36, 0x91, 0x8a}));
  EXPECT_EQ(on_wire(Wire(32, 0xff)), (Wire{0x43, 0xab, 0xa8, 0x62}));
  Wire counting(32);
  std::iota(counting.begin(), counting.end(), uint8_t{0});
  EXPECT_EQ(on_wire(counting), (Wire{0x4e, 0x79, 0xdd, 0x46}));
  const Wire read_command = {0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                             0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00,
                             0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00,
                             0x00, 0x18, 0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                             0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(on_wire(read_command), (Wire{0x56, 0x3a, 0x96, 0xd9}));
}

TEST(PduWriter, WritesHeaderWithLengthAndDigest) {
  NopInPdu pdu;
  pdu.itt = 7;
  std::array<uint8_t, kMaxWireHeaderBytes> out{};
  EXPECT_EQ(write_header(out, pdu, 0x010203, false), kBhsBytes);
  const Bhs bhs = base::load<Bhs>(out);
  EXPECT_EQ(bhs.opcode, 0x20);
  EXPECT_EQ(bhs.data_segment_length.get(), 0x010203u);
  EXPECT_EQ(bhs.itt.get(), 7u);
  EXPECT_EQ(write_header(out, pdu, 0, true), kBhsBytes + kDigestBytes);
  EXPECT_EQ(base::load<base::le32>(base::Bytes(out).subspan(kBhsBytes)).get(),
            digest_of(base::Bytes(out).first(kBhsBytes)).get());
}

TEST(PduWriter, TrailerIsZeroPaddingAndDigestOverBoth) {
  const Wire data = {1, 2, 3, 4, 5};
  EXPECT_EQ(data_trailer(data, false).bytes().size(), 3u);
  const DataTrailer trailer = data_trailer(data, true);
  ASSERT_EQ(trailer.bytes().size(), 7u);
  const Wire padded = {1, 2, 3, 4, 5, 0, 0, 0};
  EXPECT_EQ(base::load<base::le32>(trailer.bytes().subspan(3)).get(), digest_of(padded).get());
  EXPECT_EQ(trailer.bytes()[0], 0);
  // The same data in parts.
  const base::Bytes all = data;
  const base::Bytes parts[] = {all.first(2), all.subspan(2)};
  EXPECT_EQ(data_trailer(parts, true).storage, trailer.storage);
  // No data: no padding and no digest (RFC 7143 11.2.3).
  EXPECT_EQ(data_trailer(base::Bytes(), true).bytes().size(), 0u);
}

TEST(PduWriter, WireLength) {
  EXPECT_EQ(wire_length(0, {}), 48u);
  EXPECT_EQ(wire_length(0, {.header = true, .data = true}), 52u);
  EXPECT_EQ(wire_length(1, {.header = true, .data = true}), 48u + 4 + 4 + 4);
  EXPECT_EQ(wire_length(4, {.data = true}), 48u + 4 + 4);
}

}  // namespace
}  // namespace holdfast::iscsi
