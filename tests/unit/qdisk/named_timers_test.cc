#include "qdisk/named_timers.h"

#include <gmock/gmock.h>

#include <set>

namespace holdfast::qdisk {
namespace {

using testing::HasSubstr;

TEST(CliTimers, EachIsSetByItsName) {
  std::set<std::string> names;
  Timers timers;
  for (const NamedTimer& each : named_timers()) {
    names.insert(each.name);
    EXPECT_EQ(set_timer(timers, std::string(each.name) + "=7ms"), std::nullopt);
    EXPECT_EQ(timers.*each.member, Milliseconds(7));
  }
  const Milliseconds seven(7);
  EXPECT_EQ(timers, (Timers{seven, seven, seven, seven, seven, seven, seven, seven, seven}));
  EXPECT_EQ(names.size(), 9U);
}

TEST(CliTimers, MistakesAreNamed) {
  Timers timers;
  EXPECT_THAT(*set_timer(timers, "lease"), HasSubstr("NAME=TIME"));
  EXPECT_THAT(*set_timer(timers, "leese=1s"), HasSubstr("did you mean `lease`?"));
  EXPECT_THAT(*set_timer(timers, "xyzxyz=1s"), HasSubstr("hb_net, net_dead"));
  EXPECT_THAT(*set_timer(timers, "lease=1"), HasSubstr("`lease=1`: unknown unit"));
  EXPECT_THAT(*set_timer(timers, "lease=-1s"), HasSubstr("whole number"));
  EXPECT_THAT(*set_timer(timers, "lease=61m"), HasSubstr("longer than an hour"));
  EXPECT_EQ(timers, Timers());
}

TEST(CliTimers, AreShownAsTheyAreWritten) {
  EXPECT_EQ(to_text(Milliseconds(15'000)), "15s");
  EXPECT_EQ(to_text(Milliseconds(8'100)), "8100ms");
}

}  // namespace
}  // namespace holdfast::qdisk
