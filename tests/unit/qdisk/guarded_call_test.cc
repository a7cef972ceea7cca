#include "qdisk/guarded_call.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(GuardedCall, ReturnsWhatTheWorkReturns) {
  const std::string big(300'000, 'o');
  const auto made = call_guarded(
      [&](const Progress& progress) {
        progress();
        return Outcome{.status = 2, .out = big + std::string("\0p", 2), .err = "r\n"};
      },
      10s);
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->status, 2);
  EXPECT_EQ(made->out, big + std::string("\0p", 2));
  EXPECT_EQ(made->err, "r\n");
}

TEST(GuardedCall, GivesUpWhatIsSilent) {
  const auto made = call_guarded(
      [](const Progress& progress) {
        progress();
        for (;;) ::pause();
        return Outcome{};
      },
      20ms);
  EXPECT_FALSE(made.has_value());
}

// It takes longer than the silence allowed, which only progress makes possible.
TEST(GuardedCall, WaitsForWhatMakesProgress) {
  const auto made = call_guarded(
      [](const Progress& progress) {
        for (int i = 0; i < 20; ++i) {
          ::usleep(20'000);
          progress();
        }
        return Outcome{.status = 0, .out = "done"};
      },
      300ms);
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->out, "done");
}

TEST(GuardedCall, ACrashIsAFailure) {
  const auto made = call_guarded(
      [](const Progress&) {
        ::raise(SIGKILL);
        return Outcome{};
      },
      10s);
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->status, 1);
  EXPECT_THAT(made->err, HasSubstr("signal 9"));
  const auto left = call_guarded(
      [](const Progress&) {
        ::_exit(0);
        return Outcome{};
      },
      10s);
  ASSERT_TRUE(left.has_value());
  EXPECT_EQ(left->status, 1);
}

// Else whoever reads our output to its end would wait for a child that no signal ends.
TEST(GuardedCall, TheChildHoldsNothingOpenThatIsOurs) {
  const int fd = ::open("/dev/null", O_WRONLY);
  const auto made = call_guarded(
      [fd](const Progress&) {
        std::string open;
        for (const int each : {0, 1, 2, fd}) {
          if (each != 3 && ::fcntl(each, F_GETFD) >= 0) open += std::to_string(each);
        }
        return Outcome{.status = 0, .out = open};
      },
      10s);
  ::close(fd);
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->out, "");
}

}  // namespace
}  // namespace holdfast::qdisk
