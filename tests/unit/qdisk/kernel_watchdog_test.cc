#include "qdisk/kernel_watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/watchdog.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using namespace std::string_view_literals;
using base::Errc;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kFd = 33;

// A device that does what the kernel's core of its drivers does. One that cannot go on being petted
// would reset the host.
class Device final : public WatchdogCalls {
 public:
  int open(const std::string& path) override {
    EXPECT_EQ(path, "/dev/watchdog1");
    if (open_error != 0) return -open_error;
    EXPECT_FALSE(is_open);
    is_open = counting = true;
    return kFd;
  }
  int call(int fd, unsigned long request, void* argument) override {
    EXPECT_EQ(fd, kFd);
    EXPECT_TRUE(is_open);
    magic = false;
    switch (request) {
      case WDIOC_GETSUPPORT: {
        watchdog_info info{.options = options, .firmware_version = 0, .identity = {}};
        std::memcpy(info.identity, identity.data(), identity.size());
        std::memcpy(argument, &info, sizeof(info));
        return support_error;
      }
      case WDIOC_SETTIMEOUT: {
        int& seconds = *static_cast<int*>(argument);
        asked_s.push_back(seconds);
        if (timeout_error != 0) return -timeout_error;
        seconds = timeout_s = seconds < least_s ? instead_s : seconds;
        return 0;
      }
      case WDIOC_KEEPALIVE:
        if (pet_error != 0) return -pet_error;
        ++pets;
        return 0;
      case WDIOC_SETOPTIONS:
        EXPECT_EQ(*static_cast<int*>(argument), WDIOS_DISABLECARD);
        if (stop_error != 0) return -stop_error;
        counting = false;
        return 0;
      default:
        ADD_FAILURE() << "an unknown request";
        return -ENOTTY;
    }
  }
  int write(int fd, char byte) override {
    EXPECT_EQ(fd, kFd);
    if (write_error != 0) return -write_error;
    magic = byte == 'V';
    return 1;
  }
  void close(int fd) override {
    EXPECT_EQ(fd, kFd);
    EXPECT_TRUE(is_open);
    is_open = false;
    if (magic && stop_error != EBUSY) counting = false;
  }
  bool running(const std::string& path) override {
    EXPECT_EQ(path, "/dev/watchdog1");
    return counting;
  }

  uint32_t options = WDIOF_SETTIMEOUT | WDIOF_MAGICCLOSE | WDIOF_KEEPALIVEPING;
  std::string_view identity = "iTCO_wdt";
  int least_s = 1, instead_s = 20;  // what is less becomes that
  int open_error = 0, support_error = 0, timeout_error = 0, pet_error = 0, stop_error = 0,
      write_error = 0;
  bool is_open = false;
  bool counting = false;  // started, and not stopped
  bool magic = false;
  int timeout_s = 60;
  int pets = 0;
  std::vector<int> asked_s;
};

class KernelWatchdogTest : public testing::Test {
 protected:
  base::Error arm_error(io::Duration timeout = 10s) {
    const auto armed = watchdog_->arm(timeout);
    EXPECT_FALSE(armed.has_value());
    return armed ? base::Error{} : armed.error();
  }
  // Of what cannot be used: the host must not be reset for it.
  void expect_refused(Errc code, const char* why) {
    const base::Error error = arm_error();
    EXPECT_EQ(error.code, code);
    EXPECT_THAT(error.what, HasSubstr(why));
    EXPECT_FALSE(watchdog_->armed());
    EXPECT_FALSE(device_->is_open);
    EXPECT_FALSE(device_->counting);
  }
  void restart() { watchdog_ = std::make_unique<KernelWatchdog>("/dev/watchdog1", device_); }

  std::shared_ptr<Device> device_ = std::make_shared<Device>();
  std::unique_ptr<KernelWatchdog> watchdog_ =
      std::make_unique<KernelWatchdog>("/dev/watchdog1", device_);
};

TEST_F(KernelWatchdogTest, ItIsArmedPettedAndDisarmed) {
  EXPECT_TRUE(watchdog_->real());
  EXPECT_FALSE(watchdog_->armed());
  EXPECT_EQ(watchdog_->describe(), "/dev/watchdog1");
  watchdog_->pet();  // nothing is there to be petted
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  EXPECT_TRUE(watchdog_->armed());
  EXPECT_EQ(watchdog_->describe(), "/dev/watchdog1 (iTCO_wdt), 10 s");
  EXPECT_EQ(device_->timeout_s, 10);
  EXPECT_EQ(device_->pets, 1);
  watchdog_->pet();
  EXPECT_EQ(device_->pets, 2);
  ASSERT_TRUE(watchdog_->disarm().has_value());
  EXPECT_FALSE(watchdog_->armed());
  EXPECT_FALSE(device_->is_open);
  EXPECT_FALSE(device_->counting);
  EXPECT_TRUE(watchdog_->disarm().has_value());  // it is already
  EXPECT_FALSE(watchdog_->problem());
}

