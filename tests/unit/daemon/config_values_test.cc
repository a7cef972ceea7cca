#include "common/daemon/config_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/daemon/limits.h"

namespace holdfast::daemon {
namespace {

using testing::HasSubstr;

TEST(ConfigValues, IscsiNames) {
  for (const char* good :
       {"iqn.2026-11.org.holdfast:a-b.c:1", "iqn.2026-11.org.holdfast", "eui.02004567a425678d",
        "naa.52004567ba64678d", "naa.62004567ba64678d0123456789abcdef"}) {
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

TEST(ConfigValues, Names) {
  EXPECT_EQ(name_problem("disk", "csv-1_a.b"), std::nullopt);
  for (const char* bad : {"", ".x", "-x", "a b", "a/b"}) {
    EXPECT_NE(name_problem("disk", bad), std::nullopt) << bad;
  }
  EXPECT_THAT(*name_problem("device", "a/b"), HasSubstr("`a/b` is not a device name"));
  EXPECT_NE(name_problem("disk", std::string(kMaxName + 1, 'a')), std::nullopt);
}

TEST(ConfigValues, Paths) {
  EXPECT_EQ(path_problem("/var/lib/..x", 100), std::nullopt);
  EXPECT_EQ(path_problem("state", 100), "`state` must be an absolute path");
  EXPECT_EQ(path_problem("/run/" + std::string(200, 'x'), kMaxSocketPath),
            "the path is longer than 107 bytes");
  EXPECT_EQ(path_problem("/a/..", 100), "`/a/..` must not contain `..`");
  EXPECT_EQ(path_problem("/a\nb", 100), "the path has control characters");
}

TEST(ConfigValues, GuessesOnlyWhatIsNear) {
  const std::vector<std::string_view> names = {"size", "path", "portal_groups"};
  EXPECT_EQ(suggestion("sise", names), "did you mean `size`?");
  EXPECT_EQ(suggestion("portal_group", names), "did you mean `portal_groups`?");
  EXPECT_EQ(suggestion("wholly_other", names), "");
  EXPECT_EQ(suggestion(std::string(100'000, 'p'), names), "");
}

}  // namespace
}  // namespace holdfast::daemon
