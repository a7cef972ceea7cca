#include "target/config_values.h"

#include <gtest/gtest.h>

#include "target/config_limits.h"

namespace holdfast::target {
namespace {

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

TEST(ConfigValues, PathsAreLookedAt) {
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

}  // namespace
}  // namespace holdfast::target
