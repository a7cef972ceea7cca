#include "common/iscsi/additional_headers.h"

#include "common/iscsi/bhs.h"

namespace holdfast::iscsi {
namespace {

// What AHSLength does not count: itself and the type. It does count the byte after the type.
constexpr size_t kUncounted = 3;
constexpr size_t kBidirectionalLength = 5;
// "CDBLength - 15", and a CDB that fits the PDU must not come in a segment (RFC 7143 11.2.2.3).
constexpr size_t kMinExtendedCdbLength = 2;
constexpr uint8_t kTypeMask = 0x3f;  // the upper bits are reserved

}  // namespace

std::optional<AdditionalHeaders> parse_additional_headers(base::Bytes segments) {
  AdditionalHeaders out;
  bool bidirectional = false;
  while (!segments.empty()) {
    if (segments.size() < sizeof(AhsHeader)) return std::nullopt;
    const auto header = base::load<AhsHeader>(segments);
    const size_t length = header.length;
    const size_t padded = base::round_up(length + kUncounted, 4);
    if (padded > segments.size()) return std::nullopt;
    switch (static_cast<AhsType>(header.type & kTypeMask)) {
      case AhsType::extended_cdb:
        if (out.extended_cdb || length < kMinExtendedCdbLength) return std::nullopt;
        out.extended_cdb = true;
        break;
      case AhsType::bidirectional_read_length:
        if (bidirectional || length != kBidirectionalLength) return std::nullopt;
        bidirectional = true;
        out.bidirectional_read_length = base::load<base::be32>(segments.subspan(sizeof(AhsHeader)));
        break;
      default:
        return std::nullopt;
    }
    segments = segments.subspan(padded);
  }
  return out;
}

}  // namespace holdfast::iscsi
