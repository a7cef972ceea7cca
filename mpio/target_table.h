#pragma once
// What is known of targets, for the fence. Reading a target's sources is not a test, and a probe
// can only disprove that a target drains: "yes" stands here for what was seen to hold with a slow
// write.

#include <optional>
#include <span>
#include <string_view>

namespace holdfast::mpio {

enum class Known : unsigned char { no, yes, unknown };

struct TargetKnowledge {
  // A login that reinstates a session answers only when no write of the old one can land any more.
  Known drains_on_reinstatement = Known::unknown;
  // LOGICAL UNIT RESET answers only when the commands that it ended have left the backing.
  Known unit_reset_waits = Known::unknown;
  // PREEMPT AND ABORT does the same for the commands of the nexus whose key it removed.
  Known preempt_drains = Known::unknown;
  bool operator==(const TargetKnowledge&) const = default;
};

struct TargetRow {
  std::string_view vendor;    // of standard INQUIRY data, without the spaces at the end
  std::string_view product;   // a beginning of it
  std::string_view revision;  // a beginning of it; empty: any
  TargetKnowledge knowledge;
  bool tested;  // false: the row is for `explain` only and counts as unknown
  const char* note;
};

std::span<const TargetRow> target_table();
// Null: nothing is known.
const TargetRow* find_target(std::string_view vendor, std::string_view product,
                             std::string_view revision);

// What the administrator says for a device counts more than the table.
struct TargetOverride {
  std::optional<bool> drains_on_reinstatement{};
  std::optional<bool> unit_reset_waits{};
  std::optional<bool> preempt_drains{};
};
TargetKnowledge target_knowledge(const TargetRow* row, const TargetOverride& administrator);

}  // namespace holdfast::mpio
