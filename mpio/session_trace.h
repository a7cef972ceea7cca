#pragma once
// Where a session of ours may have left a write that still lands: which nexus, and which unit.

#include <cstdint>
#include <optional>
#include <string>

namespace holdfast::mpio {

struct SessionTrace {
  // Of its login; none: the target named none (RFC 7143 13.9 wants it to), so no other login is
  // known to be to the same nexus.
  std::optional<uint16_t> portal_group;
  std::string unit;  // its identity, scsi::to_string()
  auto operator<=>(const SessionTrace&) const = default;
};

// One that an earlier process of this node left at a target, or an earlier device of this one.
struct LeftSession {
  std::string path;            // its name
  std::string initiator_name;  // which may have been another then
  std::string target;          // its name, which may be another of the same unit
  uint64_t isid = 0;
  SessionTrace trace;
  auto operator<=>(const LeftSession&) const = default;
};

}  // namespace holdfast::mpio
