#include "qdisk/fence_agent.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "tests/unit/io/loop_fixture.h"

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using base::Errc;
using testing::HasSubstr;

class FenceAgentTest : public testing::Test {
 protected:
  FenceAgentTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-fence-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    // Opened for both, so that no opening waits for the other side.
    EXPECT_EQ(::mkfifo(path("tell").c_str(), 0600), 0);
    tell_.open(path("tell"), std::ios::in | std::ios::out);
    EXPECT_EQ(::mkfifo(path("go").c_str(), 0600), 0);
    go_.open(path("go"), std::ios::in | std::ios::out);
  }
  ~FenceAgentTest() override {
    thread_.call([this] { agents_.reset(); });
    thread_.call([] {});
    std::filesystem::remove_all(directory_);
  }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  // $TELL in it is a pipe to told(), and a line comes from $GO after go().
  std::vector<std::string> script(const std::string& body) {
    const std::string file = path(fmt::format("agent{}", scripts_++));
    std::ofstream(file) << "#!/bin/sh\nTELL=" << path("tell") << "\nGO=" << path("go") << "\n"
                        << body << "\n";
    std::filesystem::permissions(file, std::filesystem::perms(0700));
    return {file};
  }
  pid_t told() {
    pid_t number = 0;
    tell_ >> number;
    return number;
  }
  void go() { go_ << "go" << std::endl; }
  static bool alive(pid_t pid) {
    // Not a zombie that whoever adopts orphans here has not reaped.
    std::ifstream stat(fmt::format("/proc/{}/stat", pid));
    std::string number, name, state;
    return stat >> number >> name >> state && state != "Z";
  }
  // It has its signal, and is on its way.
  static bool dies(pid_t pid) {
    const auto end = std::chrono::steady_clock::now() + 10s;
    while (alive(pid) && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return !alive(pid);
  }
  void make(std::vector<FenceAgent> agents) {
    thread_.call([&] { agents_ = FenceAgents::create(thread_.loop(), std::move(agents)).value(); });
  }
  void make(const std::string& body, io::Duration deadline = 60s) {
    make({{.node = 3, .command = script(body), .deadline = deadline}});
  }
  std::future<FenceAgentOutcome> start(NodeId node = 3) {
    auto answered = std::make_shared<std::promise<FenceAgentOutcome>>();
    auto answer = answered->get_future();
    thread_.call([&] {
      const auto started = agents_->switch_off(node, [answered](FenceAgentOutcome made) noexcept {
        answered->set_value(std::move(made));
      });
      EXPECT_TRUE(started.has_value());
      EXPECT_TRUE(agents_->running(node));
      EXPECT_NE(answer.wait_for(0s), std::future_status::ready) << "from inside the call";
    });
    return answer;
  }
  FenceAgentOutcome run(NodeId node = 3) { return start(node).get(); }
  Errc refusal(NodeId node) {
    Errc code{};
    thread_.call([&] {
      const auto started = agents_->switch_off(
          node, [](FenceAgentOutcome) noexcept { ADD_FAILURE() << "answered a refusal"; });
      code = started ? Errc{} : started.error().code;
    });
    return code;
  }
  Errc create_error(FenceAgent agent, bool twice = false) {
    std::vector<FenceAgent> agents(twice ? 2 : 1, agent);
    const auto made = FenceAgents::create(thread_.loop(), agents);
    return made ? Errc{} : made.error().code;
  }

  std::string directory_;
  std::fstream tell_, go_;
  int scripts_ = 0;
  io::LoopThread thread_;
  std::unique_ptr<FenceAgents> agents_;
};

TEST_F(FenceAgentTest, StatusZeroIsTheProof) {
  make("echo Success: Powered OFF");
  const FenceAgentOutcome made = run();
  EXPECT_TRUE(made.off) << made.reason;
  EXPECT_EQ(made.reason, "");
  EXPECT_EQ(made.output, "Success: Powered OFF\n");
  thread_.call([&] { EXPECT_FALSE(agents_->running(3)); });
}

TEST_F(FenceAgentTest, EveryOtherEndIsNone) {
  make("echo trying; echo 'Unable to connect' >&2; exit 1");
  FenceAgentOutcome made = run();
  EXPECT_FALSE(made.off);
  EXPECT_EQ(made.reason, "exit status 1: Unable to connect");
  EXPECT_EQ(made.output, "trying\nUnable to connect\n");
  make("kill -TERM $$");
  made = run();
  EXPECT_FALSE(made.off);
  EXPECT_EQ(made.reason, "ended by signal 15");
  make("exit 2");
  EXPECT_EQ(run().reason, "exit status 2");
}

TEST_F(FenceAgentTest, OneThatCannotBeStartedIsNone) {
  make({{.node = 3, .command = {path("absent")}}});
  const FenceAgentOutcome made = run();
  EXPECT_FALSE(made.off);
  EXPECT_EQ(made.reason, "cannot start " + path("absent") + ": No such file or directory");
}