TEST_F(KernelWatchdogTest, WholeSecondsAndNoMoreOfThemThanThereAre) {
  ASSERT_TRUE(watchdog_->arm(2'999ms).has_value());
  EXPECT_EQ(device_->timeout_s, 2);
  ASSERT_TRUE(watchdog_->arm(1s).has_value());  // another timeout, while it is armed
  EXPECT_EQ(device_->timeout_s, 1);
  EXPECT_EQ(device_->pets, 2);
  EXPECT_EQ(arm_error(999ms).code, Errc::invalid_argument);
  EXPECT_TRUE(watchdog_->armed());
}

TEST_F(KernelWatchdogTest, LessThanASecondOpensNothing) {
  const base::Error error = arm_error(999ms);
  EXPECT_EQ(error.code, Errc::invalid_argument);
  EXPECT_THAT(error.what, HasSubstr("whole seconds"));
  EXPECT_FALSE(device_->counting);
}

TEST_F(KernelWatchdogTest, ADeviceThatFiresTooLateIsRefusedAndStoppedAgain) {
  device_->least_s = 11;
  expect_refused(Errc::unsupported, "fires later");
  EXPECT_THAT(device_->asked_s, ElementsAre(10));
  device_->least_s = 10;
  EXPECT_TRUE(watchdog_->arm(10s).has_value());
}

TEST_F(KernelWatchdogTest, ADeviceThatCannotDoEverythingIsRefused) {
  for (const int missing : {WDIOF_SETTIMEOUT, WDIOF_MAGICCLOSE, WDIOF_KEEPALIVEPING}) {
    device_->options = Device().options & ~static_cast<uint32_t>(missing);
    expect_refused(Errc::unsupported, "cannot do all of");
  }
  device_->options = Device().options | WDIOF_ALARMONLY;
  expect_refused(Errc::unsupported, "does not reset the host");
}

TEST_F(KernelWatchdogTest, ErrorsOfTheDeviceAreSaid) {
  device_->support_error = -ENOTTY;
  expect_refused(Errc::unsupported, "that is no watchdog");
  device_->support_error = 0;
  device_->timeout_error = EINVAL;
  expect_refused(Errc::unsupported, "does not take the time");
  device_->timeout_error = 0;
  device_->pet_error = EIO;
  expect_refused(Errc::io, "cannot be petted");
  for (const auto& [error, code, why] : {std::tuple{EBUSY, Errc::busy, "RuntimeWatchdogSec"},
                                         {ENOENT, Errc::not_found, "softdog"},
                                         {EACCES, Errc::io, "cannot be opened"}}) {
    device_->open_error = error;
    expect_refused(code, why);
  }
}

// Another timeout that is refused changes nothing.
TEST_F(KernelWatchdogTest, WhatWasArmedStaysArmed) {
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  device_->least_s = 10;
  EXPECT_EQ(arm_error(5s).code, Errc::unsupported);
  EXPECT_EQ(device_->timeout_s, 10);
  EXPECT_TRUE(watchdog_->armed());
  EXPECT_TRUE(device_->counting);
  EXPECT_EQ(watchdog_->describe(), "/dev/watchdog1 (iTCO_wdt), 10 s");
}

TEST_F(KernelWatchdogTest, AProcessThatDiesLeavesItRunningForTheNext) {
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  watchdog_.reset();
  EXPECT_FALSE(device_->is_open);
  EXPECT_TRUE(device_->counting);
  restart();
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  ASSERT_TRUE(watchdog_->disarm().has_value());
  EXPECT_FALSE(device_->counting);
}

// What lived by the lease of the daemon that died may live still.
TEST_F(KernelWatchdogTest, OneThatWasLeftRunningIsNotStoppedByARefusal) {
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  watchdog_.reset();
  restart();
  device_->least_s = 20;
  EXPECT_EQ(arm_error().code, Errc::unsupported);
  EXPECT_FALSE(device_->is_open);
  EXPECT_TRUE(device_->counting);
}

TEST_F(KernelWatchdogTest, AFailedPetIsRememberedUntilOneSucceeds) {
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  EXPECT_FALSE(watchdog_->problem());
  device_->pet_error = EIO;
  watchdog_->pet();
  EXPECT_THAT(watchdog_->problem().value_or(""),
              HasSubstr("/dev/watchdog1 cannot be petted (Input/output error)"));
  device_->pet_error = 0;
  watchdog_->pet();
  EXPECT_FALSE(watchdog_->problem());
}

TEST_F(KernelWatchdogTest, ADeviceThatCannotBeStoppedIsNotLetGo) {
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  device_->stop_error = EBUSY;
  const auto refused = watchdog_->disarm();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::unsupported);
  EXPECT_THAT(refused.error().what, HasSubstr("nowayout"));
  EXPECT_TRUE(watchdog_->armed());
  EXPECT_TRUE(device_->is_open);
  watchdog_->pet();
  EXPECT_EQ(device_->pets, 2);
}

// Old drivers know only the magic character.
TEST_F(KernelWatchdogTest, ADriverWithoutTheOptionIsStoppedByTheMagic) {
  ASSERT_TRUE(watchdog_->arm(10s).has_value());
  device_->stop_error = EOPNOTSUPP;
  device_->write_error = EIO;
  const auto refused = watchdog_->disarm();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::io);
  EXPECT_TRUE(watchdog_->armed());
  device_->write_error = 0;
  ASSERT_TRUE(watchdog_->disarm().has_value());
  EXPECT_FALSE(device_->counting);
}

TEST_F(KernelWatchdogTest, AnIdentityWithoutItsEndIsTakenAsFarAsItGoes) {
  device_->identity = "0123456789abcdef0123456789abcdef"sv;
  ASSERT_TRUE(watchdog_->arm(3s).has_value());
  EXPECT_EQ(watchdog_->describe(), "/dev/watchdog1 (0123456789abcdef0123456789abcdef), 3 s");
}

// With the kernel's calls: on no machine is there such a device.
TEST(KernelWatchdogCalls, WhereThereIsNoneThatIsSaid) {
  KernelWatchdog absent("/dev/watchdog4711");
  const auto armed = absent.arm(10s);
  ASSERT_FALSE(armed.has_value());
  EXPECT_EQ(armed.error().code, Errc::not_found);
  KernelWatchdog other("/dev/null");
  const auto wrong = other.arm(10s);
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().what, HasSubstr("that is no watchdog"));
}

}  // namespace
}  // namespace holdfast::qdisk
