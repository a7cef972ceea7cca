#include "common/iscsi/target_address.h"

#include <gtest/gtest.h>

namespace holdfast::iscsi {
namespace {

using Kind = TargetAddress::Kind;

TEST(TargetAddress, ReadsEveryForm) {
  struct Case {
    std::string_view text;
    TargetAddress address;
    std::string_view again;
  };
  const Case table[] = {
      {"10.1.0.10:3260,1", {"10.1.0.10", 3260, 1, Kind::ipv4}, "10.1.0.10:3260"},
      {"10.1.0.10", {"10.1.0.10", 3260, {}, Kind::ipv4}, "10.1.0.10:3260"},
      {"10.1.0.10,65535", {"10.1.0.10", 3260, 65535, Kind::ipv4}, "10.1.0.10:3260"},
      {"10.1.0.10:1,0", {"10.1.0.10", 1, 0, Kind::ipv4}, "10.1.0.10:1"},
      {"[fd00::1]:860,2", {"fd00::1", 860, 2, Kind::ipv6}, "[fd00::1]:860"},
      {"[fd00::1]", {"fd00::1", 3260, {}, Kind::ipv6}, "[fd00::1]:3260"},
      {"[::ffff:10.0.0.1],3", {"::ffff:10.0.0.1", 3260, 3, Kind::ipv6}, "[::ffff:10.0.0.1]:3260"},
      {"store.example.org:65535,7",
       {"store.example.org", 65535, 7, Kind::name},
       "store.example.org:65535"},
      {"store_1", {"store_1", 3260, {}, Kind::name}, "store_1:3260"},
      {"10.1.0.256", {"10.1.0.256", 3260, {}, Kind::name}, "10.1.0.256:3260"},
  };
  for (const Case& each : table) {
    const auto address = TargetAddress::parse(each.text);
    ASSERT_TRUE(address.has_value()) << each.text << ": " << address.error().what;
    EXPECT_EQ(*address, each.address) << each.text;
    EXPECT_EQ(address->to_string(), each.again);
    EXPECT_EQ(address->numeric(), each.address.kind != Kind::name);
  }
}

TEST(TargetAddress, RefusesEverythingElse) {
  const std::string_view table[] = {
      "",
      ",1",
      ":3260",
      ":3260,1",
      "10.1.0.10:",
      "10.1.0.10:0",
      "10.1.0.10:65536",
      "10.1.0.10:3260,",
      "10.1.0.10:3260,65536",
      "10.1.0.10:3260,-1",
      "10.1.0.10:+1",
      "10.1.0.10:03260",
      "10.1.0.10:3260,01",
      "10.1.0.10:3260,1,1",
      "10.1.0.10:3260:1",
      "fd00::1",
      "fd00::1:3260",
      "[fd00::1",
      "[fd00::1]x",
      "[fd00::1]x:3260",
      "[]",
      "[]:1",
      "[10.0.0.1]",
      "[fd00::1]:",
      "[fd00::1]]",
      "[fe80::1%eth0]",
      "fd00::1]",
      "a/b",
      "../x:1",
      "a b",
      "a%b",
      "a\tb:1",
      "st\xc3\xb6re",
      "10.1.0.10:99999999999999999999",
      "@host",
      std::string_view("10.0.0.1\0.x", 11),
      std::string_view("[fd00::1\0]", 10),
  };
  for (const std::string_view text : table) {
    EXPECT_FALSE(TargetAddress::parse(text).has_value()) << text;
  }
  EXPECT_TRUE(TargetAddress::parse(std::string(253, 'a')).has_value());
  EXPECT_FALSE(TargetAddress::parse(std::string(254, 'a')).has_value());
}

}  // namespace
}  // namespace holdfast::iscsi
