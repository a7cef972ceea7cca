#pragma once
// A vocabulary for reservation tests: nexuses with short names, one-line commands, outcomes and
// states as text.

#include <fmt/format.h>

#include <array>
#include <string>
#include <vector>

#include "target/reservations.h"

namespace holdfast::target {

using Action = scsi::ReserveOut;

inline constexpr uint16_t kTags[] = {1, 2};

// Initiator 'a'.. on the port of portal group 1 or 2; its short name is "a1".
inline NexusId nexus(char initiator, uint16_t tag = 1) {
  return {.initiator_name = std::string("iqn.2026-11.org.example:") + initiator,
          .isid = 0x400000370000 + static_cast<uint64_t>(initiator),
          .target_name = "iqn.2026-11.org.example:store",
          .portal_group_tag = tag};
}

inline std::string short_name(const NexusId& id) {
  return fmt::format("{}{}", id.initiator_name.back(), id.portal_group_tag);
}

struct Send {
  Action action{};
  uint64_t key = 0;
  uint64_t service_action_key = 0;
  uint8_t type = 0;
  uint8_t scope = 0;
  bool aptpl = false;
  bool all_target_ports = false;
};

inline PrOutcome send(Reservations& lu, const NexusId& from, const Send& command) {
  std::array<uint8_t, scsi::kPrOutParameterBytes> list;
  scsi::encode_pr_out_parameters({.key = command.key,
                                  .service_action_key = command.service_action_key,
                                  .all_target_ports = command.all_target_ports,
                                  .aptpl = command.aptpl},
                                 list);
  return lu.out(from, {.service_action = command.action,
                       .scope = command.scope,
                       .type = command.type,
                       .parameter_list = list,
                       .portal_group_tags = kTags});
}

// "GOOD", "CONFLICT" or "CHECK 05/26/00"; then " b1:2A04" for each unit attention, " abort:c1" for
// each nexus to abort, " persist".
inline std::string text(const PrOutcome& outcome) {
  std::string out = "GOOD";
  if (outcome.status == scsi::Status::reservation_conflict) out = "CONFLICT";
  if (outcome.status == scsi::Status::check_condition) {
    out = fmt::format("CHECK {:02X}/{:02X}/{:02X}", static_cast<unsigned>(outcome.sense.key),
                      outcome.sense.asc, outcome.sense.ascq);
  }
  for (const PrAttention& ua : outcome.attentions) {
    out += fmt::format(" {}:{:02X}{:02X}", short_name(ua.nexus), ua.sense.asc, ua.sense.ascq);
    if (ua.sense.key != scsi::SenseKey::unit_attention) out += "(not a unit attention)";
  }
  for (const NexusId& id : outcome.abort) out += " abort:" + short_name(id);
  if (outcome.must_persist) out += " persist";
  return out;
}

inline std::string type_name(std::optional<scsi::PrType> type) {
  if (!type) return "free";
  switch (*type) {
    case scsi::PrType::write_exclusive:
      return "WE";
    case scsi::PrType::exclusive_access:
      return "EA";
    case scsi::PrType::write_exclusive_registrants_only:
      return "WERO";
    case scsi::PrType::exclusive_access_registrants_only:
      return "EARO";
    case scsi::PrType::write_exclusive_all_registrants:
      return "WEAR";
    case scsi::PrType::exclusive_access_all_registrants:
      return "EAAR";
  }
  return "?";
}

// "gen 2 WERO a1=1* b1=2 aptpl": a star marks a holder.
inline std::string text(const Reservations& lu) {
  std::string out = fmt::format("gen {} {}", lu.generation(), type_name(lu.type()));
  for (const Registrant& r : lu.registrants()) {
    out += fmt::format(" {}={:x}{}", short_name(r.nexus), r.key, lu.is_holder(r) ? "*" : "");
  }
  if (lu.aptpl()) out += " aptpl";
  return out;
}

}  // namespace holdfast::target
