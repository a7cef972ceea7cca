#include "qdisk/lab_watchdog_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace holdfast::qdisk {
namespace {

using testing::HasSubstr;

class LabWatchdogFileTest : public testing::Test {
 protected:
  LabWatchdogFileTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-lab-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  ~LabWatchdogFileTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/deadline"; }
  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(path(), std::ios::binary).rdbuf();
    return text.str();
  }
  void write(const std::string& text) const {
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << text;
  }
  uint64_t stored(size_t offset) const {
    uint64_t value = 0;
    std::memcpy(&value, content().data() + offset, sizeof(value));
    return value;
  }
  static std::string error(const std::expected<LabWatchdogFile, std::string>& made) {
    return made ? "none" : made.error();
  }

  std::string directory_;
};

// As programs in other languages read and write it.
TEST_F(LabWatchdogFileTest, TheLayoutIsAsTheHeaderSays) {
  auto made = LabWatchdogFile::create(path());
  ASSERT_TRUE(made.has_value()) << made.error();
  EXPECT_EQ(content(), "HFLABWD1" + std::string(4088, '\0'));
  made->set_deadline(7);
  made->set_fired_at(8);
  made->set_watched_at(9);
  EXPECT_EQ(stored(8), 7U);
  EXPECT_EQ(stored(16), 8U);
  EXPECT_EQ(stored(24), 9U);
}

TEST_F(LabWatchdogFileTest, BothSidesSeeTheSame) {
  EXPECT_THAT(error(LabWatchdogFile::open(path())), HasSubstr("No such file"));
  auto made = LabWatchdogFile::create(path());
  ASSERT_TRUE(made.has_value()) << made.error();
  auto opened = LabWatchdogFile::open(path());
  ASSERT_TRUE(opened.has_value()) << opened.error();
  opened->set_deadline(100);
  EXPECT_EQ(made->deadline(), 100U);
  EXPECT_FALSE(made->replace_deadline(99, kLabFired));
  EXPECT_EQ(opened->deadline(), 100U);
  EXPECT_TRUE(made->replace_deadline(100, kLabFired));
  EXPECT_EQ(opened->deadline(), kLabFired);
}

TEST_F(LabWatchdogFileTest, ADoubleThatIsStartedAgainFindsWhatWasThere) {
  LabWatchdogFile::create(path())->set_deadline(100);
  auto again = LabWatchdogFile::create(path());
  ASSERT_TRUE(again.has_value()) << again.error();
  EXPECT_EQ(again->deadline(), 100U);
}

TEST_F(LabWatchdogFileTest, TwoDoublesDoNotShareAFile) {
  auto first = LabWatchdogFile::create(path());
  ASSERT_TRUE(first.has_value()) << first.error();
  EXPECT_THAT(error(LabWatchdogFile::create(path())), HasSubstr("another lab watchdog"));
  LabWatchdogFile moved = std::move(*first);
  EXPECT_THAT(error(LabWatchdogFile::create(path())), HasSubstr("another lab watchdog"));
  EXPECT_TRUE(LabWatchdogFile::open(path()).has_value());  // clients need no lock
}

TEST_F(LabWatchdogFileTest, AnotherFileIsRefusedAndLeftAsItIs) {
  for (const std::string& other : {std::string("x"), std::string(4096, 'x'), std::string(4097, 'x'),
                                   "HFLABWD2" + std::string(4088, '\0')}) {
    write(other);
    EXPECT_NE(error(LabWatchdogFile::create(path())), "none");
    EXPECT_THAT(error(LabWatchdogFile::open(path())), HasSubstr("not the file of a lab watchdog"));
    EXPECT_EQ(content(), other);
  }
}

// The double ended between the two steps of making it.
TEST_F(LabWatchdogFileTest, AHalfMadeFileIsNobodysUntilADoubleHasFinishedIt) {
  for (const size_t size : {size_t{0}, size_t{4096}}) {
    write(std::string(size, '\0'));
    EXPECT_NE(error(LabWatchdogFile::open(path())), "none");
    EXPECT_EQ(error(LabWatchdogFile::create(path())), "none");
    EXPECT_EQ(error(LabWatchdogFile::open(path())), "none");
  }
}

TEST_F(LabWatchdogFileTest, TheClockGoesForward) {
  const uint64_t before = lab_now_ns();
  EXPECT_GT(before, 1'000'000U);
  EXPECT_GE(lab_now_ns(), before);
}

}  // namespace
}  // namespace holdfast::qdisk
