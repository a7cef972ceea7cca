#include "common/scsi/persistent_reservation.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/scsi/response_writer.h"

namespace holdfast::scsi {

using base::be16;
using base::be32;
using base::be64;
using base::Errc;
using base::fail;
using base::Result;

namespace {

struct PrOutList {  // SPC-4 6.16
  be64 key;
  be64 service_action_key;
  be32 obsolete_scope_address;
  uint8_t flags = 0;
  uint8_t reserved = 0;
  be16 obsolete;
};
static_assert(base::WireStruct<PrOutList, kPrOutParameterBytes>);
static_assert(offsetof(PrOutList, flags) == 20);
constexpr uint16_t kFlagsByte = 20;
constexpr uint8_t kSpecIPt = 1 << 3;
constexpr uint8_t kAllTgPt = 1 << 2;
constexpr uint8_t kAptpl = 1 << 0;

// SPC-4 7.6.4.6. FORMAT CODE is the two highest bits, PROTOCOL IDENTIFIER the four lowest.
constexpr uint8_t kProtocolIscsi = 0x05;
constexpr uint8_t kFormatNode = 0x00;
constexpr uint8_t kFormatPort = 0x40;
constexpr size_t kTransportIdHeaderBytes = 4;
constexpr size_t kMinTransportIdAdditionalBytes = 20;
constexpr std::string_view kIsidSeparator = ",i,0x";
constexpr size_t kIsidDigits = 12;

// REPORT CAPABILITIES (SPC-4 6.15).
constexpr uint16_t kCapabilitiesBytes = 8;
constexpr uint8_t kAtpC = 1 << 2;
constexpr uint8_t kPtplC = 1 << 0;
constexpr uint8_t kTmv = 1 << 7;
constexpr uint8_t kPtplA = 1 << 0;
// 011b: TEST UNIT READY passes every type, the commands of class ReservationAccess::read (MODE
// SENSE, REPORT SUPPORTED OPERATION CODES...) pass the write exclusive types.
constexpr uint8_t kAllowCommands = 3 << 4;
constexpr uint16_t kTypeMask = 0xea01;

constexpr size_t kReservationDescriptorBytes = 16;
constexpr size_t kFullStatusDescriptorBytes = 24;  // before the TransportID
constexpr uint8_t kRHolder = 1 << 0;

uint8_t scope_and_type(PrType type) {
  return static_cast<uint8_t>(kPrScopeLogicalUnit << 4 | static_cast<uint8_t>(type));
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// 1 to 12 digits: other targets do not all print leading zeroes.
std::optional<uint64_t> parse_isid(std::string_view digits) {
  if (digits.empty() || digits.size() > kIsidDigits) return std::nullopt;
  uint64_t isid = 0;
  for (const char c : digits) {
    const int value = hex_value(c);
    if (value < 0) return std::nullopt;
    isid = isid << 4 | static_cast<uint64_t>(value);
  }
  return isid;
}

bool valid_name(std::string_view name) {
  // No blanks and control characters: the name goes into logs and files (RFC 7143 4.2.7.1).
  return !name.empty() && name.size() <= kMaxInitiatorNameBytes && name.find(',') == name.npos &&
         std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) <= 0x20; });
}

void write_header(ResponseWriter& writer, uint32_t generation, size_t additional_length) {
  writer.u32(generation);
  writer.u32(static_cast<uint32_t>(additional_length));
}

void write_keys(ResponseWriter& writer, const PrReport& report) {
  write_header(writer, report.generation, report.registrations.size() * sizeof(be64));
  for (const PrRegistration& registration : report.registrations) writer.u64(registration.key);
}

void write_reservation(ResponseWriter& writer, const PrReport& report) {
  if (!report.type) return write_header(writer, report.generation, 0);
  // SPC-4 5.13, Reporting the persistent reservation: everybody holds an all registrants
  // reservation, so no key names the holder.
  uint64_t key = 0;
  if (!is_all_registrants(*report.type)) {
    const auto holder = std::ranges::find_if(report.registrations, &PrRegistration::holder);
    ASSERT(holder != report.registrations.end());
    key = holder->key;
  }
  write_header(writer, report.generation, kReservationDescriptorBytes);
  writer.u64(key);
  writer.zeros(5);
  writer.u8(scope_and_type(*report.type));
  writer.zeros(2);
}

