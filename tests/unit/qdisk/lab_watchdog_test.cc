#include "qdisk/lab_watchdog.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kMs = 1'000'000;

class LabWatchdogTest : public testing::Test {
 protected:
  LabWatchdogTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-lab-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    file_ = LabWatchdogFile::create(path("deadline")).value();
  }
  ~LabWatchdogTest() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary | std::ios::trunc) << text;
  }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name), std::ios::binary).rdbuf();
    return text.str();
  }

  std::string directory_;
  std::optional<LabWatchdogFile> file_;
  LabKill answer_{.done = true, .report = "the host"};
  int kills_ = 0;
  std::vector<std::string> lines_;
  std::function<void()> before_kill_;
  LabWatchdog watchdog_{*file_,
                        [this] {
                          if (before_kill_) before_kill_();
                          ++kills_;
                          return answer_;
                        },
                        [this](const std::string& line) { lines_.push_back(line); }};
};

TEST_F(LabWatchdogTest, DisarmedItOnlyLooks) {
  EXPECT_EQ(watchdog_.look(1000 * kMs), 50 * kMs);
  EXPECT_EQ(file_->watched_at(), 1000 * kMs);
  EXPECT_EQ(watchdog_.look(9000 * kMs), 50 * kMs);
  EXPECT_EQ(file_->watched_at(), 9000 * kMs);
  EXPECT_EQ(kills_, 0);
}

TEST_F(LabWatchdogTest, ItFiresAtTheDeadlineAndOnce) {
  file_->set_deadline(1100 * kMs);
  EXPECT_EQ(watchdog_.look(1000 * kMs), 50 * kMs);
  EXPECT_EQ(watchdog_.look(1070 * kMs), 30 * kMs);
  EXPECT_EQ(watchdog_.look(1100 * kMs - 1), 1U);
  EXPECT_EQ(kills_, 0);
  EXPECT_EQ(watchdog_.look(1103 * kMs), 50 * kMs);
  EXPECT_EQ(kills_, 1);
  EXPECT_EQ(file_->deadline(), kLabFired);
  EXPECT_EQ(file_->fired_at(), 1103 * kMs);
  EXPECT_THAT(lines_, ElementsAre("fired_at=1103000000 deadline=1100000000 late_ms=3 killed: the "
                                  "host"));
  EXPECT_EQ(watchdog_.look(2000 * kMs), 50 * kMs);
  EXPECT_EQ(kills_, 1);
}

TEST_F(LabWatchdogTest, APetMovesTheDeadline) {
  for (uint64_t now = 1000 * kMs; now < 9000 * kMs; now += 40 * kMs) {
    file_->set_deadline(now + 100 * kMs);
    watchdog_.look(now + 39 * kMs);
  }
  EXPECT_EQ(kills_, 0);
}

// Before anything is killed it has fired: what is petted then is dead.
TEST_F(LabWatchdogTest, APetComesBeforeItFiresOrNotAtAll) {
  file_->set_deadline(1100 * kMs);
  bool petted = true;
  before_kill_ = [&] { petted = file_->replace_deadline(1100 * kMs, 1200 * kMs); };
  watchdog_.look(1100 * kMs);
  EXPECT_FALSE(petted);
  EXPECT_EQ(kills_, 1);
}

TEST_F(LabWatchdogTest, AfterItHasFiredItCanBeArmedAnew) {
  for (const uint64_t deadline : {1000 * kMs, 2000 * kMs}) {
    file_->set_deadline(deadline);
    watchdog_.look(deadline - 1);
    watchdog_.look(deadline);
    watchdog_.look(deadline + 50 * kMs);
  }
  EXPECT_EQ(kills_, 2);
  EXPECT_EQ(file_->fired_at(), 2000 * kMs);
}

