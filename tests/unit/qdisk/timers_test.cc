#include "qdisk/timers.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Timers, TheProfilesFulfilTheConditions) {
  EXPECT_THAT(violations(timers_of(TimerProfile::standard)), IsEmpty());
  EXPECT_THAT(violations(timers_of(TimerProfile::lan_fast)), IsEmpty());
}

// 28 s * 1.001 + 1 s = 29.028 s; 29.057 s * 0.999 is the first that reaches it.
TEST(Timers, ATakeoverBeforeTheEvictedNodeHasStoppedIsRefused) {
  Timers timers;
  timers.takeover = Milliseconds(29'058);
  EXPECT_THAT(violations(timers), IsEmpty());
  timers.takeover = Milliseconds(29'056);
  EXPECT_THAT(violations(timers), ElementsAre(HasSubstr("takeover 29056ms is too short")));
}

TEST(Timers, ALeaseThatEndsDuringArbitrationIsRefused) {
  Timers timers;
  timers.lease = Milliseconds(14'000);
  EXPECT_THAT(violations(timers),
              ElementsAre(HasSubstr("more than net_dead + 2 hb_disk, 14000ms")));
  timers.lease = Milliseconds(14'001);
  EXPECT_THAT(violations(timers), IsEmpty());
}

TEST(Timers, OneLostHeartbeatIsNoLostNode) {
  Timers timers;
  timers.hb_net = Milliseconds(4'000);
  EXPECT_THAT(violations(timers), ElementsAre(HasSubstr("at least 3 hb_net, 12000ms")));
}

TEST(Timers, OneSlowInputOrOutputEndsNoLease) {
  Timers timers;
  timers.disk_io_to = Milliseconds(13'000);
  EXPECT_THAT(violations(timers),
              ElementsAre(HasSubstr("more than disk_io_to + hb_disk, 15000ms")));
}

TEST(Timers, NothingIsZeroOrLess) {
  Timers timers;
  timers.kill = Milliseconds(0);
  timers.margin = Milliseconds(-1);
  EXPECT_THAT(violations(timers),
              ElementsAre("kill must be more than 0", "margin must be more than 0"));
}

TEST(Timers, AWatchdogThatIsPettedWithoutALeaseIsRefused) {
  Timers timers = timers_of(TimerProfile::lan_fast);
  timers.watchdog = timers.kill;
  EXPECT_THAT(violations(timers), ElementsAre(HasSubstr("watchdog 1000ms must be more than kill")));
}

}  // namespace
}  // namespace holdfast::qdisk