void write_capabilities(ResponseWriter& writer, const PrReport& report) {
  writer.u16(kCapabilitiesBytes);
  writer.u8(kAtpC | kPtplC);
  writer.u8(static_cast<uint8_t>(kTmv | kAllowCommands | (report.aptpl ? kPtplA : 0)));
  writer.u16(kTypeMask);
  writer.zeros(2);
}

void write_full_status(ResponseWriter& writer, const PrReport& report) {
  size_t length = 0;
  for (const PrRegistration& registration : report.registrations) {
    length += kFullStatusDescriptorBytes +
              transport_id_bytes(registration.initiator_name, registration.isid);
  }
  write_header(writer, report.generation, length);
  for (const PrRegistration& registration : report.registrations) {
    uint8_t transport_id[kMaxTransportIdBytes];
    const size_t id_bytes = transport_id_bytes(registration.initiator_name, registration.isid);
    encode_transport_id(registration.initiator_name, registration.isid, {transport_id, id_bytes});
    writer.u64(registration.key);
    writer.zeros(4);
    // One descriptor per I_T nexus, so ALL_TG_PT stays 0 (SPC-4 6.15, READ FULL STATUS).
    writer.u8(registration.holder ? kRHolder : 0);
    writer.u8(registration.holder && report.type ? scope_and_type(*report.type) : 0);
    writer.zeros(4);
    writer.u16(registration.relative_target_port);
    writer.u32(static_cast<uint32_t>(id_bytes));
    writer.bytes({transport_id, id_bytes});
  }
}

}  // namespace

std::optional<PrType> parse_pr_type(uint8_t code) {
  for (const PrType type : kPrTypes) {
    if (code == static_cast<uint8_t>(type)) return type;
  }
  return std::nullopt;
}

bool is_write_exclusive(PrType type) {
  return type == PrType::write_exclusive || type == PrType::write_exclusive_registrants_only ||
         type == PrType::write_exclusive_all_registrants;
}

bool is_registrants_only(PrType type) {
  return type == PrType::write_exclusive_registrants_only ||
         type == PrType::exclusive_access_registrants_only;
}

bool is_all_registrants(PrType type) {
  return type == PrType::write_exclusive_all_registrants ||
         type == PrType::exclusive_access_all_registrants;
}

const char* to_string(PrType type) {
  switch (type) {
    case PrType::write_exclusive:
      return "Write Exclusive";
    case PrType::exclusive_access:
      return "Exclusive Access";
    case PrType::write_exclusive_registrants_only:
      return "Write Exclusive - Registrants Only";
    case PrType::exclusive_access_registrants_only:
      return "Exclusive Access - Registrants Only";
    case PrType::write_exclusive_all_registrants:
      return "Write Exclusive - All Registrants";
    case PrType::exclusive_access_all_registrants:
      return "Exclusive Access - All Registrants";
  }
  return "reserved type";
}

Outcome<PrOutParameters> parse_pr_out_parameters(Bytes list) {
  if (list.size() < kPrOutParameterBytes) return std::unexpected(kParameterListLengthError);
  const auto wire = base::load<PrOutList>(list);
  // Before the length: a list with SPEC_I_PT is rightly longer (SPC-4 6.16).
  if ((wire.flags & kSpecIPt) != 0) {
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(kFlagsByte, uint8_t{3}));
  }
  if (list.size() != kPrOutParameterBytes) return std::unexpected(kParameterListLengthError);
  return PrOutParameters{.key = wire.key,
                         .service_action_key = wire.service_action_key,
                         .all_target_ports = (wire.flags & kAllTgPt) != 0,
                         .aptpl = (wire.flags & kAptpl) != 0};
}

