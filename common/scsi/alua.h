#pragma once
// Asymmetric logical unit access (SPC-4 5.15): states, what they allow, and REPORT TARGET PORT
// GROUPS. Implicit only: the administrator changes states, initiators do not.

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/scsi/cdb.h"

namespace holdfast::scsi {

enum class AluaState : uint8_t {
  active_optimized = 0x0,
  active_non_optimized = 0x1,
  standby = 0x2,
  unavailable = 0x3,
  transitioning = 0xf,
};

// "active/optimized", ...; the words of the configuration, the CLI and the log.
std::string_view to_string(AluaState state);
std::optional<AluaState> parse_alua_state(std::string_view text);

struct TargetPortGroup {
  uint16_t tag = 1;
  AluaState state = AluaState::active_optimized;
  bool preferred = false;
  bool changed_implicitly = false;            // STATUS CODE 02h; false: 00h, never changed
  std::vector<uint16_t> relative_port_ids{};  // 255 at most
};

// The groups in the same order on every port: an initiator compares them (SPC-4 6.37). Both
// header formats; the extended one tells `transition_seconds`.
size_t report_target_port_groups(const Command& command, std::span<const TargetPortGroup> groups,
                                 uint8_t transition_seconds, MutableBytes out);

// 02/04/0B, 0C or 0A when the state of the port's group does not allow the command.
std::optional<Sense> check_alua(AluaState state, const CommandRow& row);

// The initiator's side. A superset of AluaState: what other targets may say (SPC-4 6.37).
enum class AccessState : uint8_t {
  active_optimized = 0x0,
  active_non_optimized = 0x1,
  standby = 0x2,
  unavailable = 0x3,
  lba_dependent = 0x4,
  offline = 0xe,
  transitioning = 0xf,
  reserved = 0xff,  // any code not listed: not to be used while a path in a known state is there
};
std::string_view to_string(AccessState state);

struct ReportedPortGroup {
  uint16_t tag = 0;
  AccessState state = AccessState::reserved;
  bool preferred = false;
  uint8_t status_code = 0;                    // 1: changed by a command, 2: implicitly
  std::vector<uint16_t> relative_port_ids{};  // relative target port identifiers
  bool operator==(const ReportedPortGroup&) const = default;
};
struct ReportedPortGroups {
  std::vector<ReportedPortGroup> groups{};
  uint8_t transition_seconds = 0;  // IMPLICIT TRANSITION TIME; 0: not told
  uint64_t full_length = 0;        // of the whole answer
  bool complete = false;           // false: groups or ports are missing
  // Null: not told. The first, should a target list one twice.
  const ReportedPortGroup* find(uint16_t tag) const;
};
// Whichever header came: a target may answer with the short one what asked for the extended one.
base::Result<ReportedPortGroups> parse_target_port_groups(Bytes data);

}  // namespace holdfast::scsi
