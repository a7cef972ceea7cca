#pragma once
// PERSISTENT RESERVE IN as an initiator reads it (SPC-4 6.15): the other half of write_pr_in().
// Whether this node was fenced is judged by these answers, so an answer of which something is
// missing says so (`complete`): a key that is not in an incomplete list may still be registered.

#include <optional>
#include <vector>

#include "common/base/result.h"
#include "common/scsi/persistent_reservation.h"

namespace holdfast::scsi {

struct ReportedKeys {
  uint32_t generation = 0;
  std::vector<uint64_t> keys{};  // one for each registered nexus: a key may appear several times
  uint64_t full_length = 0;      // of the whole answer
  bool complete = false;         // false: ask again with full_length
};
base::Result<ReportedKeys> parse_read_keys(Bytes data);

struct HeldReservation {
  PrType type{};
  uint64_t key = 0;  // 0 for the all registrants types
  bool operator==(const HeldReservation&) const = default;
};
struct ReportedReservation {
  uint32_t generation = 0;
  std::optional<HeldReservation> held{};  // empty: there is none
};
// Errc::protocol: cut short. Errc::unsupported: there is one, of a scope or type unknown here.
base::Result<ReportedReservation> parse_read_reservation(Bytes data);

struct PrCapabilities {
  bool specify_ports = false;           // SIP_C
  bool all_target_ports = false;        // ATP_C: ALL_TG_PT is understood
  bool persist_capable = false;         // PTPL_C: APTPL is understood
  bool persist_active = false;          // PTPL_A
  std::optional<uint16_t> type_mask{};  // empty: not told (TMV=0)
  // Empty: not told.
  std::optional<bool> supports(PrType type) const;
  bool operator==(const PrCapabilities&) const = default;
};
base::Result<PrCapabilities> parse_report_capabilities(Bytes data);

struct FullStatusEntry {
  uint64_t key = 0;
  bool all_target_ports = false;  // then relative_target_port says nothing
  bool holder = false;
  std::optional<PrType> type{};  // of the reservation, for its holder
  uint16_t relative_target_port = 0;
  std::optional<TransportId> initiator{};  // empty: not of iSCSI, or not readable
};
struct ReportedFullStatus {
  uint32_t generation = 0;
  std::vector<FullStatusEntry> entries{};
  uint64_t full_length = 0;
  bool complete = false;
};
base::Result<ReportedFullStatus> parse_full_status(Bytes data);

}  // namespace holdfast::scsi
