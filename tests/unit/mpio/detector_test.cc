#include "mpio/detector.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "mpio/limits.h"

namespace holdfast::mpio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The driver's part: looks when it was told to, and a world of 1 ms steps around it.
class DetectorTest : public testing::Test {
 protected:
  void run(io::Duration length) {
    const io::Instant end = now_ + length;
    while (now_ < end && !gives_up(look_.verdict)) {
      now_ += milliseconds(1);
      world_();
      if (now_ >= look_.next) look();
    }
  }
  void look() {
    look_ = detector_.look(now_, transport_);
    if (look_.verdict == PathVerdict::suspect && !suspected_) suspected_ = now_;
    if (look_.send_nop) {
      ++nops_;
      detector_.on_nop_sent();
    }
    tests_ += look_.send_test ? 1 : 0;
    if (look_.verdict != last_) ++changes_;
    last_ = look_.verdict;
  }
  // Network gone: what we send stays unacknowledged, and is sent again after 200, 600 ms ...
  void lose_network() {
    const io::Instant lost = now_;
    world_ = [this, lost] {
      const auto age = std::chrono::duration_cast<milliseconds>(now_ - lost).count();
      transport_ = {.valid = true,
                    .backoff = static_cast<uint8_t>(age > 600   ? 2
                                                    : age > 200 ? 1
                                                                : 0),
                    .unacked = 1,
                    .last_ack_received_ms = static_cast<uint32_t>(age)};
    };
  }
  io::Duration since(io::Instant then) const { return now_ - then; }

  io::Instant now_ = io::Instant{} + seconds(50);
  Detector detector_{kLan, now_};
  TransportSnapshot transport_{.valid = true};
  std::function<void()> world_ = [] {};
  Look look_{.next = now_};
  PathVerdict last_ = PathVerdict::ok;
  std::optional<io::Instant> suspected_;
  int nops_ = 0;
  int tests_ = 0;
  int changes_ = 0;
};

TEST_F(DetectorTest, SilentLossIsFoundInThreeQuartersOfASecond) {
  run(milliseconds(130));  // looks do not begin with the request
  const io::Instant began = now_;
  detector_.on_outstanding(1, now_);
  lose_network();
  run(seconds(3));
  EXPECT_EQ(look_.verdict, PathVerdict::net_dead);
  ASSERT_TRUE(suspected_);
  EXPECT_EQ(*suspected_ - began, kLan.suspect_after);
  EXPECT_EQ(since(began), kLan.suspect_after + kLan.nop_timeout);
  EXPECT_EQ(nops_, 1);
}

TEST_F(DetectorTest, WithSafeTimersItTakesTen) {
  detector_ = Detector(kSafe, now_);
  const io::Instant began = now_;
  detector_.on_outstanding(1, now_);
  lose_network();
  run(seconds(30));
  EXPECT_EQ(look_.verdict, PathVerdict::net_dead);
  EXPECT_EQ(since(began), seconds(10));
}

TEST_F(DetectorTest, AnIdlePathIsAskedEverySecondAndItsLossFound) {
  const io::Instant began = now_;
  world_ = [this] {
    if (nops_ > 0 && nops_ <= 3 && look_.send_nop) {
      detector_.on_nop_answered(now_);
      look_.send_nop = false;
    }
  };
  run(milliseconds(3500));
  EXPECT_EQ(nops_, 3);
  EXPECT_EQ(last_, PathVerdict::ok);
  EXPECT_EQ(changes_, 0);
  lose_network();
  run(seconds(5));
  EXPECT_EQ(look_.verdict, PathVerdict::net_dead);
  EXPECT_LT(since(began), milliseconds(3500) + kLan.idle_nop + milliseconds(650));
}

TEST_F(DetectorTest, AStalledTargetIsSuspectOnlyAndExpiresOnce) {
  const io::Instant began = now_;
  detector_.on_outstanding(8, now_);
  // Its kernel acknowledges all.
  transport_ = {.valid = true, .unacked = 0, .last_ack_received_ms = 200};
  run(seconds(4));
  EXPECT_EQ(look_.verdict, PathVerdict::target_stalled);
  run(seconds(4));
  EXPECT_EQ(look_.verdict, PathVerdict::target_stall_expired);
  EXPECT_EQ(since(began), kLan.suspect_after + kLan.target_stall);
  EXPECT_EQ(nops_, 1) << "immediate commands do not pile up at a stalled target";
}

