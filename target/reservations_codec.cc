// The durable form of Reservations: a header, then the registrants in ascending order. Little
// endian. docs/target-state-format.md describes it byte by byte.

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/crc32c.h"
#include "target/reservations.h"

namespace holdfast::target {

using base::Bytes;
using base::Errc;
using base::fail;
using base::le16;
using base::le32;
using base::le64;
using base::Result;

namespace {

constexpr uint32_t kMagic = 0x52504648;  // "HFPR"
constexpr uint32_t kVersion = 1;
constexpr uint8_t kFlagAptpl = 1 << 0;
constexpr uint8_t kFlagHolds = 1 << 0;

struct Header {
  le32 magic{};
  le32 crc{};  // CRC32C of everything behind this field
  le32 version{};
  le32 length{};  // of everything, this header included
  le32 generation{};
  uint8_t type = 0;  // 0: no reservation
  uint8_t flags = 0;
  le16 registrants{};
};
static_assert(base::WireStruct<Header, 24>);
static_assert(offsetof(Header, version) == 8);
constexpr size_t kCheckedFrom = 8;

struct Entry {  // the two names follow, without terminators
  le64 key{};
  le64 isid{};
  le16 portal_group_tag{};
  uint8_t flags = 0;
  uint8_t initiator_name_bytes = 0;
  uint8_t target_name_bytes = 0;
  uint8_t reserved[3] = {};
};
static_assert(base::WireStruct<Entry, 24>);

constexpr size_t kMaxNameBytes = scsi::kMaxInitiatorNameBytes;
static_assert(kMaxNameBytes <= UINT8_MAX && kMaxRegistrants <= UINT16_MAX);
static_assert(kMaxEncodedReservationsBytes ==
              sizeof(Header) + kMaxRegistrants * (sizeof(Entry) + 2 * kMaxNameBytes));

void append(std::vector<uint8_t>& out, Bytes bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

bool valid_name_size(size_t size) { return size > 0 && size <= kMaxNameBytes; }

// Takes one registrant off the front of `in`.
Result<Registrant> decode_registrant(Bytes& in) {
  if (in.size() < sizeof(Entry)) return fail(Errc::corrupt, "reservations: registrant cut short");
  const auto entry = base::load<Entry>(in);
  in = in.subspan(sizeof(Entry));
  const size_t initiator = entry.initiator_name_bytes;
  const size_t target = entry.target_name_bytes;
  if (!valid_name_size(initiator) || !valid_name_size(target) || in.size() < initiator + target) {
    return fail(Errc::corrupt, "reservations: name length is wrong");
  }
  if (entry.key == 0 || entry.isid > scsi::kMaxIsid || (entry.flags & ~kFlagHolds) != 0 ||
      std::ranges::any_of(entry.reserved, [](uint8_t byte) { return byte != 0; })) {
    return fail(Errc::corrupt, "reservations: registrant field is wrong");
  }
  Registrant registrant{
      .nexus = {.initiator_name = std::string(base::as_text(in.first(initiator))),
                .isid = entry.isid,
                .target_name = std::string(base::as_text(in.subspan(initiator, target))),
                .portal_group_tag = entry.portal_group_tag},
      .key = entry.key,
      .holds = (entry.flags & kFlagHolds) != 0};
  in = in.subspan(initiator + target);
  return registrant;
}

Result<Header> decode_header(Bytes encoded) {
  if (encoded.size() < sizeof(Header) || encoded.size() > kMaxEncodedReservationsBytes) {
    return fail(Errc::corrupt, "reservations: size is wrong");
  }
  const auto header = base::load<Header>(encoded);
  if (header.magic != kMagic) return fail(Errc::corrupt, "reservations: magic is wrong");
  // Before the checksum: another version may compute it over something else.
  if (header.version != kVersion) {
    return fail(Errc::unsupported, "reservations: written by another version of this program");
  }
  if (header.crc != base::crc32c(encoded.subspan(kCheckedFrom))) {
    return fail(Errc::digest, "reservations: checksum is wrong");
  }
  if (header.length != encoded.size() || (header.flags & ~kFlagAptpl) != 0 ||
      header.registrants > kMaxRegistrants ||
      (header.type != 0 && !scsi::parse_pr_type(header.type))) {
    return fail(Errc::corrupt, "reservations: header field is wrong");
  }
  return header;
}

}  // namespace

std::vector<uint8_t> Reservations::encode() const {
  std::vector<uint8_t> out(sizeof(Header));
  for (const Registrant& r : registrants_) {
    const Entry entry{
        .key = r.key,
        .isid = r.nexus.isid,
        .portal_group_tag = r.nexus.portal_group_tag,
        .flags = r.holds ? kFlagHolds : uint8_t{0},
        .initiator_name_bytes = static_cast<uint8_t>(r.nexus.initiator_name.size()),
        .target_name_bytes = static_cast<uint8_t>(r.nexus.target_name.size()),
    };
    append(out, base::as_bytes(entry));
    append(out, base::as_bytes(std::string_view(r.nexus.initiator_name)));
    append(out, base::as_bytes(std::string_view(r.nexus.target_name)));
  }
  Header header{.magic = kMagic,
                .version = kVersion,
                .length = static_cast<uint32_t>(out.size()),
                .generation = generation_,
                .type = type_ ? static_cast<uint8_t>(*type_) : uint8_t{0},
                .flags = aptpl_ ? kFlagAptpl : uint8_t{0},
                .registrants = static_cast<uint16_t>(registrants_.size())};
  base::store(base::MutableBytes(out), header);
  header.crc = base::crc32c(Bytes(out).subspan(kCheckedFrom));
  base::store(base::MutableBytes(out), header);
  ASSERT(out.size() <= kMaxEncodedReservationsBytes);
  return out;
}

Result<Reservations> Reservations::decode(Bytes encoded) {
  TRY_ASSIGN(const Header header, decode_header(encoded));
  Reservations reservations;
  reservations.generation_ = header.generation;
  reservations.aptpl_ = (header.flags & kFlagAptpl) != 0;
  reservations.type_ = scsi::parse_pr_type(header.type);
  Bytes rest = encoded.subspan(sizeof(Header));
  for (size_t i = 0; i < header.registrants; ++i) {
    TRY_ASSIGN(Registrant registrant, decode_registrant(rest));
    reservations.registrants_.push_back(std::move(registrant));
  }
  if (!rest.empty()) return fail(Errc::corrupt, "reservations: bytes behind the last registrant");
  if (!reservations.consistent()) {
    return fail(Errc::corrupt, "reservations: holder or order of registrants is wrong");
  }
  return reservations;
}

}  // namespace holdfast::target
