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
    for (DeviceServiceOptions& each : out) book_->hand_over(each, thread_.loop());
    return out;
  }
  // Its sessions carry I/O there.
  bool note(DeviceServiceOptions& device, size_t path, SessionTrace trace = {1, "naa.a"}) {
    std::promise<bool> noted;
    device.note(device.isids[path], {trace}, [&](bool done) noexcept { noted.set_value(done); });
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

TEST_F(SessionBookTest, AKilledDaemonLeavesItsSessionsToWhoeverIsOfTheirUnit) {
  auto first = start({device("a"), device("b")});
  ASSERT_TRUE(note(first[0], 0));
  ASSERT_TRUE(note(first[0], 1, {7, "naa.b"}));
  auto next = start({device("renamed", "other"), device("a")});
  EXPECT_EQ(next[1].isids, first[0].isids);
  for (const DeviceServiceOptions& each : next) {  // which unit it has it does not know yet
    ASSERT_THAT(each.left, SizeIs(2));
    EXPECT_EQ(each.left[1].isid, first[0].isids[1]);
    EXPECT_EQ(each.left[1].path, "10.2.0.10:3260");
    EXPECT_EQ(each.left[1].initiator_name, "iqn.a");
    EXPECT_EQ(each.left[1].target, "t");
    EXPECT_EQ(each.left[1].trace, (SessionTrace{7, "naa.b"}));
  }
  EXPECT_THAT(next[1].traces[1], testing::ElementsAre(SessionTrace{7, "naa.b"}));
}

TEST_F(SessionBookTest, WhatNobodyHasFencedIsKept) {
  auto first = start({device("a")});
  ASSERT_TRUE(note(first[0], 0));
  ASSERT_TRUE(note(first[0], 1));
  auto next = start({device("b", "other")});
  book_->close({{.unfenced = {}, .fenced = {next[0].left[0]}}, {}});
  next = start({device("a")});
  ASSERT_THAT(next[0].left, SizeIs(1));
  EXPECT_EQ(next[0].left[0].isid, first[0].isids[1]);
  book_->close({{.unfenced = {}, .fenced = next[0].left}});
  EXPECT_THAT(start({device("a")})[0].left, IsEmpty());
}

TEST_F(SessionBookTest, WhatADeviceCouldNotFenceAtItsEndIsKept) {
  auto first = start({device("a")});
  ASSERT_TRUE(note(first[0], 0));
  book_->close({{.unfenced = {first[0].isids[0]}, .fenced = {}}});
  EXPECT_THAT(start({device("a")})[0].left, SizeIs(1));
}

TEST_F(SessionBookTest, AnotherInitiatorNameHasOtherSessionsAndFencesTheOldOnes) {
  auto first = start({device("a")});
  ASSERT_TRUE(note(first[0], 0));
  initiator_ = "iqn.b";
  auto next = start({device("a")});
  EXPECT_NE(next[0].isids[0], first[0].isids[0]);
  ASSERT_THAT(next[0].left, SizeIs(1));
  EXPECT_EQ(next[0].left[0].initiator_name, "iqn.a");
}

TEST_F(SessionBookTest, ATraceThatCannotBeNotedIsSaid) {
  auto first = start({device("a")});
  std::filesystem::create_directory(directory_ + "/isids.new");
  EXPECT_FALSE(note(first[0], 0));
}

}  // namespace
}  // namespace holdfast::mpio
