#include "qdisk/lease_users.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::qdisk {
namespace {

using base::Errc;

TEST(LeaseUsers, NobodyHasToBeWaitedFor) {
  const LeaseUsers users;
  EXPECT_FALSE(users.any());
  EXPECT_FALSE(users.anything_runs());
  EXPECT_FALSE(users.quiesced());
}

TEST(LeaseUsers, TheSlowestCounts) {
  LeaseUsers users;
  ASSERT_TRUE(users.attend("csvfsd", 7, false));
  EXPECT_EQ(users.quiesced(), 7U);
  ASSERT_TRUE(users.attend("clusterd", 0, false));
  EXPECT_EQ(users.quiesced(), 0U);
  ASSERT_TRUE(users.attend("clusterd", 8, false));
  EXPECT_EQ(users.quiesced(), 7U);
  ASSERT_TRUE(users.attend("csvfsd", 9, false));
  EXPECT_EQ(users.quiesced(), 8U);
  ASSERT_TRUE(users.attend("csvfsd", 3, false));  // said late: what is dropped stays so
  EXPECT_EQ(users.quiesced(), 8U);
}

TEST(LeaseUsers, WhoHasLeftIsNotWaitedFor) {
  LeaseUsers users;
  ASSERT_TRUE(users.attend("csvfsd", 7, false));
  ASSERT_TRUE(users.attend("clusterd", 2, true));
  EXPECT_TRUE(users.anything_runs());
  ASSERT_TRUE(users.attend("clusterd", 2));
  EXPECT_TRUE(users.anything_runs()) << "it says nothing of that";
  EXPECT_TRUE(users.leave("clusterd"));
  EXPECT_FALSE(users.leave("clusterd"));
  EXPECT_FALSE(users.leave(""));
  EXPECT_FALSE(users.anything_runs());
  EXPECT_EQ(users.quiesced(), 7U);
}

TEST(LeaseUsers, ThoseOfAnEarlierDaemonHaveSaidNothingYet) {
  LeaseUsers::Table table{};
  table[3] = {.name = "csvfsd", .quiesced = 0, .runs = true};
  const LeaseUsers users(table);
  EXPECT_TRUE(users.any());
  EXPECT_TRUE(users.anything_runs());
  EXPECT_EQ(users.quiesced(), 0U);
}

TEST(LeaseUsers, NamesAndTheirNumberAreBounded) {
  LeaseUsers users;
  for (const std::string name : {"", "Csv", "a b", "a/b", "\x80"}) {
    EXPECT_EQ(users.attend(name, 1, false).error().code, Errc::invalid_argument) << name;
  }
  EXPECT_EQ(users.attend(std::string(48, 'a'), 1, false).error().code, Errc::invalid_argument);
  ASSERT_TRUE(users.attend(std::string(47, 'a'), 1, false));
  for (int i = 1; i < 16; ++i) ASSERT_TRUE(users.attend("user" + std::to_string(i), 1, false));
  EXPECT_EQ(users.attend("one.more", 1, false).error().code, Errc::limit);
  EXPECT_TRUE(users.attend("user3", 2, false));
}

}  // namespace
}  // namespace holdfast::qdisk
