#include "target/config_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "target/config_limits.h"
#include "target/config_source.h"

namespace holdfast::target {
namespace {

using testing::HasSubstr;

TEST(ConfigValues, IscsiNames) {
  for (const char* good :
       {"iqn.2026-11.org.holdfast:a-b.c:1", "iqn.2026-11.org.holdfast", "iqn.2026-11.org.x:my_host",
        "eui.02004567a425678d", "naa.52004567ba64678d", "naa.62004567ba64678d0123456789abcdef"}) {
    EXPECT_EQ(iscsi_name_problem(good), std::nullopt) << good;
  }
  for (const char* bad :
       {"store", "iqn.", "iqn.2026-13.org.x:a", "iqn.2026-00.org.x:a", "iqn.26-11.org.x:a",
        "iqn.2026-11.", "iqn.2026-11.:a", "iqn.2026-11..org:a", "iqn.2026-11.org.:a",
        "eui.02004567a425678", "naa.52004567ba64678g", "*", ""}) {
    EXPECT_NE(iscsi_name_problem(bad), std::nullopt) << bad;
  }
  EXPECT_THAT(*iscsi_name_problem("iqn.2026-11.org.x:a/b"), HasSubstr("characters other than"));
  EXPECT_THAT(*iscsi_name_problem(std::string("iqn.2026-11.org.x:a\0b", 20)),
              HasSubstr("characters other than"));
  const std::string base = "iqn.2026-11.org.x:";
  EXPECT_EQ(iscsi_name_problem(base + std::string(223 - base.size(), 'a')), std::nullopt);
  EXPECT_EQ(iscsi_name_problem(base + std::string(224 - base.size(), 'a')),
            "the name is longer than 223 characters");
}

TEST(ConfigValues, ListsAreBounded) {
  std::string many;
  for (size_t i = 0; i <= kMaxDisks; ++i) {
    many += "[[disk]]\nname = \"d" + std::to_string(i) + "\"\nkind = \"memory\"\nsize = 512\n";
  }
  const auto parsed = parse_config(many, "t.toml");
  ASSERT_FALSE(parsed.has_value());
  ASSERT_EQ(parsed.error().size(), 1u);
  EXPECT_EQ(parsed.error()[0].to_string(), "t.toml:1: `disk` has 257 entries: at most 256");
}

TEST(ConfigValues, Paths) {
  EXPECT_EQ(path_problem("/var/lib/..x", 100), std::nullopt);
  EXPECT_EQ(path_problem("state", 100), "`state` must be an absolute path");
  EXPECT_EQ(path_problem("/run/" + std::string(200, 'x'), kMaxSocketPath),
            "the path is longer than 107 bytes");
  EXPECT_EQ(path_problem("/a/..", 100), "`/a/..` must not contain `..`");
  EXPECT_EQ(path_problem("/a\nb", 100), "the path has control characters");
  const auto parsed = parse_config("state_dir = \"state\"\ncontrol_socket = \"x\"\n", "t.toml");
  ASSERT_FALSE(parsed.has_value());
  ASSERT_EQ(parsed.error().size(), 2u);
  EXPECT_EQ(parsed.error()[1].to_string(),
            "t.toml:2: `control_socket`: `x` must be an absolute path");
}

TEST(ConfigValues, KindsHaveNames) {
  for (const auto kind : {io::BackingKind::file, io::BackingKind::block, io::BackingKind::memory}) {
    EXPECT_EQ(backing_kind_of(to_string(kind)), kind);
  }
  EXPECT_EQ(backing_kind_of("FILE"), std::nullopt);
  EXPECT_EQ(backing_kind_of(""), std::nullopt);
}

TEST(ConfigSource, FallsBackToWhatContainsThePlace) {
  ConfigSource source("t.toml");
  source.locate("disk[2]", 7);
  source.locate("disk[2].size", 9);
  EXPECT_EQ(source.line("disk[2].size"), 9u);
  EXPECT_EQ(source.line("disk[2].path"), 7u);
  EXPECT_EQ(source.line("disk[20]"), 0u);
  EXPECT_EQ(source.line("elsewhere"), 0u);
  source.report("disk[2].path", "first");
  source.report("disk[2].path", "follows from the first");
  source.report("threads", "whole file");
  const auto errors = source.take_errors();
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0].to_string(), "t.toml: whole file");
  EXPECT_EQ(errors[1].to_string(), "t.toml:7: first");
}

TEST(ConfigValues, GuessesOnlyWhatIsNear) {
  const std::vector<std::string_view> names = {"size", "path", "portal_groups"};
  EXPECT_EQ(suggestion("sise", names), "did you mean `size`?");
  EXPECT_EQ(suggestion("portal_group", names), "did you mean `portal_groups`?");
  EXPECT_EQ(suggestion("wholly_other", names), "");
  EXPECT_EQ(suggestion(std::string(100'000, 'p'), names), "");
}

}  // namespace
}  // namespace holdfast::target
