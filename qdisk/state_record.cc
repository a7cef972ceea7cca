#include "qdisk/state_record.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/crc32c.h"

namespace holdfast::qdisk {

using base::Bytes;
using base::Errc;
using base::le16;
using base::le32;
using base::le64;

namespace {

constexpr std::array<uint8_t, 6> kMagic = {'H', 'F', 'N', 'O', 'D', 'E'};
constexpr uint16_t kVersion = 1;
constexpr uint8_t kFlagRemembers = 1 << 0;
constexpr uint8_t kFlagEnded = 1 << 1;

struct Head {
  std::array<uint8_t, 6> magic = kMagic;  // magic, version and crc are the same in all versions
  le16 version{};
  le32 crc{};  // of the whole file, with zeroes here
  le32 incarnation{};
  Uuid cluster{};
  Uuid boot{};
  uint8_t node = 0;
  uint8_t flags = 0;
  std::array<uint8_t, 6> reserved_1{};
  le64 fenced{};
  le64 blocks{};  // the set of nodes whose blocks follow, lowest first
  std::array<uint8_t, 440> reserved_2{};
};
static_assert(base::WireStruct<Head, kRecordBytes>);
static_assert(offsetof(Head, cluster) == 16 && offsetof(Head, node) == 48);
static_assert(offsetof(Head, fenced) == 56 && offsetof(Head, blocks) == 64);

uint32_t checksum(Bytes file) {
  constexpr size_t kCrcAt = offsetof(Head, crc);
  base::Crc32c sum;
  sum.update(file.first(kCrcAt));
  sum.update(base::as_bytes(le32(0)));
  sum.update(file.subspan(kCrcAt + sizeof(le32)));
  return sum.value();
}

bool all_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](uint8_t byte) { return byte == 0; });
}

// Damage comes first: a version is worth something only where the checksum holds.
base::Result<Head> check(Bytes in) {
  if (in.size() < sizeof(Head) || in.size() > kMaxStateBytes) {
    return base::fail(Errc::corrupt, "its size is wrong");
  }
  const Head head = base::load<Head>(in);
  if (head.magic != kMagic) return base::fail(Errc::corrupt, "it does not begin as such a file");
  if (head.crc != checksum(in)) return base::fail(Errc::corrupt, "its checksum is wrong");
  if (head.version > kVersion) return base::fail(Errc::unsupported, "it is of a later version");
  const auto blocks = static_cast<size_t>(NodeSet(head.blocks).count());
  if (in.size() != (2 + blocks) * kRecordBytes) {
    return base::fail(Errc::corrupt, "its size is wrong");
  }
  if (head.version == 0 || head.node >= kMaxNodes || head.incarnation == 0 ||
      (head.flags & ~(kFlagRemembers | kFlagEnded)) != 0 || !all_zero(head.reserved_1) ||
      !all_zero(head.reserved_2)) {
    return base::fail(Errc::corrupt, "its head has an impossible value");
  }
  return head;
}

}  // namespace

std::vector<uint8_t> encode_state(const StoredState& state) {
  const NodeRecord& record = state.record;
  ASSERT(state.node < kMaxNodes && record.incarnation != 0);
  NodeSet nodes;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (record.acceptor.blocks[node] != BallotBlock{}) nodes.add(node);
  }
  Head head{.version = kVersion,
            .incarnation = record.incarnation,
            .cluster = state.cluster,
            .boot = state.boot,
            .node = state.node,
            .fenced = record.fenced,
            .blocks = nodes.bits()};
  if (record.remembers) head.flags |= kFlagRemembers;
  if (record.ended) head.flags |= kFlagEnded;
  std::vector<uint8_t> out((2 + static_cast<size_t>(nodes.count())) * kRecordBytes);
  const auto sector = [&out](size_t index) {
    return MutableSector(out.data() + index * kRecordBytes, kRecordBytes);
  };
  // An empty decision is an empty sector: the cluster has not been created.
  if (record.acceptor.decided != Decision{}) {
    encode(record.acceptor.decided, state.cluster, sector(1));
  }
  size_t index = 2;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (!nodes.has(node)) continue;
    encode(record.acceptor.blocks[node], node, state.cluster, sector(index++));
  }
  base::store(out, head);
  head.crc = checksum(out);
  base::store(out, head);
  return out;
}

base::Result<StoredState> decode_state(Bytes in) {
  TRY_ASSIGN(const Head head, check(in));
  StoredState state{.node = head.node, .cluster = head.cluster, .boot = head.boot, .record = {}};
  NodeRecord& record = state.record;
  record.remembers = (head.flags & kFlagRemembers) != 0;
  record.ended = (head.flags & kFlagEnded) != 0;
  record.fenced = head.fenced;
  record.incarnation = head.incarnation;
  const auto sector = [in](size_t index) {
    return Sector(in.data() + index * kRecordBytes, kRecordBytes);
  };
  // The slot is that of the epoch which the record itself names.
  const Sector first = sector(1);
  for (size_t slot = 0; slot < kDecidedSlots && !all_zero(first); ++slot) {
    const auto decided = decode_decided(first, head.cluster, slot);
    if (!decided.valid()) continue;
    record.acceptor.decided = *decided.value;
    break;
  }
  if (!all_zero(first) && record.acceptor.decided.epoch == 0) {
    return base::fail(Errc::corrupt, "the decision in it is damaged");
  }
  size_t index = 2;
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (!NodeSet(head.blocks).has(node)) continue;
    const auto block = decode_ballot(sector(index++), head.cluster, node);
    if (!block.valid()) return base::fail(Errc::corrupt, "a ballot block in it is damaged");
    record.acceptor.blocks[node] = *block.value;
  }
  return state;
}

}  // namespace holdfast::qdisk