TEST_F(DetectorTest, AStalledTargetThatWakesIsForgiven) {
  detector_.on_outstanding(8, now_);
  run(seconds(3));
  EXPECT_EQ(look_.verdict, PathVerdict::target_stalled);
  detector_.on_received(now_);
  detector_.on_nop_answered(now_);
  run(kSuspectLook);
  EXPECT_EQ(look_.verdict, PathVerdict::ok);
}

TEST_F(DetectorTest, AClosedWindowIsAStalledTargetNotADeadNetwork) {
  detector_.on_outstanding(8, now_);
  // The kernel's window probes back off as retransmissions do, but nothing is unacknowledged.
  transport_ = {.valid = true,
                .backoff = 4,
                .unacked = 0,
                .unsent_bytes = 100000,
                .last_ack_received_ms = 900};
  run(seconds(2));
  EXPECT_EQ(look_.verdict, PathVerdict::target_stalled);
}

TEST_F(DetectorTest, WithoutTransportInformationOnlyTheStallLimitDecides) {
  detector_.on_outstanding(1, now_);
  transport_ = {.valid = false, .backoff = 5, .unacked = 9, .last_ack_received_ms = 5000};
  run(seconds(2));
  EXPECT_EQ(look_.verdict, PathVerdict::target_stalled);
}

TEST_F(DetectorTest, NeitherSignAloneIsADeadNetwork) {
  detector_.on_outstanding(1, now_);
  transport_ = {.valid = true, .backoff = 1, .unacked = 1, .last_ack_received_ms = 600};
  run(seconds(2));
  EXPECT_EQ(look_.verdict, PathVerdict::target_stalled) << "one retransmission, ACKs until lately";
  transport_.backoff = kLan.dead_backoff;
  run(milliseconds(100));
  EXPECT_EQ(look_.verdict, PathVerdict::net_dead);
}

TEST_F(DetectorTest, DataThatFlowsIsProgressEvenIfTheNopWaits) {
  detector_.on_outstanding(4, now_);
  run(milliseconds(300));
  EXPECT_EQ(look_.verdict, PathVerdict::suspect);
  world_ = [this] { detector_.on_received(now_); };
  run(seconds(10));
  EXPECT_EQ(look_.verdict, PathVerdict::ok);
}

TEST_F(DetectorTest, ASlowCommandOnALivePathDoesNotFlapIt) {
  detector_.on_outstanding(1, now_);
  world_ = [this] {
    if (look_.send_nop) detector_.on_nop_answered(now_);  // after 1 ms
    look_.send_nop = false;
  };
  run(seconds(10));
  EXPECT_EQ(last_, PathVerdict::ok);
  EXPECT_EQ(changes_, 2) << "suspect once, then patient";
  EXPECT_GT(nops_, 30) << "but asked all along";
  EXPECT_EQ(tests_, 2) << "whose unit attention tells of a command that a reset has ended";
}

TEST_F(DetectorTest, PatienceDoesNotDelayTheVerdict) {
  detector_.on_outstanding(1, now_);
  world_ = [this] {
    if (look_.send_nop) detector_.on_nop_answered(now_);
    look_.send_nop = false;
  };
  run(seconds(2));
  const io::Instant began = now_;
  lose_network();
  run(seconds(3));
  EXPECT_EQ(look_.verdict, PathVerdict::net_dead);
  EXPECT_LE(since(began), milliseconds(750));
}

TEST_F(DetectorTest, AnAnsweredCommandEndsPatience) {
  detector_.on_outstanding(2, now_);
  run(milliseconds(260));
  detector_.on_nop_answered(now_);
  detector_.on_outstanding(1, now_);  // one of the two was answered
  suspected_.reset();
  const io::Instant began = now_;
  run(milliseconds(300));
  ASSERT_TRUE(suspected_);
  EXPECT_EQ(*suspected_ - began, kLan.suspect_after);
}

