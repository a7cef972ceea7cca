#include "common/daemon/control_message.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace holdfast::daemon {
namespace {

using nlohmann::json;

TEST(ControlMessage, OnlyWholeObjectsAreRead) {
  for (std::string_view text : {"", "\n", "{", "{}{}", "[]", "\"x\"", "{\"a\":}", "\xff"}) {
    EXPECT_FALSE(parse_line(text).has_value()) << text;
  }
  EXPECT_FALSE(parse_line(std::string(500'000, '[')).has_value());
  EXPECT_TRUE(parse_line("{}\n").has_value());
}

TEST(ControlMessage, MembersOfTheRightType) {
  const json value = json::parse(R"({"s":"x","n":5,"neg":-5,"list":["a",1,"b"]})");
  EXPECT_EQ(string_member(value, "s"), "x");
  EXPECT_EQ(string_member(value, "n"), std::nullopt);
  EXPECT_EQ(string_member(value, "none"), std::nullopt);
  EXPECT_EQ(number_member(value, "n"), 5u);
  EXPECT_EQ(number_member(value, "neg"), std::nullopt);
  EXPECT_EQ(strings_member(value, "list"), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(strings_member(value, "s").empty());
}

}  // namespace
}  // namespace holdfast::daemon
