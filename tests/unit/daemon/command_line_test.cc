#include "common/daemon/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace holdfast::daemon {
namespace {

using testing::HasSubstr;

std::expected<CommandLine, CommandLineEnd> parse(const std::vector<const char*>& arguments) {
  return parse_command_line("holdfast-testd", "1.2.3", arguments);
}

void expect_file(const std::vector<const char*>& arguments, const std::string& file, bool check) {
  const auto made = parse(arguments);
  ASSERT_TRUE(made.has_value()) << made.error().text;
  EXPECT_EQ(made->config, file);
  EXPECT_EQ(made->check, check);
}

void expect_end(const std::vector<const char*>& arguments, int status, const std::string& text) {
  const auto made = parse(arguments);
  ASSERT_FALSE(made.has_value()) << text;
  EXPECT_EQ(made.error().status, status);
  EXPECT_THAT(made.error().text, HasSubstr(text));
}

TEST(CommandLine, TakesTheFileInBothForms) {
  expect_file({"--config", "/etc/t.toml"}, "/etc/t.toml", false);
  expect_file({"--check", "--config=/etc/t.toml"}, "/etc/t.toml", true);
}

TEST(CommandLine, AnswersHelpAndVersion) {
  expect_end({"--version"}, 0, "holdfast-testd 1.2.3\n");
  expect_end({"--help"}, 0, "usage: holdfast-testd --config FILE");
  expect_end({"-h", "--nonsense"}, 0, "SIGHUP");
}

TEST(CommandLine, SaysWhatIsWrong) {
  expect_end({"--config"}, 2, "--config needs a file\nusage: ");
  expect_end({"--config="}, 2, "--config needs a file");
  expect_end({"--config", "--check"}, 2, "--config needs a file");
  expect_end({"--check"}, 2, "--config FILE is missing");
  expect_end({}, 2, "--config FILE is missing");
  expect_end({"--conf", "x"}, 2, "unknown argument `--conf`");
}

}  // namespace
}  // namespace holdfast::daemon
