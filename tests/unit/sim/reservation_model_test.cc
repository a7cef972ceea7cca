#include "tests/sim/reservation_model.h"

#include <gtest/gtest.h>

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;
using enum scsi::ReserveOut;
using scsi::Status;

const PrNexus kA{"a", 1};
const PrNexus kB{"b", 2};

class ReservationModelTest : public ::testing::Test {
 protected:
  std::string out(const PrNexus& nexus, const PrCommand& command, Status status = Status::good) {
    model.begin(now, nexus, command);
    now += 1s;
    return model.end(now, status);
  }
  void both_registered() {
    EXPECT_EQ(out(kA, {.action = register_key, .service_action_key = 0xa, .aptpl = true}), "");
    EXPECT_EQ(out(kB, {.action = register_key, .service_action_key = 0xb, .aptpl = true}), "");
  }
  bool may(const PrNexus& nexus, bool write) {
    return model.answered(now, now, nexus, write, false).empty();
  }

  ReservationModel model;
  Duration now = 1s;
};

TEST_F(ReservationModelTest, WritersNeedRegistrationUnderRegistrantsOnly) {
  both_registered();
  EXPECT_EQ(out(kA, {.action = reserve, .type = 5, .key = 0xa}), "");
  now += 1s;
  EXPECT_TRUE(may(kA, true) && may(kB, true));
  EXPECT_FALSE(may({"c", 3}, true));
  EXPECT_TRUE(may({"c", 3}, false));
  EXPECT_NE(model.answered(now, now, kA, true, true), "");  // a conflict would be wrong
}

TEST_F(ReservationModelTest, WrongKeyIsAConflict) {
  both_registered();
  EXPECT_EQ(out(kA, {.action = reserve, .type = 1, .key = 0xb}, Status::reservation_conflict), "");
  EXPECT_NE(out(kA, {.action = reserve, .type = 1, .key = 0xb}, Status::good), "");
}

TEST_F(ReservationModelTest, PreemptAndAbortFences) {
  both_registered();
  out(kA, {.action = reserve, .type = 5, .key = 0xa});
  EXPECT_EQ(
      out(kB, {.action = preempt_and_abort, .type = 5, .key = 0xb, .service_action_key = 0xa}), "");
  EXPECT_TRUE(model.preempted().contains(kA));
  EXPECT_TRUE(model.surely_fenced(kA));
  EXPECT_FALSE(model.surely_fenced(kB));
  EXPECT_TRUE(model.likely().holds(kB));
}

TEST_F(ReservationModelTest, UnknownFateKeepsBothUntilAReportTells) {
  both_registered();
  const PrState before = model.likely();
  const PrCommand command{.action = reserve, .type = 3, .key = 0xa};
  model.begin(now, kA, command);
  now += 1s;
  model.end_unknown(true);
  EXPECT_TRUE(may(kB, true));
  EXPECT_EQ(model.answered(now, now, kB, true, true), "");
  EXPECT_EQ(model.reported(now, now + 1s, before), "");
  now += 2s;
  EXPECT_NE(model.answered(now, now, kB, true, true), "");
}

TEST_F(ReservationModelTest, UnsettledOneMayStillHappenAfterAReport) {
  both_registered();
  const PrState before = model.likely();
  model.begin(now, kA, {.action = reserve, .type = 3, .key = 0xa});
  now += 1s;
  model.end_unknown(false);
  EXPECT_EQ(model.reported(now, now + 1s, before), "");
  now += 2s;
  EXPECT_EQ(model.answered(now, now, kB, true, true), "");
}

TEST_F(ReservationModelTest, RestartKeepsOnlyWithAptpl) {
  both_registered();
  out(kA, {.action = reserve, .type = 1, .key = 0xa});
  model.restarted(now);
  EXPECT_EQ(model.likely().generation, 0u);
  EXPECT_TRUE(model.likely().holds(kA));
  out(kB, {.action = register_and_ignore, .service_action_key = 0xb, .aptpl = false});
  model.restarted(now);
  EXPECT_TRUE(model.likely().keys.empty());
  EXPECT_EQ(model.likely().type, 0);
}

TEST_F(ReservationModelTest, WrongReportIsFound) {
  both_registered();
  PrState wrong = model.likely();
  wrong.keys[kA] = 0xc;
  EXPECT_NE(model.reported(now, now + 1s, wrong), "");
}

TEST_F(ReservationModelTest, CommandUnderWayAllowsBothAnswers) {
  both_registered();
  model.begin(now, kA, {.action = reserve, .type = 1, .key = 0xa});
  EXPECT_EQ(model.answered(now, now + 1s, kB, true, true), "");
  EXPECT_EQ(model.answered(now, now + 1s, kB, true, false), "");
}

}  // namespace
}  // namespace holdfast::sim
