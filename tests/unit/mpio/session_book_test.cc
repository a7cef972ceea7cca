#include "mpio/session_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>

#include "tests/unit/io/loop_fixture.h"

namespace holdfast::mpio {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

DeviceConfig device(const char* name, const char* target = "t") {
  DeviceConfig made;
  made.name = name;
  made.target = target;
  made.portals = {{.address = io::Endpoint::parse("10.1.0.10:3260").value(), .source = {}},
                  {.address = io::Endpoint::parse("10.2.0.10:3260").value(), .source = {}}};
  return made;
}

class SessionBookTest : public testing::Test {
 protected:
  SessionBookTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-book-XXXXXX");
    directory_ = ::mkdtemp(pattern.data());
  }
  ~SessionBookTest() override { std::filesystem::remove_all(directory_); }

  // What the devices of a daemon are given. It lasts until close(), or is killed by the next one.
  std::vector<DeviceServiceOptions> start(const std::vector<DeviceConfig>& devices) {
    book_.reset();
    auto opened = SessionBook::open(directory_, random_, files_);
    EXPECT_TRUE(opened.has_value()) << opened.error();
    book_ = std::move(*opened);
    std::vector<DeviceServiceOptions> out;
    for (const DeviceConfig& each : devices) {
      DeviceServiceOptions& options = out.emplace_back();
      options.config = each;
      options.initiator_name = initiator_;
      EXPECT_TRUE(book_->assign(options).has_value());
    }
    EXPECT_TRUE(book_->begin().has_value());
    for (DeviceServiceOptions& each : out) book_->hand_over(devices, each, thread_.loop());
    return out;
  }
  // Its sessions carry I/O, in this portal group.
  bool log_in(DeviceServiceOptions& device, size_t path, uint16_t tag = 1) {
    std::promise<bool> noted;
    device.note_group(device.isids[path], tag, [&](bool done) noexcept { noted.set_value(done); });
    const bool done = noted.get_future().get();
    while (files_.busy()) std::this_thread::yield();
    return done;
  }

  std::string directory_, initiator_ = "iqn.a";
  base::SeededRandom random_{7};
  io::LoopThread thread_;
  daemon::FileWorker files_;
  std::unique_ptr<SessionBook> book_;
};

TEST_F(SessionBookTest, AKilledDaemonLeavesItsSessionsToTheSameDevice) {
  auto first = start({device("a"), device("b")});
  ASSERT_TRUE(log_in(first[0], 0));
  ASSERT_TRUE(log_in(first[0], 1, 7));
  auto next = start({device("a"), device("b")});
  EXPECT_EQ(next[0].isids, first[0].isids);
  EXPECT_THAT(next[1].left, IsEmpty());
  ASSERT_THAT(next[0].left, SizeIs(2));
  EXPECT_EQ(next[0].left[1].isid, first[0].isids[1]);
  EXPECT_EQ(next[0].left[1].path, "10.2.0.10:3260");
  EXPECT_EQ(next[0].left[1].initiator_name, "iqn.a");
  EXPECT_EQ(next[0].left[1].portal_group_tag, 7);
  EXPECT_EQ(next[0].noted_groups[1], 7);
}

TEST_F(SessionBookTest, ADeviceOfAnotherNameTakesThemWhenTheirOwnIsGone) {
  auto first = start({device("a")});
  ASSERT_TRUE(log_in(first[0], 0));
  EXPECT_THAT(start({device("a"), device("renamed")})[1].left, IsEmpty());
  EXPECT_THAT(start({device("renamed")})[0].left, SizeIs(1));
  EXPECT_THAT(start({device("renamed", "other")})[0].left, IsEmpty());
}

TEST_F(SessionBookTest, WhatNobodyCouldFenceIsKept) {
  auto first = start({device("a")});
  ASSERT_TRUE(log_in(first[0], 0));
  start({device("b", "other")});
  book_->close({});
  EXPECT_THAT(start({device("a")})[0].left, SizeIs(1));
  book_->close({});
  EXPECT_THAT(start({device("a")})[0].left, IsEmpty());
}

TEST_F(SessionBookTest, AnotherInitiatorNameHasOtherSessionsAndFencesTheOldOnes) {
  auto first = start({device("a")});
  ASSERT_TRUE(log_in(first[0], 0));
  initiator_ = "iqn.b";
  auto next = start({device("a")});
  EXPECT_NE(next[0].isids[0], first[0].isids[0]);
  ASSERT_THAT(next[0].left, SizeIs(1));
  EXPECT_EQ(next[0].left[0].initiator_name, "iqn.a");
}

TEST_F(SessionBookTest, AGroupThatCannotBeNotedIsSaid) {
  auto first = start({device("a")});
  std::filesystem::create_directory(directory_ + "/isids.new");
  EXPECT_FALSE(log_in(first[0], 0));
}

}  // namespace
}  // namespace holdfast::mpio
