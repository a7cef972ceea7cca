#include "common/scsi/alua.h"

#include <array>
#include <utility>

#include "common/scsi/response_reader.h"
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

using AccessName = std::pair<AccessState, std::string_view>;
constexpr std::array<AccessName, 7> kAccessNames{{
    {AccessState::active_optimized, "active/optimized"},
    {AccessState::active_non_optimized, "active/non-optimized"},
    {AccessState::standby, "standby"},
    {AccessState::unavailable, "unavailable"},
    {AccessState::lba_dependent, "lba-dependent"},
    {AccessState::offline, "offline"},
    {AccessState::transitioning, "transitioning"},
}};

constexpr size_t kLengthField = 4;
constexpr size_t kExtendedHeader = 8;
constexpr size_t kGroupHeader = 8;
constexpr size_t kPortDescriptor = 4;
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

AccessState access_state(uint8_t code) {
  for (const auto& [state, name] : kAccessNames) {
    if (static_cast<uint8_t>(state) == code) return state;
  }
  return AccessState::reserved;
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

std::string_view to_string(AccessState state) {
  for (const auto& [known, name] : kAccessNames) {
    if (known == state) return name;
  }
  return "reserved";
}

const ReportedPortGroup* ReportedPortGroups::find(uint16_t tag) const {
  const auto found = std::ranges::find(groups, tag, &ReportedPortGroup::tag);
  return found == groups.end() ? nullptr : &*found;
}

base::Result<ReportedPortGroups> parse_target_port_groups(Bytes data) {
  if (data.size() < kLengthField) {
    return base::fail(base::Errc::protocol, "REPORT TARGET PORT GROUPS: shorter than its header");
  }
  ReportedPortGroups out;
  out.full_length = kLengthField + uint64_t{base::load<base::be32>(data)};
  out.complete = out.full_length <= data.size();
  const ResponseReader in(data, out.full_length);
  size_t at = kLengthField;
  // In the short format this byte is that of the first group, whose bits 6-4 are reserved (SPC-4
  // 6.37).
  if (in.bits(kLengthField, 4, 3) == 1) {
    out.transition_seconds = in.u8(kLengthField + 1);
    at = kExtendedHeader;
  }
  while (at + kGroupHeader <= in.size()) {
    ReportedPortGroup group{.tag = in.u16(at + 2),
                            .state = access_state(in.bits(at, 0, 4)),
                            .preferred = in.bit(at, 7),
                            .status_code = in.u8(at + 5)};
    const size_t ports = in.u8(at + 7);
    at += kGroupHeader;
    const size_t whole = std::min(ports, (in.size() - at) / kPortDescriptor);
    for (size_t i = 0; i < whole; ++i) {
      group.relative_port_ids.push_back(in.u16(at + i * kPortDescriptor + 2));
    }
    // More ports than there is room for: what is left is no group either.
    if (whole < ports) out.complete = false;
    at += whole * kPortDescriptor;
    out.groups.push_back(std::move(group));
  }
  return out;
}

}  // namespace holdfast::scsi
