#include "mpio/marginal.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace holdfast::mpio {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class MarginalTest : public testing::Test {
 protected:
  struct Path {
    io::Duration latency = microseconds(300);
    int samples = 200;
    uint64_t retransmits_per_window = 0;
    uint64_t segments_per_window = 2000;
  };

  MarginalTest() : MarginalTest(3) {}
  explicit MarginalTest(size_t count)
      : paths_(count),
        inputs_(count, {.in_service = true}),
        totals_(count, Path{.segments_per_window = 0}) {}

  // One window of the paths as they are.
  MarginalVerdicts window() {
    for (size_t i = 0; i < paths_.size(); ++i) {
      if (!inputs_[i].in_service) continue;
      for (int n = 0; n < paths_[i].samples; ++n) {
        judge_.on_completed(i, SizeClass::small, paths_[i].latency);
      }
      totals_[i].retransmits_per_window += paths_[i].retransmits_per_window;
      totals_[i].segments_per_window += paths_[i].segments_per_window;
      judge_.on_transport(i, totals_[i].retransmits_per_window, totals_[i].segments_per_window);
    }
    now_ = judge_.next();
    return judge_.judge(inputs_, now_);
  }
  // How many windows until `path` changes; 0: not within `limit`.
  int windows_until(bool marginal, size_t path, int limit) {
    for (int i = 1; i <= limit; ++i) {
      window();
      if (judge_.is_marginal(path) == marginal) return i;
    }
    return 0;
  }

  io::Instant now_ = io::Instant{} + seconds(1000);
  MarginalJudge judge_{now_};
  std::vector<Path> paths_;
  std::vector<MarginalInput> inputs_;
  std::vector<Path> totals_;
};

TEST_F(MarginalTest, EqualPathsStayAndSoDoAllThatAreSlowTogether) {
  EXPECT_EQ(windows_until(true, 0, 20), 0);
  for (Path& path : paths_) path.latency = milliseconds(80);
  EXPECT_EQ(windows_until(true, 0, 20), 0) << "the target's fault, not a path's";
}

TEST_F(MarginalTest, ThreeBadWindowsOfFive) {
  paths_[1].latency = milliseconds(5);
  EXPECT_TRUE(window().went_marginal.none());
  EXPECT_TRUE(window().went_marginal.none());
  const MarginalVerdicts verdicts = window();
  EXPECT_TRUE(verdicts.went_marginal.test(1));
  EXPECT_EQ(verdicts.went_marginal.count(), 1u);
  EXPECT_NE(std::string(judge_.why(1)).find("latency"), std::string::npos);
}

TEST_F(MarginalTest, ThreeBadOnesWithinFiveAreEnoughAndTwoAreNot) {
  for (const bool bad : {true, false, false, false, true, false, false, false, true}) {
    paths_[1].latency = bad ? milliseconds(5) : microseconds(300);
    EXPECT_TRUE(window().went_marginal.none());
  }
  for (const bool bad : {true, false, true}) {
    paths_[1].latency = bad ? milliseconds(5) : microseconds(300);
    window();
  }
  EXPECT_TRUE(judge_.is_marginal(1));
}

TEST_F(MarginalTest, SmallDifferencesAreForThePolicy) {
  for (Path& path : paths_) path.latency = microseconds(50);
  paths_[1].latency = microseconds(400);  // eight times as much, and nobody would notice
  EXPECT_EQ(windows_until(true, 1, 20), 0);
}

TEST_F(MarginalTest, FewSamplesSayNothing) {
  paths_[1].latency = milliseconds(500);
  paths_[1].samples = static_cast<int>(kHealthSamples) - 1;
  EXPECT_EQ(windows_until(true, 1, 20), 0);
}

TEST_F(MarginalTest, OnlySiblingsOfOneGroupAreCompared) {
  paths_[1].latency = milliseconds(5);
  inputs_[1].group = 2;  // active/non-optimized: it is expected to be slower
  EXPECT_EQ(windows_until(true, 1, 20), 0);
}

TEST_F(MarginalTest, RetransmissionsCountUnlessAllHaveThem) {
  paths_[2].retransmits_per_window = 20;  // 1 %
  EXPECT_EQ(windows_until(true, 2, 5), 3);
  for (Path& path : paths_) path.retransmits_per_window = 20;
  EXPECT_EQ(windows_until(true, 0, 20), 0);
}

TEST_F(MarginalTest, ATotalThatFallsIsANewSession) {
  paths_[2].retransmits_per_window = 5;  // under the limit
  for (int i = 0; i < 4; ++i) window();
  totals_[2] = {.retransmits_per_window = 0, .segments_per_window = 0};
  EXPECT_EQ(windows_until(true, 2, 10), 0);
}

TEST_F(MarginalTest, ThreeFailuresInTenMinutes) {
  for (int i = 0; i < 2; ++i) judge_.on_failed(0, now_ + minutes(i));
  EXPECT_FALSE(window().went_marginal.test(0));
  judge_.on_failed(0, now_ + minutes(2));
  inputs_[0].in_service = false;  // while it is away: it comes back marginal
  EXPECT_TRUE(window().went_marginal.test(0));
  EXPECT_NE(std::string(judge_.why(0)).find("failed"), std::string::npos);
}

