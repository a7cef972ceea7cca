#include "mpio/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/daemon/control_message.h"
#include "mpio/cli_tables.h"
#include "tests/unit/mpio/sample_status.h"

namespace holdfast::mpio {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Ran {
  int status = -1;
  std::string out, err;
  std::vector<std::string> requests;
  uint32_t paused_ms = 0;
};

std::string devices(const DeviceStatus& status = sample_status()) {
  return daemon::to_line({{"ok", true}, {"devices", json::array({to_json(status)})}});
}

// Parses and runs one command line against a daemon that gives these answers, the last for ever.
Ran run(std::vector<std::string> words, std::vector<std::string> answers) {
  Ran ran;
  std::ostringstream out, err;
  CLI::App program;
  PathCommand command;
  add_path_commands(program, command);
  std::reverse(words.begin(), words.end());
  words.push_back("path");
  try {
    program.parse(words);
  } catch (const CLI::ParseError& error) {
    ran.status = program.exit(error, out, err) == 0 ? kExitOk : kExitUsage;
    return ran;
  }
  const daemon::Exchange exchange =
      [&](const std::string& socket,
          const std::string& request) -> std::expected<std::string, std::string> {
    ran.requests.push_back(socket + " " + request);
    if (answers.empty()) return std::unexpected("no daemon");
    return answers[std::min(ran.requests.size(), answers.size()) - 1];
  };
  ran.status = run_path_command(
      command, exchange,
      {.out = out, .err = err, .pause = [&](uint32_t ms) { ran.paused_ms += ms; }});
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

TEST(PathCli, SendsWhatTheUserAsked) {
  const auto request = [](std::vector<std::string> words) {
    return run(std::move(words), {daemon::to_line({{"ok", true}})}).requests.at(0);
  };
  EXPECT_EQ(request({"list"}), "/run/holdfast/mpiod.sock {\"command\":\"list\"}\n");
  EXPECT_EQ(request({"list", "csv1", "--socket", "/s"}),
            "/s {\"command\":\"list\",\"device\":\"csv1\"}\n");
  EXPECT_THAT(request({"policy", "csv1", "failover"}), HasSubstr("\"policy\":\"failover\""));
  EXPECT_THAT(request({"disable", "csv1", "p"}),
              HasSubstr("{\"command\":\"disable\",\"device\":\"csv1\",\"path\":\"p\"}"));
  EXPECT_THAT(request({"enable", "csv1", "p"}), HasSubstr("\"command\":\"enable\""));
  EXPECT_THAT(request({"explain", "csv1"}), HasSubstr("\"command\":\"explain\""));
  EXPECT_THAT(request({"fence-test", "csv1"}), HasSubstr("\"command\":\"fence_test\""));
}

TEST(PathCli, WrongUsageIsTwo) {
  for (std::vector<std::string> words : {std::vector<std::string>{},
                                         {"policy", "csv1"},
                                         {"policy", "csv1", "fast"},
                                         {"disable", "csv1"},
                                         {"explain"},
                                         {"fence-test"},
                                         {"bogus"}}) {
    EXPECT_EQ(run(words, {}).status, kExitUsage);
  }
  EXPECT_EQ(run({"list"}, {}).status, kExitUsage);
  EXPECT_EQ(run({"list"}, {"rubbish\n"}).status, kExitUsage);
}

TEST(PathCli, RefusalIsOneWithItsReasons) {
  const std::string refused = daemon::to_line(daemon::refusal({"no\x1b such path"}));
  Ran ran = run({"disable", "csv1", "p"}, {refused});
  EXPECT_EQ(ran.status, kExitRefused);
  EXPECT_EQ(ran.err, "no? such path\n");
  ran = run({"disable", "csv1", "p", "--json"}, {refused});
  EXPECT_EQ(daemon::parse_line(ran.out).value()["ok"], false);
}

TEST(PathCli, ListShowsPathsAndOrigins) {
  const std::string out = run({"list"}, {devices()}).out;
  for (const char* word :
       {"csv1  naa.6", "LUN 0, 64 GiB, policy adaptive", "NBD /run/csv1.nbd", "10.2.0.10:3260",
        "active/optimized", "180us", "1m 0s", "probe passed", "m.toml:9"}) {
    EXPECT_THAT(out, HasSubstr(word));
  }
  EXPECT_THAT(out, Not(HasSubstr("warning")));
  EXPECT_EQ(run({"list"}, {"{\"ok\":true,\"devices\":[]}\n"}).out, "No devices.\n");
}

TEST(PathCli, ListSurvivesAnOtherVersion) {
  EXPECT_THAT(run({"list"}, {"{\"ok\":true,\"devices\":[{\"name\":5,\"paths\":{}}]}\n"}).out,
              HasSubstr("not reached yet"));
}

TEST(PathCli, TopShowsRates) {
  DeviceStatus later = sample_status();
  later.paths[0].reads += 500;
  later.paths[0].bytes_read += 1 << 20;
  const Ran ran = run({"top", "-n", "1", "--json"}, {devices(), devices(later)});
  EXPECT_EQ(ran.status, kExitOk);
  EXPECT_EQ(ran.paused_ms, 500u);
  const json shown = json::parse(ran.out);
  EXPECT_EQ(shown[0]["reads_per_s"], 1000);
  EXPECT_EQ(shown[0]["bytes_read_per_s"], 2 << 20);
  EXPECT_EQ(shown[1]["reads_per_s"], 0);
  const Ran text = run({"top", "-n", "2"}, {devices(), devices(later)});
  EXPECT_EQ(text.requests.size(), 3u);
  EXPECT_THAT(text.out, HasSubstr("2 MiB"));
}

TEST(PathCli, CountersThatBeganAnewAreNoRate) {
  DeviceStatus later = sample_status();
  later.paths[0].reads = 3;
  EXPECT_EQ(rates(json::array({to_json(sample_status())}), json::array({to_json(later)}),
                  1000)[0]["reads_per_s"],
            0);
}

TEST(PathCli, FenceTestThatFailedIsOne) {
  EXPECT_EQ(run({"fence-test", "csv1"}, {R"({"ok":true,"reinstated":true,"lines":["a"]})"
                                         "\n"})
                .status,
            kExitOk);
  const Ran ran = run({"fence-test", "csv1"}, {R"({"ok":true,"reinstated":false,"lines":["b"]})"
                                               "\n"});
  EXPECT_EQ(ran.status, kExitRefused);
  EXPECT_EQ(ran.out, "b\n");
}

}  // namespace
}  // namespace holdfast::mpio
