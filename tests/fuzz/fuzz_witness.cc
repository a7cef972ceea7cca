// Sectors of a witness. What decodes must encode to the same bytes: nothing is passed over. A
// search guesses no checksum, so one is made for the input unless it asks for none.
//
// Input: what kind of record; its node, copy or slot (bit 7: with the checksum as it is); the
// sector, filled up with zeroes.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "common/base/assert.h"
#include "common/base/crc32c.h"
#include "qdisk/layout.h"

using namespace holdfast::qdisk;  // NOLINT(google-build-using-namespace): a program of one file
namespace base = holdfast::base;

namespace {

constexpr Uuid kCluster = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                           0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
constexpr uint8_t kChecksumAsItIs = 0x80;
using SectorBytes = std::array<uint8_t, kRecordBytes>;

void seal(SectorBytes& sector, uint64_t offset, const Uuid& cluster) {
  const base::le32 slot(static_cast<uint32_t>(offset / kSlotBytes));
  std::memset(sector.data() + 8, 0, 4);
  std::memcpy(sector.data() + 12, &slot, 4);
  base::Crc32c sum;
  sum.update(cluster);
  sum.update(base::as_bytes(base::le64(offset)));
  sum.update(sector);
  const base::le32 crc(sum.value());
  std::memcpy(sector.data() + 8, &crc, 4);
}

template <class T, class Encode>
void check(const SectorBytes& in, const Decoded<T>& decoded, Encode encode_again) {
  ASSERT(decoded.valid() + decoded.corrupt() + decoded.empty() == 1);
  ASSERT(*to_string(decoded.fault) != '\0');
  if (!decoded.valid()) return;
  SectorBytes out;
  encode_again(*decoded.value, out);
  ASSERT(out == in);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto node = static_cast<NodeId>(data[1] % kMaxNodes);
  const unsigned copy = data[1] % kCopies;
  SectorBytes in{};
  std::memcpy(in.data(), data + 2, std::min(size - 2, in.size()));
  const auto prepare = [&](uint64_t offset, const Uuid& cluster) {
    if ((data[1] & kChecksumAsItIs) == 0) seal(in, offset, cluster);
  };
  switch (data[0] % 6) {
    case 0: {
      Uuid cluster;
      std::memcpy(cluster.data(), in.data() + 16, cluster.size());
      prepare(superblock_offset(copy), cluster);
      const auto decoded = decode_superblock(in, copy);
      check(in, decoded, [&](const auto& value, auto& out) { encode(value, copy, out); });
      (void)newest(decoded, decode_superblock(in, copy + 1));
      break;
    }
    case 1:
      prepare(heartbeat_offset(node, copy), kCluster);
      check(in, decode_heartbeat(in, kCluster, node, copy),
            [](const auto& value, auto& out) { encode(value, kCluster, out); });
      break;
    case 2:
      prepare(ballot_offset(node), kCluster);
      check(in, decode_ballot(in, kCluster, node),
            [&](const auto& value, auto& out) { encode(value, node, kCluster, out); });
      break;
    case 3:
      prepare(mail_offset(node), kCluster);
      check(in, decode_mail(in, kCluster, node),
            [](const auto& value, auto& out) { encode(value, kCluster, out); });
      break;
    case 4:
      prepare(decided_offset(node), kCluster);
      check(in, decode_decided(in, kCluster, node),
            [](const auto& value, auto& out) { encode(value, kCluster, out); });
      break;
    default:
      prepare(config_offset(copy), kCluster);
      check(in, decode_config(in, kCluster, copy),
            [&](const auto& value, auto& out) { encode(value, copy, kCluster, out); });
      break;
  }
  return 0;
}