TEST_F(DetectorTest, CarrierLossIsGivenUpAfterItsGrace) {
  const io::Instant began = now_;
  detector_.on_link_down(now_);
  look();
  EXPECT_EQ(look_.verdict, PathVerdict::suspect);
  run(seconds(1));
  EXPECT_EQ(look_.verdict, PathVerdict::link_lost);
  EXPECT_EQ(since(began), kLan.link_grace);
}

TEST_F(DetectorTest, AShortCarrierLossIsForgiven) {
  detector_.on_outstanding(1, now_);
  run(milliseconds(200));
  detector_.on_link_down(now_);
  look();
  run(milliseconds(60));
  detector_.on_link_down(now_);  // told twice: the grace is not extended
  run(milliseconds(30));
  detector_.on_link_up(now_);
  look();
  EXPECT_EQ(look_.verdict, PathVerdict::ok) << "the silence meanwhile was the link's";
  EXPECT_EQ(detector_.stalls_of_ours(), 0u);
}

TEST_F(DetectorTest, OurOwnStallIsNotThePeersSilence) {
  detector_.on_outstanding(1, now_);
  run(milliseconds(10));
  now_ += seconds(4);  // the virtual machine was paused
  look();
  EXPECT_EQ(look_.verdict, PathVerdict::ok);
  EXPECT_EQ(detector_.stalls_of_ours(), 1u);
  const io::Instant began = now_;
  lose_network();
  run(seconds(3));
  EXPECT_EQ(look_.verdict, PathVerdict::net_dead) << "but a dead path is still found";
  EXPECT_EQ(since(began), milliseconds(750));
}

TEST_F(DetectorTest, AStallOfOursDuringTheNopGivesItItsTimeAgain) {
  detector_.on_outstanding(1, now_);
  lose_network();
  run(milliseconds(300));
  EXPECT_EQ(look_.verdict, PathVerdict::suspect);
  now_ += seconds(1);
  world_();
  look();
  EXPECT_EQ(look_.verdict, PathVerdict::ok);
  const io::Instant began = now_;
  run(seconds(3));
  EXPECT_EQ(look_.verdict, PathVerdict::net_dead);
  EXPECT_GE(since(began), kLan.nop_timeout);
}

TEST_F(DetectorTest, TheLoopCanSaySoItself) {
  detector_.on_outstanding(1, now_);
  run(milliseconds(240));
  detector_.on_loop_late(milliseconds(101), now_);
  run(milliseconds(200));
  EXPECT_EQ(look_.verdict, PathVerdict::ok);
  EXPECT_EQ(detector_.stalls_of_ours(), 1u);
  detector_.on_loop_late(kLoopLate, now_);
  EXPECT_EQ(detector_.stalls_of_ours(), 1u) << "a little late is usual";
}

TEST_F(DetectorTest, ANopThatTcpDoesNotTakeIsAskedForAgain) {
  detector_.on_outstanding(1, now_);
  look();
  now_ += kLan.suspect_after;
  EXPECT_TRUE(detector_.look(now_, transport_).send_nop);
  now_ += milliseconds(20);
  EXPECT_TRUE(detector_.look(now_, transport_).send_nop);
  detector_.on_nop_sent();
  EXPECT_FALSE(detector_.look(now_, transport_).send_nop);
}

TEST_F(DetectorTest, AnIdleUnitIsTestedAndABusyOneIsNot) {
  world_ = [this] {
    if (look_.send_nop) detector_.on_nop_answered(now_);
    look_.send_nop = false;
  };
  run(seconds(21));
  EXPECT_EQ(tests_, 4);
  tests_ = 0;
  world_ = [this] {
    detector_.on_received(now_);
    detector_.on_outstanding(2, now_);
    detector_.on_outstanding(1, now_);
  };
  run(seconds(20));
  EXPECT_EQ(tests_, 0);
}

TEST(Profiles, AreFoundByName) {
  EXPECT_EQ(find_profile("lan"), &kLan);
  EXPECT_EQ(find_profile("safe"), &kSafe);
  EXPECT_EQ(find_profile("wan"), nullptr);
}

}  // namespace
}  // namespace holdfast::mpio