TEST_F(FenceAgentTest, ItsArgumentsAreGivenToIt) {
  auto command = script("printf '<%s>' \"$@\"");
  command.insert(command.end(), {"--ip=10.0.0.1", "--password=a b", ""});
  make({{.node = 3, .command = command}});
  EXPECT_EQ(run().output, "<--ip=10.0.0.1><--password=a b><>");
}

TEST_F(FenceAgentTest, AtItsDeadlineItIsKilledWithItsChildren) {
  make("trap '' TERM\nsleep 100 & echo $! > $TELL\necho $$ > $TELL\nwait", 300ms);
  auto answer = start();
  const pid_t child = told();
  const pid_t agent = told();
  const FenceAgentOutcome made = answer.get();
  EXPECT_FALSE(made.off);
  EXPECT_EQ(made.reason, "not ended within 300ms");
  EXPECT_FALSE(alive(agent));
  EXPECT_TRUE(dies(child));
}

// Nor does it matter that such a child has the output open.
TEST_F(FenceAgentTest, NothingOfItsGroupIsLeftAtItsEnd) {
  make("sleep 100 & echo $! > $TELL\necho off");
  auto answer = start();
  const pid_t child = told();
  const FenceAgentOutcome made = answer.get();
  EXPECT_TRUE(made.off) << made.reason;
  EXPECT_EQ(made.output, "off\n");
  EXPECT_TRUE(dies(child));
}

TEST_F(FenceAgentTest, OfItsOutputTheBeginningIsKeptAndTheRestDoesNotHoldItUp) {
  make("i=0; while [ $i -lt 30000 ]; do echo 0123456789; i=$((i+1)); done; exit 3");
  const FenceAgentOutcome made = run();
  EXPECT_EQ(made.output.size(), FenceAgents::kMaxOutput);
  EXPECT_THAT(made.reason, HasSubstr("exit status 3: 0123"));  // of what is kept
}

TEST_F(FenceAgentTest, ItHasAGroupOfItsOwnNoInputAndNothingThatIsOurs) {
  const int saved = ::dup(STDIN_FILENO);
  const int input = ::open(path("go").c_str(), O_RDWR);
  ::dup2(input, STDIN_FILENO);
  go();
  make(
      "read line && echo input\n"
      "[ $(ps -o pgid= $$) = $$ ] || echo group\n"
      "ls /proc/$$/fd\n"
      "grep SigBlk /proc/self/status");
  // Its own script is open, too, as 10 or 255 or not, depending on the shell.
  const std::string output = run().output;
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  ::close(input);
  EXPECT_THAT(output, testing::MatchesRegex("0\n1\n(10\n)?2\n(255\n)?SigBlk:\t0000000000000000\n"));
}

TEST_F(FenceAgentTest, OneRunOfANodeAtATime) {
  make({{.node = 3, .command = script("echo $$ > $TELL; read line < $GO")},
        {.node = 4, .command = script("exit 0")}});
  for (int i = 0; i < 2; ++i) {
    auto answer = start(3);
    told();
    EXPECT_EQ(refusal(3), Errc::busy);
    EXPECT_TRUE(run(4).off);
    EXPECT_EQ(refusal(5), Errc::not_found);
    go();
    EXPECT_TRUE(answer.get().off);
  }
}

TEST_F(FenceAgentTest, ItMayBeRunAgainFromWithinTheAnswer) {
  make("exit 0");
  std::promise<bool> second;
  thread_.call([&] {
    ASSERT_TRUE(agents_
                    ->switch_off(3,
                                 [&](FenceAgentOutcome) noexcept {
                                   const auto again =
                                       agents_->switch_off(3, [&](FenceAgentOutcome made) noexcept {
                                         second.set_value(made.off);
                                       });
                                   EXPECT_TRUE(again.has_value());
                                 })
                    .has_value());
  });
  EXPECT_TRUE(second.get_future().get());
}

TEST_F(FenceAgentTest, TheOwnersEndEndsWhatRunsAndNobodyIsTold) {
  make("echo $$ > $TELL; exec sleep 100");
  thread_.call([&] {
    ASSERT_TRUE(
        agents_->switch_off(3, [](FenceAgentOutcome) noexcept { ADD_FAILURE() << "answered"; })
            .has_value());
  });
  const pid_t agent = told();
  thread_.call([&] { agents_.reset(); });
  EXPECT_FALSE(alive(agent));
  thread_.call([] {});
}

TEST_F(FenceAgentTest, AConfigurationThatCannotWorkIsRefused) {
  const FenceAgent good{.node = 1, .command = {"/bin/true"}};
  EXPECT_EQ(create_error(good), Errc{});
  EXPECT_EQ(create_error(good, true), Errc::invalid_argument);
  EXPECT_EQ(create_error({.node = kNoNode, .command = {"/bin/true"}}), Errc::invalid_argument);
  EXPECT_EQ(create_error({.node = 1, .command = {}}), Errc::invalid_argument);
  EXPECT_EQ(create_error({.node = 1, .command = {"true"}}), Errc::invalid_argument);
  EXPECT_EQ(create_error({.node = 1, .command = {"/bin/true"}, .deadline = 0s}),
            Errc::invalid_argument);
}

}  // namespace
}  // namespace holdfast::qdisk
