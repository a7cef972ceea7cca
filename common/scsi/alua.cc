#include "common/scsi/alua.h"

#include <array>
#include <utility>

#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

using Name = std::pair<AluaState, std::string_view>;
constexpr std::array<Name, 5> kNames{{
    {AluaState::active_optimized, "active/optimized"},
    {AluaState::active_non_optimized, "active/non-optimized"},
    {AluaState::standby, "standby"},
    {AluaState::unavailable, "unavailable"},
    {AluaState::transitioning, "transitioning"},
}};

constexpr unsigned kPreferred = 0x80;
// T_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP.
constexpr unsigned kSupportedStates = 0x80 | 0x08 | 0x04 | 0x02 | 0x01;
constexpr unsigned kExtendedFormat = 1 << 4;
constexpr unsigned kChangedImplicitly = 0x02;
constexpr size_t kMaxPortsPerGroup = 255;

void write_group(const TargetPortGroup& group, ResponseWriter& writer) {
  const size_t ports = std::min(group.relative_port_ids.size(), kMaxPortsPerGroup);
  writer.u8((group.preferred ? kPreferred : 0U) | static_cast<unsigned>(group.state));
  writer.u8(kSupportedStates);
  writer.u16(group.tag);
  writer.u8(0);
  writer.u8(group.changed_implicitly ? kChangedImplicitly : 0);
  writer.u8(0);
  writer.u8(static_cast<unsigned>(ports));
  for (const uint16_t port : std::span(group.relative_port_ids).first(ports)) {
    writer.u16(0);
    writer.u16(port);
  }
}

}  // namespace

std::string_view to_string(AluaState state) {
  for (const auto& [known, name] : kNames) {
    if (known == state) return name;
  }
  return "unknown";
}

std::optional<AluaState> parse_alua_state(std::string_view text) {
  for (const auto& [state, name] : kNames) {
    if (name == text) return state;
  }
  return std::nullopt;
}

size_t report_target_port_groups(const Command& command, std::span<const TargetPortGroup> groups,
                                 uint8_t transition_seconds, MutableBytes out) {
  ResponseWriter writer(out);
  writer.u32(0);
  if (command.extended_header) {
    writer.u8(kExtendedFormat);
    writer.u8(transition_seconds);
    writer.zeros(2);
  }
  for (const TargetPortGroup& group : groups) write_group(group, writer);
  writer.patch_u32(0, writer.size() - 4);
  return writer.size();
}

std::optional<Sense> check_alua(AluaState state, const CommandRow& row) {
  switch (state) {
    case AluaState::active_optimized:
    case AluaState::active_non_optimized:
      return std::nullopt;
    case AluaState::standby:
      if (row.has(kAllowedInStandby)) return std::nullopt;
      return kAluaStandby;
    case AluaState::unavailable:
      if (row.has(kAllowedInUnavailable)) return std::nullopt;
      return kAluaUnavailable;
    case AluaState::transitioning:
      if (row.has(kAllowedInUnavailable)) return std::nullopt;
      return kAluaTransition;
  }
  return kInternalTargetFailure;
}

}  // namespace holdfast::scsi
