#include "common/scsi/alua.h"

#include <set>

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

std::string reported(std::string_view text, std::span<const TargetPortGroup> groups) {
  const Command command = decoded(text);
  return to_hex(build_checked(
      [&](MutableBytes out) { return report_target_port_groups(command, groups, 30, out); }));
}

TEST(Alua, ReportsGroupsInBothFormats) {
  const TargetPortGroup groups[] = {
      {.tag = 1, .preferred = true, .relative_port_ids = {1, 2}},
      {.tag = 0x102,
       .state = AluaState::standby,
       .changed_implicitly = true,
       .relative_port_ids = {3}},
  };
  EXPECT_EQ(reported("a3 0a", groups),
            "0000001c"
            "808f000100000002"
            "00000001"
            "00000002"
            "028f010200020001"
            "00000003");
  EXPECT_EQ(reported("a3 2a", groups),
            "00000020"
            "101e0000"
            "808f000100000002"
            "00000001"
            "00000002"
            "028f010200020001"
            "00000003");
}

TEST(Alua, ReportsEveryState) {
  TargetPortGroup group{.tag = 1};
  const std::pair<AluaState, std::string_view> table[] = {
      {AluaState::active_optimized, "00"}, {AluaState::active_non_optimized, "01"},
      {AluaState::standby, "02"},          {AluaState::unavailable, "03"},
      {AluaState::transitioning, "0f"},
  };
  for (const auto& [state, byte] : table) {
    group.state = state;
    EXPECT_EQ(reported("a3 0a", {&group, 1}).substr(8, 2), byte);
  }
}

TEST(Alua, TooManyPortsAreCutNotMiscounted) {
  TargetPortGroup group{.tag = 1};
  group.relative_port_ids.assign(300, 1);
  const std::string data = reported("a3 0a", {&group, 1});
  EXPECT_EQ(data.size(), 2 * (4 + 8 + 255 * 4U));
  EXPECT_EQ(data.substr(22, 2), "ff");
}

TEST(Alua, NoGroups) { EXPECT_EQ(reported("a3 0a", {}), "00000000"); }

TEST(Alua, NamesAreParsedBack) {
  for (const AluaState state :
       {AluaState::active_optimized, AluaState::active_non_optimized, AluaState::standby,
        AluaState::unavailable, AluaState::transitioning}) {
    EXPECT_EQ(parse_alua_state(to_string(state)), state);
  }
  EXPECT_EQ(parse_alua_state("offline"), std::nullopt);
  EXPECT_EQ(parse_alua_state(""), std::nullopt);
  EXPECT_EQ(to_string(static_cast<AluaState>(9)), "unknown");
}

std::set<Operation> served_in(AluaState state, const Sense& otherwise) {
  std::set<Operation> out;
  for (const CommandRow& row : command_table()) {
    const auto sense = check_alua(state, row);
    if (!sense.has_value()) {
      out.insert(row.operation);
    } else {
      EXPECT_EQ(*sense, otherwise) << row.name;
    }
  }
  return out;
}

TEST(Alua, ActiveStatesServeEverything) {
  for (const CommandRow& row : command_table()) {
    EXPECT_EQ(check_alua(AluaState::active_optimized, row), std::nullopt);
    EXPECT_EQ(check_alua(AluaState::active_non_optimized, row), std::nullopt);
  }
}

TEST(Alua, StandbyServesNoMediumAccess) {
  const std::set<Operation> expected = {
      Operation::request_sense,
      Operation::inquiry,
      Operation::mode_sense,
      Operation::mode_select,
      Operation::read_capacity_10,
      Operation::read_capacity_16,
      Operation::report_luns,
      Operation::report_supported_operation_codes,
      Operation::report_supported_task_management_functions,
      Operation::report_target_port_groups,
      Operation::persistent_reserve_in,
      Operation::persistent_reserve_out,
  };
  EXPECT_EQ(served_in(AluaState::standby, kAluaStandby), expected);
}

TEST(Alua, UnavailableAndTransitioningServeDiscovery) {
  const std::set<Operation> expected = {Operation::request_sense, Operation::inquiry,
                                        Operation::report_luns,
                                        Operation::report_target_port_groups};
  EXPECT_EQ(served_in(AluaState::unavailable, kAluaUnavailable), expected);
  EXPECT_EQ(served_in(AluaState::transitioning, kAluaTransition), expected);
}

}  // namespace
}  // namespace holdfast::scsi
