#include "qdisk/lease_page.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class LeasePageTest : public testing::Test {
 protected:
  LeasePageTest() {
    std::string name = testing::TempDir() + "/holdfast-lease-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~LeasePageTest() override { std::filesystem::remove_all(directory_); }
  std::string path() const { return directory_ + "/lease"; }

  // Every word follows from `number`.
  static LeaseView view(uint32_t number) {
    LeaseView out{.lease_until = io::Instant(number * 1s),
                  .confirmed_at = io::Instant(number * 1ms),
                  .life = {static_cast<NodeId>(number % 64), number},
                  .key = number * 3ULL,
                  .epoch = number * 5ULL,
                  .members = NodeSet(number),
                  .fenced = number * 7ULL,
                  .fenced_timed = number % 2 == 0};
    for (VolumeView& volume : out.volumes) {
      volume = {.coordinator = static_cast<NodeId>(number % 64), .term = number, .token = true};
    }
    return out;
  }

  std::string directory_;
};

TEST_F(LeasePageTest, WhatIsWrittenIsRead) {
  std::filesystem::remove_all(directory_);
  LeasePage page = LeasePage::open(path()).value();
  LeaseView written = view(1'000'000);
  written.volumes[3] = {.coordinator = kNoNode, .term = 9};
  page.write(written);
  const LeaseReader reader = LeaseReader::open(path()).value();
  EXPECT_EQ(reader.read(), written);
  EXPECT_TRUE(reader.valid(io::Instant(999'999s)));
  EXPECT_FALSE(reader.valid(io::Instant(1'000'000s)));
  struct stat status{};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(LeasePageTest, ItHasOneWriter) {
  std::optional<LeasePage> first(LeasePage::open(path()).value());
  EXPECT_THAT(LeasePage::open(path()).error(), HasSubstr("another daemon writes this lease page"));
  EXPECT_EQ(std::filesystem::file_size(path()), 4096U);
  first.reset();
  EXPECT_TRUE(LeasePage::open(path()).has_value());
}

TEST_F(LeasePageTest, AFileOfSomethingElseStaysAsItIs) {
  for (const std::string& content :
       {std::string("x"), std::string(4096, 'x'), std::string(5000, '\0')}) {
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << content;
    EXPECT_THAT(LeasePage::open(path()).error(), HasSubstr("something else than a lease page"));
    std::ifstream in(path(), std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), content);
  }
  // That of a daemon of another version may be written over.
  std::ofstream(path(), std::ios::binary | std::ios::trunc)
      << "QFLEASE2" << std::string(4096 - 8, 'x');
  EXPECT_TRUE(LeasePage::open(path()).has_value());
}

// Else the first write, or the last one before the disk is full, ends the daemon with SIGBUS.
TEST_F(LeasePageTest, ItsRoomIsTakenWhenItIsMade) {
  const LeasePage page = LeasePage::open(path()).value();
  struct stat status{};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, 4096);
}

TEST_F(LeasePageTest, TheNextDaemonOfTheSameBootKnowsItsUsers) {
  const Uuid boot{1}, other{2};
  LeaseUsers::Table users{};
  users[0] = {.name = "csvfsd"};
  users[2] = {.name = std::string(LeaseUsers::kMaxName, 'a'), .runs = true};
  {
    LeasePage page = LeasePage::open(path()).value();
    EXPECT_EQ(page.last(), std::nullopt);
    EXPECT_EQ(page.users(boot), LeaseUsers::Table{});
    page.write(view(9));
    users[0].quiesced = 77;  // what a user has said is not kept
    page.write_users(boot, users);
  }
  users[0].quiesced = 0;
  LeasePage next = LeasePage::open(path()).value();
  EXPECT_EQ(next.last(), view(9));
  EXPECT_EQ(next.users(boot), users);
  EXPECT_EQ(next.users(other), LeaseUsers::Table{});
  EXPECT_EQ(next.users(Uuid{}), LeaseUsers::Table{});
  EXPECT_EQ(LeaseReader::open(path()).value().read(), view(9));
  users[2] = {};
  users[0].name = "b";
  next.write_users(boot, users);
  EXPECT_EQ(next.users(boot), users);
}

TEST_F(LeasePageTest, AReaderSeesTheNextDaemonsWriting) {
  LeasePage::open(path()).value().write(view(1));
  const LeaseReader reader = LeaseReader::open(path()).value();
  LeasePage next = LeasePage::open(path()).value();
  EXPECT_EQ(reader.read(), view(1)) << "until it has written something";
  next.write(view(2));
  EXPECT_EQ(reader.read(), view(2));
  next.write({});
  EXPECT_FALSE(reader.valid(io::Instant(1ns))) << "evicted";
}

TEST_F(LeasePageTest, ADaemonThatDiedWhileItWroteLeavesNothingHalf) {
  LeasePage page = LeasePage::open(path()).value();
  page.write(view(1));
  const LeaseReader reader = LeaseReader::open(path()).value();
  std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
  const uint64_t odd = 3;
  file.seekp(8);
  file.write(reinterpret_cast<const char*>(&odd), 8);
  file.flush();
  EXPECT_EQ(reader.read(), std::nullopt);
  page.write(view(2));
  EXPECT_EQ(reader.read(), view(2));
}

TEST_F(LeasePageTest, NoReadIsAMixtureOfTwoWritings) {
  LeasePage page = LeasePage::open(path()).value();
  page.write(view(1));
  const LeaseReader reader = LeaseReader::open(path()).value();
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (uint32_t i = 1; !done; i = i % 1000 + 1) page.write(view(i));
  });
  int read = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto seen = reader.read();
    if (!seen) continue;
    ++read;
    ASSERT_EQ(*seen, view(seen->life.incarnation));
  }
  done = true;
  writer.join();
  EXPECT_GT(read, 1000);
}

TEST_F(LeasePageTest, WhatIsNoPageIsSaid) {
  EXPECT_THAT(LeaseReader::open(path()).error(), HasSubstr("No such file"));
  std::ofstream(path()) << "x";
  EXPECT_THAT(LeaseReader::open(path()).error(), HasSubstr("no lease page"));
  std::filesystem::remove(path());
  const LeasePage page = LeasePage::open(path()).value();
  EXPECT_THAT(LeaseReader::open(path()).error(), HasSubstr("not written yet"));
  EXPECT_THAT(LeasePage::open(directory_).error(), HasSubstr("Is a directory"));
}

}  // namespace
}  // namespace holdfast::qdisk
