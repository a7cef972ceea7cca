#include "qdisk/cli.h"

#include <gmock/gmock.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/qdisk/witness_fixture.h"

namespace holdfast::qdisk {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

struct Ran {
  int status = -1;
  std::string out, err;
};

class QuorumCliTest : public WitnessTest {
 protected:
  static Ran run(std::vector<std::string> words) {
    Ran ran;
    std::ostringstream out, err;
    CLI::App program;
    QuorumCommand command;
    add_quorum_commands(program, command);
    std::reverse(words.begin(), words.end());
    words.insert(words.end(), {"witness", "quorum"});
    try {
      program.parse(words);
    } catch (const CLI::ParseError& error) {
      ran.status = program.exit(error, out, err) == 0 ? kExitOk : kExitUsage;
      return ran;
    }
    base::SeededRandom random(1);
    const auto no_daemon = [](const std::string&, const std::string&) {
      return std::expected<std::string, std::string>(std::unexpected("no daemon is asked"));
    };
    ran.status = run_quorum_command(command, random, no_daemon, out, err);
    ran.out = out.str();
    ran.err = err.str();
    return ran;
  }
};

TEST_F(QuorumCliTest, FormatsAndShows) {
  const Ran made = run({"format", path(), "--cluster", "store"});
  EXPECT_EQ(made.status, kExitOk) << made.err;
  const auto superblock = contents()->superblock.value;
  ASSERT_TRUE(superblock.has_value());
  EXPECT_EQ(superblock->cluster_name, "store");
  EXPECT_EQ(superblock->timers, Timers());
  EXPECT_EQ(superblock->generation, 1U);
  EXPECT_EQ(to_text(superblock->witness)[14], '4');
  EXPECT_NE(superblock->witness, superblock->cluster);
  EXPECT_THAT(made.out, AllOf(HasSubstr(to_text(superblock->witness)),
                              HasSubstr(to_text(superblock->cluster)), HasSubstr("`store`")));
  const Ran shown = run({"show", path()});
  EXPECT_EQ(shown.status, kExitOk);
  EXPECT_THAT(shown.out, HasSubstr(to_text(superblock->witness)));
}

TEST_F(QuorumCliTest, TakesTimesBeforeAndBehindTheDevice) {
  const Ran made = run({"format", "--profile", "lan-fast", "--timer", "lease=5s", path(), "--timer",
                        "takeover=10s", "--cluster", "a", "--json"});
  ASSERT_EQ(made.status, kExitOk) << made.out;
  const json report = json::parse(made.out);
  EXPECT_EQ(report["ok"], true);
  EXPECT_EQ(report["superblock"]["timers"]["lease_ms"], 5000);
  EXPECT_EQ(report["superblock"]["timers"]["takeover_ms"], 10000);
  EXPECT_EQ(report["superblock"]["timers"]["hb_net_ms"], 250);
  const json shown = json::parse(run({"show", path(), "--json"}).out);
  EXPECT_EQ(shown["superblock"], report["superblock"]);
  EXPECT_EQ(shown["device"], path());
}

TEST_F(QuorumCliTest, AllConditionsThatTheTimesBreakAreNamed) {
  const Ran made = run({"format", path(), "--cluster", "a", "--timer", "lease=14s", "--timer",
                        "takeover=20s", "--timer", "hb_net=4s"});
  EXPECT_EQ(made.status, kExitRefused);
  EXPECT_THAT(made.err, AllOf(HasSubstr("takeover 20000ms is too short"),
                              HasSubstr("net_dead + 2 hb_disk"), HasSubstr("3 hb_net")));
  EXPECT_TRUE(contents()->superblock.empty());
}

TEST_F(QuorumCliTest, WrongUsageIsTwo) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{},
        {"format", path()},
        {"format", "--cluster", "a"},
        {"show"},
        {"format", path(), "--cluster", "a", "--profile", "wan"},
        {"format", path(), "--cluster", "a b"},
        {"format", path(), "--cluster", std::string(65, 'a')},
        {"format", path(), "--cluster", "a", "--timer", "lease=x"}}) {
    EXPECT_EQ(run(words).status, kExitUsage) << testing::PrintToString(words);
  }
}

TEST_F(QuorumCliTest, WhatIsThereIsKeptUnlessForced) {
  format();
  const Ran refused = run({"format", path(), "--cluster", "a"});
  EXPECT_EQ(refused.status, kExitRefused);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("of the cluster `store`"), HasSubstr("--force")));
  EXPECT_EQ(contents()->superblock.value, sample_superblock());
  const Ran as_json = run({"format", path(), "--cluster", "a", "--json"});
  EXPECT_EQ(json::parse(as_json.out)["ok"], false);
  EXPECT_EQ(as_json.err, "");
  EXPECT_EQ(run({"format", path(), "--cluster", "a", "--force"}).status, kExitOk);
  EXPECT_EQ(contents()->superblock.value->cluster_name, "a");
}

TEST_F(QuorumCliTest, TooSmallIsRefused) {
  resize(kMinWitnessBytes - 512);
  for (const char* verb : {"show", "format"}) {
    std::vector<std::string> words = {verb, path()};
    if (*verb == 'f') words.insert(words.end(), {"--cluster", "a", "--force"});
    const Ran made = run(words);
    EXPECT_EQ(made.status, kExitRefused);
    EXPECT_THAT(made.err, HasSubstr("64 MiB"));
  }
}

TEST_F(QuorumCliTest, DamageIsShownAndIsNoSuccess) {
  format();
  fill();
  poke(ballot_offset(2) + 100, std::vector<uint8_t>{0xee});
  const Ran shown = run({"show", path()});
  EXPECT_EQ(shown.status, kExitRefused);
  EXPECT_THAT(shown.out, AllOf(HasSubstr("ballot block of node 2"), HasSubstr("Heartbeats")));
}

TEST_F(QuorumCliTest, AnErrorIsSaidInTheFormAskedFor) {
  const std::string none = path() + ".none";
  const Ran text = run({"show", none});
  EXPECT_EQ(text.status, kExitRefused);
  EXPECT_EQ(text.err, none + ": no such file or device\n");
  EXPECT_EQ(text.out, "");
  const Ran as_json = run({"show", none, "--json"});
  EXPECT_EQ(json::parse(as_json.out)["problems"][0], none + ": no such file or device");
}

}  // namespace
}  // namespace holdfast::qdisk
