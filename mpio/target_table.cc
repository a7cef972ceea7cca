#include "mpio/target_table.h"

#include <array>

namespace holdfast::mpio {
namespace {

constexpr std::array kTargets = {
    TargetRow{.vendor = "HOLDFAST",
              .product = "",
              .revision = "",
              .knowledge = {.drains_on_reinstatement = Known::yes,
                            .unit_reset_waits = Known::yes,
                            .preempt_drains = Known::yes},
              .tested = true,
              .note = "its own tests with slow disks show that it waits"},
    // Seen with writes that hang in tgt 1.0.85 (tests/system/tgt_test.py): they land after
    // reinstatement, and not after the reset that followed. PREEMPT AND ABORT is refused.
    TargetRow{
        .vendor = "IET",
        .product = "VIRTUAL-DISK",
        .revision = "",
        .knowledge = {.drains_on_reinstatement = Known::no,
                      .unit_reset_waits = Known::yes,
                      .preempt_drains = Known::no},
        .tested = true,
        .note = "tgt: reinstatement leaves writes running, LOGICAL UNIT RESET waits for them"},
    TargetRow{.vendor = "LIO-ORG",
              .product = "",
              .revision = "",
              .knowledge = {.drains_on_reinstatement = Known::yes},
              .tested = false,
              .note = "LIO: seems to drain by reading iscsit_stop_session(); not tested"},
};

constexpr std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
  return text;
}

void apply(Known& value, std::optional<bool> said) {
  if (said) value = *said ? Known::yes : Known::no;
}

}  // namespace

std::span<const TargetRow> target_table() { return kTargets; }

const TargetRow* find_target(std::string_view vendor, std::string_view product,
                             std::string_view revision) {
  for (const TargetRow& row : kTargets) {
    if (trimmed(vendor) == row.vendor && trimmed(product).starts_with(row.product) &&
        trimmed(revision).starts_with(row.revision)) {
      return &row;
    }
  }
  return nullptr;
}

TargetKnowledge target_knowledge(const TargetRow* row, const TargetOverride& administrator) {
  TargetKnowledge knowledge;
  if (row != nullptr && row->tested) knowledge = row->knowledge;
  apply(knowledge.drains_on_reinstatement, administrator.drains_on_reinstatement);
  apply(knowledge.unit_reset_waits, administrator.unit_reset_waits);
  apply(knowledge.preempt_drains, administrator.preempt_drains);
  return knowledge;
}

}  // namespace holdfast::mpio