void encode_pr_out_parameters(const PrOutParameters& parameters, MutableBytes out) {
  PrOutList wire;
  wire.key = parameters.key;
  wire.service_action_key = parameters.service_action_key;
  wire.flags = static_cast<uint8_t>((parameters.all_target_ports ? kAllTgPt : 0) |
                                    (parameters.aptpl ? kAptpl : 0));
  base::store(out, wire);
}

size_t transport_id_bytes(std::string_view initiator_name, std::optional<uint64_t> isid) {
  const size_t text =
      initiator_name.size() + (isid ? kIsidSeparator.size() + kIsidDigits : 0) + 1;  // NUL
  return kTransportIdHeaderBytes +
         std::max(base::round_up(text, 4), kMinTransportIdAdditionalBytes);
}

void encode_transport_id(std::string_view initiator_name, std::optional<uint64_t> isid,
                         MutableBytes out) {
  ASSERT(!initiator_name.empty() && initiator_name.size() <= kMaxInitiatorNameBytes &&
         isid.value_or(0) <= kMaxIsid);
  const size_t size = transport_id_bytes(initiator_name, isid);
  ASSERT(out.size() >= size);
  ResponseWriter writer(out.first(size));
  writer.u8(static_cast<uint8_t>(kProtocolIscsi | (isid ? kFormatPort : kFormatNode)));
  writer.u8(0);
  writer.u16(static_cast<uint16_t>(size - kTransportIdHeaderBytes));
  writer.bytes(base::as_bytes(initiator_name));
  if (isid) {
    writer.bytes(base::as_bytes(kIsidSeparator));
    for (size_t digit = kIsidDigits; digit > 0; --digit) {
      writer.u8(static_cast<uint8_t>("0123456789abcdef"[*isid >> (4 * (digit - 1)) & 0xf]));
    }
  }
  writer.zeros(size - writer.size());
}

Result<ParsedTransportId> parse_transport_id(Bytes in) {
  if (in.size() < kTransportIdHeaderBytes) {
    return fail(Errc::protocol, "TransportID: shorter than its header");
  }
  const uint8_t format = in[0] & 0xc0;
  if ((in[0] & 0x0f) != kProtocolIscsi || (format != kFormatNode && format != kFormatPort)) {
    return fail(Errc::protocol, "TransportID: not an iSCSI one of format 0 or 1");
  }
  const size_t additional = base::load<be16>(in.subspan(2)).get();
  if (additional < kMinTransportIdAdditionalBytes || additional % 4 != 0 ||
      additional > in.size() - kTransportIdHeaderBytes) {
    return fail(Errc::protocol, "TransportID: ADDITIONAL LENGTH is wrong");
  }
  std::string_view text = base::as_text(in.subspan(kTransportIdHeaderBytes, additional));
  const size_t end = text.find('\0');
  if (end == text.npos) return fail(Errc::protocol, "TransportID: name without a terminator");
  text = text.substr(0, end);

  ParsedTransportId parsed{.id = {}, .bytes = kTransportIdHeaderBytes + additional};
  if (format == kFormatPort) {
    const size_t separator = text.find(kIsidSeparator);
    if (separator == text.npos) return fail(Errc::protocol, "TransportID: format 1 without ISID");
    parsed.id.isid = parse_isid(text.substr(separator + kIsidSeparator.size()));
    if (!parsed.id.isid) return fail(Errc::protocol, "TransportID: ISID is not 1-12 hex digits");
    text = text.substr(0, separator);
  }
  if (!valid_name(text)) return fail(Errc::protocol, "TransportID: not an iSCSI name");
  parsed.id.initiator_name = text;
  return parsed;
}

size_t write_pr_in(ReserveIn action, const PrReport& report, MutableBytes out) {
  ResponseWriter writer(out);
  switch (action) {
    case ReserveIn::read_keys:
      write_keys(writer, report);
      break;
    case ReserveIn::read_reservation:
      write_reservation(writer, report);
      break;
    case ReserveIn::report_capabilities:
      write_capabilities(writer, report);
      break;
    case ReserveIn::full_status:
      write_full_status(writer, report);
      break;
  }
  return std::min(writer.size(), out.size());
}

}  // namespace holdfast::scsi