TEST_F(LabWatchdogTest, WhatCannotBeKilledIsTriedAgainUntilItIs) {
  answer_ = {.done = false, .report = "cannot"};
  file_->set_deadline(1000 * kMs);
  watchdog_.look(1000 * kMs);
  watchdog_.look(1050 * kMs);
  EXPECT_EQ(kills_, 2);
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("KILLS FAIL: cannot")));
  answer_ = {.done = true, .report = "the host"};
  watchdog_.look(1100 * kMs);
  watchdog_.look(1150 * kMs);
  EXPECT_EQ(kills_, 3);
  EXPECT_THAT(lines_.back(), HasSubstr("killed after all: the host"));
}

TEST_F(LabWatchdogTest, WhatHasArmedItSinceIsNotKilledForAnEarlierFailure) {
  answer_ = {.done = false, .report = "cannot"};
  file_->set_deadline(1000 * kMs);
  watchdog_.look(1000 * kMs);
  file_->set_deadline(2000 * kMs);
  watchdog_.look(1050 * kMs);
  watchdog_.look(1100 * kMs);
  EXPECT_EQ(kills_, 1);
}

// --- whom it kills

class Victim {
 public:
  explicit Victim(bool own_group) : pid_(::fork()) {
    if (pid_ != 0) {
      if (own_group) ::setpgid(pid_, pid_);
      return;
    }
    for (;;) ::pause();
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() {
    if (reaped_) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  // The signal that it has ended, or ends, by.
  int signal() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    reaped_ = true;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }

 private:
  const pid_t pid_;
  bool reaped_ = false;
};

TEST_F(LabWatchdogTest, ProcessesAndGroupsOfTheListAreKilled) {
  Victim one(false), leader(true), gone(false);
  ::kill(gone.pid(), SIGKILL);
  gone.signal();
  write("pids", fmt::format("{}\n -{}\t{}", one.pid(), leader.pid(), gone.pid()));
  const LabKill made = kill_pids(path("pids"));
  EXPECT_TRUE(made.done);
  EXPECT_EQ(made.report, fmt::format("{} -{} {}(gone)", one.pid(), leader.pid(), gone.pid()));
  EXPECT_EQ(one.signal(), SIGKILL);
  EXPECT_EQ(leader.signal(), SIGKILL);
}

// Only what is found in the list: a mistake here would end everything on the machine.
TEST(LabVictim, WhatMustNotBeKilledIsNot) {
  EXPECT_EQ(lab_victim("2"), 2);
  EXPECT_EQ(lab_victim("-2"), -2);
  EXPECT_EQ(lab_victim(std::to_string(::getppid())), ::getppid());
  for (const std::string& word :
       {std::to_string(::getpid()), fmt::format("-{}", ::getpgrp()), std::string("0"),
        std::string("-0"), std::string("1"), std::string("-1"), std::string("x"),
        std::string("12x"), std::string("99999999999"), std::string("-"), std::string()}) {
    EXPECT_FALSE(lab_victim(word)) << word;
  }
}

TEST_F(LabWatchdogTest, AWordThatIsNoVictimKeepsNobodyAlive) {
  Victim last(false);
  write("pids", fmt::format("12x {}", last.pid()));
  const LabKill made = kill_pids(path("pids"));
  EXPECT_TRUE(made.done);
  EXPECT_EQ(made.report, fmt::format("12x(refused) {}", last.pid()));
  EXPECT_EQ(last.signal(), SIGKILL);
}

TEST_F(LabWatchdogTest, AListThatCannotBeReadIsAFailure) {
  EXPECT_FALSE(kill_pids(path("absent")).done);
  write("pids", std::string(70'000, ' '));
  EXPECT_FALSE(kill_pids(path("pids")).done);
  write("pids", "");
  EXPECT_TRUE(kill_pids(path("pids")).done);
}

// A directory that stands in for a cgroup; system.lab_watchdog has a real one.
TEST_F(LabWatchdogTest, ACgroupIsKilledByItsFile) {
  std::filesystem::create_directory(path("host"));
  EXPECT_FALSE(kill_cgroup(path("host")).done);
  write("host/cgroup.kill", "");
  const LabKill made = kill_cgroup(path("host"));
  EXPECT_TRUE(made.done) << made.report;
  EXPECT_EQ(read("host/cgroup.kill"), "1");
  std::filesystem::remove_all(path("host"));
  EXPECT_TRUE(kill_cgroup(path("host")).done);  // an empty one can be removed
}

TEST_F(LabWatchdogTest, TheHostIsWhatTheOptionsSay) {
  std::filesystem::create_directory(path("host"));
  write("host/cgroup.kill", "");
  EXPECT_TRUE(kill_host({.kill_cgroup = path("host")}).done);
  EXPECT_EQ(read("host/cgroup.kill"), "1");
  Victim one(false);
  write("pids", std::to_string(one.pid()));
  EXPECT_TRUE(kill_host({.kill_pids = path("pids")}).done);
  EXPECT_EQ(one.signal(), SIGKILL);
}

TEST_F(LabWatchdogTest, ItIsNotToBeInTheCgroupThatItKills) {
  const LabWatchdogOptions options{.kill_cgroup = path("host")};
  EXPECT_THAT(lab_obstacle(options), HasSubstr("cannot write to " + path("host")));
  std::filesystem::create_directories(path("host/a/b"));
  write("host/cgroup.kill", "");
  EXPECT_EQ(lab_obstacle(options), "");
  for (const char* below : {"host/a/b/cgroup.procs", "host/cgroup.procs"}) {
    write(below, fmt::format("1{0}\n{0}1\n", ::getpid()));
    EXPECT_EQ(lab_obstacle(options), "");
    write(below, fmt::format("2\n{}\n", ::getpid()));
    EXPECT_THAT(lab_obstacle(options), HasSubstr("start it outside"));
    std::filesystem::remove(path(below));
  }
  EXPECT_EQ(lab_obstacle({.kill_pids = path("absent")}), "");
}

TEST_F(LabWatchdogTest, LinesAreAppended) {
  EXPECT_TRUE(append_line(path("log"), "a"));
  EXPECT_TRUE(append_line(path("log"), "b"));
  EXPECT_EQ(read("log"), "a\nb\n");
  EXPECT_FALSE(append_line(path("absent/log"), "a"));
}

// --- its arguments

TEST(LabWatchdogArguments, AreReadOrRefused) {
  const auto parse = [](std::vector<const char*> words) { return parse_lab_watchdog(words); };
  const auto made = parse({"--deadline", "d", "--kill-pids", "p", "--log", "l"});
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->deadline, "d");
  EXPECT_EQ(made->kill_pids, "p");
  EXPECT_EQ(made->log, "l");
  EXPECT_THAT(made->kill_cgroup, IsEmpty());
  EXPECT_EQ(parse({"--deadline", "d", "--kill-cgroup", "c"})->kill_cgroup, "c");

  const auto help = parse({"--help"});
  ASSERT_FALSE(help.has_value());
  EXPECT_EQ(help.error().status, 0);
  const std::vector<std::pair<std::vector<const char*>, const char*>> refused = {
      {{"--kill-pids", "p"}, "--deadline is missing"},
      {{"--deadline", "d"}, "one of --kill-cgroup and --kill-pids"},
      {{"--deadline", "d", "--kill-pids", "p", "--kill-cgroup", "c"}, "one of --kill-cgroup"},
      {{"--deadline"}, "--deadline needs a value"},
      {{"--deadline", ""}, "--deadline needs a value"},
      {{"deadline"}, "unknown argument `deadline`"}};
  for (const auto& [words, why] : refused) {
    const auto wrong = parse(words);
    ASSERT_FALSE(wrong.has_value());
    EXPECT_EQ(wrong.error().status, 2);
    EXPECT_THAT(wrong.error().text, HasSubstr(why));
  }
}

}  // namespace
}  // namespace holdfast::qdisk
