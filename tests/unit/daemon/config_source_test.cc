#include "common/daemon/config_source.h"

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

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

}  // namespace
}  // namespace holdfast::daemon
