#include "common/scsi/alua.h"

#include <set>

#include "tests/unit/scsi/hex.h"
#include "tests/unit/scsi/hostile.h"

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

const std::vector<TargetPortGroup> kGroups = {
    {.tag = 1, .preferred = true, .relative_port_ids = {1, 2}},
    {.tag = 0x102,
     .state = AluaState::standby,
     .changed_implicitly = true,
     .relative_port_ids = {0x0304}},
    {.tag = 3, .state = AluaState::unavailable, .relative_port_ids = {}},
};

std::vector<uint8_t> groups_data(std::string_view text) {
  std::vector<uint8_t> out(4096);
  out.resize(report_target_port_groups(decoded(text), kGroups, 30, out));
  return out;
}

const std::vector<ReportedPortGroup> kReportedGroups = {
    {.tag = 1,
     .state = AccessState::active_optimized,
     .preferred = true,
     .relative_port_ids = {1, 2}},
    {.tag = 0x102, .state = AccessState::standby, .status_code = 2, .relative_port_ids = {0x0304}},
    {.tag = 3, .state = AccessState::unavailable},
};

TEST(ParseAlua, BothHeaders) {
  const auto plain = parse_target_port_groups(groups_data("a3 0a"));
  ASSERT_TRUE(plain.has_value());
  EXPECT_EQ(plain->groups, kReportedGroups);
  EXPECT_EQ(plain->transition_seconds, 0);
  EXPECT_TRUE(plain->complete);
  const auto extended = parse_target_port_groups(groups_data("a3 2a"));
  ASSERT_TRUE(extended.has_value());
  EXPECT_EQ(extended->groups, kReportedGroups);
  EXPECT_EQ(extended->transition_seconds, 30);
  EXPECT_TRUE(extended->complete);
}

TEST(ParseAlua, GroupsAreFoundByTag) {
  const auto parsed = parse_target_port_groups(groups_data("a3 2a"));
  ASSERT_TRUE(parsed.has_value());
  ASSERT_NE(parsed->find(0x102), nullptr);
  EXPECT_EQ(parsed->find(0x102)->state, AccessState::standby);
  EXPECT_EQ(parsed->find(0x103), nullptr);
}

TEST(ParseAlua, EveryStateCode) {
  const std::pair<unsigned, std::string_view> known[] = {
      {0x0, "active/optimized"}, {0x1, "active/non-optimized"}, {0x2, "standby"},
      {0x3, "unavailable"},      {0x4, "lba-dependent"},        {0xe, "offline"},
      {0xf, "transitioning"},
  };
  std::vector<uint8_t> data = from_hex("00000008 0000000100000000");
  for (unsigned code = 0; code < 16; ++code) {
    data[4] = static_cast<uint8_t>(code);
    const auto parsed = parse_target_port_groups(data);
    ASSERT_TRUE(parsed.has_value());
    ASSERT_EQ(parsed->groups.size(), 1U);
    std::string_view wanted = "reserved";
    for (const auto& [each, name] : known) {
      if (each == code) wanted = name;
    }
    EXPECT_EQ(to_string(parsed->groups[0].state), wanted) << code;
  }
}

TEST(ParseAlua, NoGroups) {
  const auto parsed = parse_target_port_groups(from_hex("00000000"));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->groups.empty());
  EXPECT_TRUE(parsed->complete);
}

TEST(ParseAlua, Truncations) {
  for (const std::string_view text : {"a3 0a", "a3 2a"}) {
    const std::vector<uint8_t> whole = groups_data(text);
    for_each_truncation(whole, [&](Bytes part) {
      const auto cut = parse_target_port_groups(part);
      ASSERT_EQ(cut.has_value(), part.size() >= 4);
      if (!cut.has_value()) return;
      EXPECT_FALSE(cut->complete);
      EXPECT_EQ(cut->full_length, whole.size());
      ASSERT_LE(cut->groups.size(), kReportedGroups.size());
      for (size_t i = 0; i < cut->groups.size(); ++i) {
        EXPECT_EQ(cut->groups[i].tag, kReportedGroups[i].tag);
        EXPECT_EQ(cut->groups[i].state, kReportedGroups[i].state);
      }
    });
  }
}

TEST(ParseAlua, CountsThatLie) {
  // 255 ports told, one there: what follows is not taken for a group.
  const auto ports = parse_target_port_groups(from_hex("0000000c 00000001000000ff 00000005"));
  ASSERT_TRUE(ports.has_value());
  ASSERT_EQ(ports->groups.size(), 1U);
  EXPECT_EQ(ports->groups[0].relative_port_ids, std::vector<uint16_t>{5});
  EXPECT_FALSE(ports->complete);
  const auto length = parse_target_port_groups(from_hex("ffffffff 0000000100000001 00000005"));
  ASSERT_TRUE(length.has_value());
  EXPECT_EQ(length->groups.size(), 1U);
  EXPECT_FALSE(length->complete);
  const auto behind =
      parse_target_port_groups(from_hex("00000008 0000000100000000 0000000200000000"));
  ASSERT_TRUE(behind.has_value());
  EXPECT_EQ(behind->groups.size(), 1U);
}

TEST(ParseAlua, Damage) {
  size_t groups = 0;
  for (const std::string_view text : {"a3 0a", "a3 2a"}) {
    for_each_damage(groups_data(text), [&](Bytes data) {
      const auto parsed = parse_target_port_groups(data);
      if (!parsed.has_value()) return;
      size_t bytes = 4;
      for (const ReportedPortGroup& group : parsed->groups) {
        bytes += 8 + 4 * group.relative_port_ids.size();
      }
      EXPECT_LE(bytes, data.size());
      groups += parsed->groups.size();
    });
  }
  EXPECT_GT(groups, 0U) << "nothing got past the header";
}

}  // namespace
}  // namespace holdfast::scsi