TEST_F(MarginalTest, ThreeFailuresInAnHourAreNone) {
  for (int i = 0; i < 3; ++i) {
    judge_.on_failed(0, now_);
    now_ += minutes(6);
    judge_.judge(inputs_, now_);
  }
  EXPECT_FALSE(judge_.is_marginal(0));
}

TEST_F(MarginalTest, NeverTheLastPath) {
  inputs_[1].in_service = false;
  inputs_[2].in_service = false;
  for (int i = 0; i < 5; ++i) judge_.on_failed(0, now_);
  EXPECT_TRUE(window().went_marginal.none());
  inputs_[1].in_service = true;
  EXPECT_TRUE(window().went_marginal.test(0)) << "now there is another";
}

TEST_F(MarginalTest, NeverAllAtOnce) {
  for (size_t path = 0; path < 3; ++path) {
    for (int i = 0; i < 3; ++i) judge_.on_failed(path, now_);
  }
  EXPECT_EQ(window().went_marginal.count(), 2u);
}

class MarginalTestOfFour : public MarginalTest {
 protected:
  MarginalTestOfFour() : MarginalTest(4) {}
};

TEST_F(MarginalTestOfFour, AMarginalPathIsNoMeasure) {
  paths_[1].latency = milliseconds(5);
  paths_[2].latency = milliseconds(5);
  ASSERT_EQ(windows_until(true, 1, 5), 3);
  ASSERT_TRUE(judge_.is_marginal(2));
  paths_[3].latency = milliseconds(5);  // two of its three siblings are as slow, but marginal
  EXPECT_EQ(windows_until(true, 3, 5), 3);
  EXPECT_FALSE(judge_.is_marginal(0));
}

TEST_F(MarginalTest, LeavesAfterAMinuteOfGoodProbes) {
  paths_[1].latency = milliseconds(5);
  windows_until(true, 1, 5);
  const io::Instant began = now_;
  paths_[1] = {.samples = 20};  // 10 Hz
  ASSERT_GT(windows_until(false, 1, 100), 0);
  EXPECT_EQ(now_ - began, io::Duration(kFirstQuarantine));
}

TEST_F(MarginalTest, WithoutProbesALatencyIsNotForgiven) {
  paths_[1].latency = milliseconds(5);
  windows_until(true, 1, 5);
  paths_[1].samples = 0;
  paths_[1].segments_per_window = 0;
  EXPECT_EQ(windows_until(false, 1, 100), 0);
}

TEST_F(MarginalTest, ABadWindowBeginsTheMinuteAnew) {
  paths_[1].latency = milliseconds(5);
  windows_until(true, 1, 5);
  paths_[1] = {.samples = 20};
  for (int i = 0; i < 20; ++i) window();
  paths_[1].latency = milliseconds(5);
  window();
  const io::Instant bad = now_;
  paths_[1] = {.samples = 20};
  ASSERT_GT(windows_until(false, 1, 100), 0);
  EXPECT_EQ(now_ - bad, io::Duration(kFirstQuarantine));
}

TEST_F(MarginalTest, RelapsesDoubleTheQuarantineUpToItsBound) {
  io::Duration wanted = kFirstQuarantine;
  for (int relapse = 0; relapse < 7; ++relapse) {
    paths_[1].latency = milliseconds(5);
    ASSERT_GT(windows_until(true, 1, 5), 0);
    EXPECT_EQ(judge_.quarantine(1), wanted) << relapse;
    paths_[1].latency = microseconds(300);
    ASSERT_GT(windows_until(false, 1, 1000), 0);
    wanted = std::min<io::Duration>(wanted * 2, kLongestQuarantine);
  }
  now_ += kLongestQuarantine;
  judge_.judge(inputs_, now_);
  paths_[1].latency = milliseconds(5);
  ASSERT_GT(windows_until(true, 1, 5), 0);
  EXPECT_EQ(judge_.quarantine(1), io::Duration(kFirstQuarantine)) << "long good is forgiven";
}

TEST_F(MarginalTest, AFlappingPathReturnsWhenItStays) {
  for (int i = 0; i < 3; ++i) judge_.on_failed(0, now_);
  const io::Instant began = now_;
  ASSERT_EQ(windows_until(true, 0, 1), 1);
  paths_[0].samples = 0;
  ASSERT_GT(windows_until(false, 0, 100), 0);
  EXPECT_GE(now_ - began, io::Duration(kFirstQuarantine));
  EXPECT_EQ(windows_until(true, 0, 10), 0) << "the old failures are forgiven";
}

TEST_F(MarginalTest, ForgottenPathsBeginAnew) {
  paths_[1].latency = milliseconds(5);
  windows_until(true, 1, 5);
  judge_.forget(1);
  EXPECT_FALSE(judge_.is_marginal(1));
}

}  // namespace
}  // namespace holdfast::mpio
