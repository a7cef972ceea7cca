#pragma once
// Wire formats of PERSISTENT RESERVE IN and OUT (SPC-4 6.15, 6.16) and the iSCSI TransportID
// (SPC-4 7.6.4.6). What they mean is target/reservations.h. Pure; no allocation but the parsed
// name.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/scsi/cdb.h"
#include "common/scsi/sense.h"

namespace holdfast::scsi {

enum class PrType : uint8_t {  // SPC-4 6.15, TYPE field
  write_exclusive = 1,
  exclusive_access = 3,
  write_exclusive_registrants_only = 5,
  exclusive_access_registrants_only = 6,
  write_exclusive_all_registrants = 7,
  exclusive_access_all_registrants = 8,
};

inline constexpr PrType kPrTypes[] = {
    PrType::write_exclusive,
    PrType::exclusive_access,
    PrType::write_exclusive_registrants_only,
    PrType::exclusive_access_registrants_only,
    PrType::write_exclusive_all_registrants,
    PrType::exclusive_access_all_registrants,
};
inline constexpr uint8_t kPrScopeLogicalUnit = 0;
inline constexpr size_t kPrOutParameterBytes = 24;
inline constexpr size_t kMaxInitiatorNameBytes = 223;  // RFC 7143 4.2.7.1
inline constexpr uint64_t kMaxIsid = 0xffff'ffff'ffff;

// Empty: a reserved type code, to be refused with 24/00 where the type counts.
std::optional<PrType> parse_pr_type(uint8_t code);
bool is_write_exclusive(PrType type);  // others may read
bool is_registrants_only(PrType type);
bool is_all_registrants(PrType type);
const char* to_string(PrType type);  // "Write Exclusive - Registrants Only"

struct PrOutParameters {
  uint64_t key = 0;
  uint64_t service_action_key = 0;
  bool all_target_ports = false;
  bool aptpl = false;
};
// `list` is the data that arrived: not 24 bytes is 05/1A/00. SPEC_I_PT is refused with 05/26/00, as
// REPORT CAPABILITIES says SIP_C=0. Obsolete and reserved fields are ignored (SPC-4 3.3).
Outcome<PrOutParameters> parse_pr_out_parameters(Bytes list);
// For initiators and tests.
void encode_pr_out_parameters(const PrOutParameters& parameters, MutableBytes out);

// An initiator port. Without an ISID: every port of that node (format 0).
struct TransportId {
  std::string initiator_name{};
  std::optional<uint64_t> isid{};
  bool operator==(const TransportId&) const = default;
};
struct ParsedTransportId {
  TransportId id{};
  size_t bytes = 0;  // consumed of the input
};
inline constexpr size_t kMaxTransportIdBytes =
    4 + base::round_up(kMaxInitiatorNameBytes + sizeof(",i,0x") - 1 + 12 + 1, 4);

size_t transport_id_bytes(std::string_view initiator_name, std::optional<uint64_t> isid);
// Writes transport_id_bytes() bytes. The name has 1-223 bytes, the ISID 48 bits: login checked
// that.
void encode_transport_id(std::string_view initiator_name, std::optional<uint64_t> isid,
                         MutableBytes out);
// Untrusted input; errors are of kind protocol.
base::Result<ParsedTransportId> parse_transport_id(Bytes in);

// What PERSISTENT RESERVE IN reports.
struct PrRegistration {
  uint64_t key = 0;
  bool holder = false;
  uint16_t relative_target_port = 0;
  std::string_view initiator_name{};
  uint64_t isid = 0;
};
struct PrReport {
  uint32_t generation = 0;
  std::optional<PrType> type{};  // of the reservation, if there is one
  bool aptpl = false;
  std::span<const PrRegistration> registrations{};
};
// Fills `out`, whose size is the allocation length (or the caller's own bound below it), and
// returns how many bytes of it were written: never more than the parameter data has. The length
// fields always state the whole (SPC-4 4.2, ALLOCATION LENGTH field).
size_t write_pr_in(ReserveIn action, const PrReport& report, MutableBytes out);

}  // namespace holdfast::scsi
