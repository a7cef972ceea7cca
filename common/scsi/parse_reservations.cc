#include "common/scsi/parse_reservations.h"

#include "common/scsi/response_reader.h"

namespace holdfast::scsi {
namespace {

using base::Errc;
using base::fail;
using base::Result;

constexpr size_t kHeader = 8;             // PRGENERATION, ADDITIONAL LENGTH
constexpr size_t kFullStatusHeader = 24;  // of a descriptor, before the TransportID

uint64_t told_length(Bytes data) { return kHeader + uint64_t{ResponseReader(data).u32(4)}; }

Result<ResponseReader> open_answer(Bytes data) {
  if (data.size() < kHeader) {
    return fail(Errc::protocol, "PERSISTENT RESERVE IN: shorter than its header");
  }
  return ResponseReader(data, told_length(data));
}

FullStatusEntry read_entry(const ResponseReader& in, size_t at, Bytes transport_id) {
  FullStatusEntry entry{.key = in.u64(at),
                        .all_target_ports = in.bit(at + 12, 1),
                        .holder = in.bit(at + 12, 0),
                        .relative_target_port = in.u16(at + 18)};
  if (entry.holder) entry.type = parse_pr_type(in.bits(at + 13, 0, 4));
  if (auto parsed = parse_transport_id(transport_id)) entry.initiator = std::move(parsed->id);
  return entry;
}

}  // namespace

Result<ReportedKeys> parse_read_keys(Bytes data) {
  TRY_ASSIGN(const ResponseReader in, open_answer(data));
  ReportedKeys out{.generation = in.u32(0), .full_length = told_length(data)};
  // A length that is no number of keys leaves the last one in doubt.
  out.complete = out.full_length == in.size() && in.size() % sizeof(uint64_t) == 0;
  const size_t count = (in.size() - kHeader) / sizeof(uint64_t);
  out.keys.reserve(count);
  for (size_t i = 0; i < count; ++i) out.keys.push_back(in.u64(kHeader + i * sizeof(uint64_t)));
  return out;
}

Result<ReportedReservation> parse_read_reservation(Bytes data) {
  constexpr size_t kDescriptor = 16;
  TRY_ASSIGN(const ResponseReader in, open_answer(data));
  ReportedReservation out{.generation = in.u32(0)};
  if (told_length(data) == kHeader) return out;
  if (in.size() < kHeader + kDescriptor) {
    return fail(Errc::protocol, "READ RESERVATION: the descriptor is cut short");
  }
  const std::optional<PrType> type = parse_pr_type(in.bits(21, 0, 4));
  if (!type.has_value() || in.bits(21, 4, 4) != kPrScopeLogicalUnit) {
    return fail(Errc::unsupported, "READ RESERVATION: unknown scope or type");
  }
  out.held = HeldReservation{.type = *type, .key = in.u64(kHeader)};
  return out;
}

std::optional<bool> PrCapabilities::supports(PrType type) const {
  if (!type_mask.has_value()) return std::nullopt;
  // SPC-4 table 209: bits 1 to 7 of the first byte are types 1 to 7, bit 0 of the second is type 8.
  const auto code = static_cast<unsigned>(type);
  const unsigned bit = code < 8 ? 8 + code : code - 8;
  return (unsigned{*type_mask} >> bit & 1U) != 0;
}

Result<PrCapabilities> parse_report_capabilities(Bytes data) {
  constexpr size_t kLength = 8;
  if (data.size() < kLength) return fail(Errc::protocol, "REPORT CAPABILITIES: too short");
  const ResponseReader in(data, kLength);
  PrCapabilities out{.specify_ports = in.bit(2, 3),
                     .all_target_ports = in.bit(2, 2),
                     .persist_capable = in.bit(2, 0),
                     .persist_active = in.bit(3, 0)};
  if (in.bit(3, 7)) out.type_mask = in.u16(4);
  return out;
}

Result<ReportedFullStatus> parse_full_status(Bytes data) {
  TRY_ASSIGN(const ResponseReader in, open_answer(data));
  ReportedFullStatus out{.generation = in.u32(0), .full_length = told_length(data)};
  size_t at = kHeader;
  while (at + kFullStatusHeader <= in.size()) {
    const size_t id_bytes = in.u32(at + 20);
    if (id_bytes > in.size() - at - kFullStatusHeader) break;
    out.entries.push_back(read_entry(in, at, in.bytes(at + kFullStatusHeader, id_bytes)));
    at += kFullStatusHeader + id_bytes;
  }
  // Also not if a descriptor's own length leads beyond the answer.
  out.complete = out.full_length == at;
  return out;
}

}  // namespace holdfast::scsi
