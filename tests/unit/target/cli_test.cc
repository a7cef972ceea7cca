#include "target/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/daemon/control_message.h"
#include "target/cli_tables.h"
#include "target/control_json.h"
#include "tests/unit/target/fake_node.h"

namespace holdfast::target {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct Ran {
  int status = -1;
  std::string out, err;
  std::vector<std::string> requests;
};

// Parses and runs one command line against a daemon that gives this answer.
Ran run(std::vector<std::string> words, std::expected<std::string, std::string> answer) {
  Ran ran;
  std::ostringstream out, err;
  CLI::App program;
  TargetCommand command;
  add_target_commands(program, command);
  std::reverse(words.begin(), words.end());
  words.push_back("target");
  try {
    program.parse(words);
  } catch (const CLI::ParseError& error) {
    ran.status = program.exit(error, out, err) == 0 ? kExitOk : kExitUsage;
    ran.out = out.str();
    ran.err = err.str();
    return ran;
  }
  ran.status = run_target_command(
      command,
      [&](const std::string& socket, const std::string& request) {
        ran.requests.push_back(socket + " " + request);
        return answer;
      },
      out, err);
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

std::string done() {
  return daemon::to_line(to_json(NodeControl::Outcome({"did it", "and that"})));
}

std::string status_line(const NodeStatus& status = sample_status()) {
  json answer = json::object();
  answer["ok"] = true;
  answer["status"] = to_json(status);
  return daemon::to_line(answer);
}

TEST(Cli, SendsWhatTheUserAsked) {
  const auto request = [](std::vector<std::string> words) {
    const Ran ran = run(std::move(words), done());
    EXPECT_EQ(ran.status, kExitOk) << ran.err;
    EXPECT_EQ(ran.out, "did it\nand that\n");
    EXPECT_EQ(ran.err, "");
    return ran.requests.empty() ? "" : ran.requests[0];
  };
  const std::string socket = "/run/holdfast/target.sock ";
  EXPECT_EQ(request({"apply", "/etc/holdfast/t.toml"}),
            socket + "{\"command\":\"apply\",\"file\":\"/etc/holdfast/t.toml\"}\n");
  EXPECT_EQ(
      request({"disk", "resize", "csv1", "128GiB"}),
      socket + "{\"command\":\"disk_resize\",\"name\":\"csv1\",\"size_bytes\":137438953472}\n");
  EXPECT_EQ(request({"disk", "remove", "csv1"}),
            socket + "{\"command\":\"disk_remove\",\"name\":\"csv1\"}\n");
  EXPECT_EQ(request({"session", "drop", "42"}),
            socket + "{\"command\":\"session_drop\",\"id\":42}\n");
  EXPECT_EQ(request({"session", "logout", "42", "--socket", "/x"}),
            "/x {\"command\":\"session_logout\",\"id\":42}\n");
  EXPECT_EQ(request({"alua", "set", "2", "active/non-optimized"}),
            socket +
                "{\"command\":\"alua_set\",\"portal_group_tag\":2,\"state\":"
                "\"active/non-optimized\"}\n");
}

TEST(Cli, RelativeFilesAreMadeAbsolute) {
  const Ran ran = run({"apply", "t.toml"}, done());
  EXPECT_THAT(ran.requests[0],
              HasSubstr("\"file\":\"" + (std::filesystem::current_path() / "t.toml").string()));
}

TEST(Cli, DescribesDisks) {
  const Ran ran =
      run({"disk", "create", "new", "--kind", "file", "--path", "/srv/new", "--size", "1GiB",
           "--thick", "--block-size", "4096", "--read-only", "--removable", "--write-cache", "off"},
          done());
  ASSERT_EQ(ran.requests.size(), 1u) << ran.err;
  const json request = json::parse(ran.requests[0].substr(ran.requests[0].find(' ')));
  const auto disk = disk_from_json(request["disk"]);
  ASSERT_TRUE(disk.has_value());
  EXPECT_EQ(disk->name, "new");
  EXPECT_EQ(disk->backing.path, "/srv/new");
  EXPECT_EQ(disk->backing.size_bytes, 1u << 30);
  EXPECT_FALSE(disk->backing.thin);
  EXPECT_EQ(disk->backing.block_size, 4096u);
  EXPECT_TRUE(disk->backing.read_only);
  EXPECT_TRUE(disk->removable);
  EXPECT_EQ(disk->write_cache, std::optional<bool>(false));
}

TEST(Cli, WrongUsageIsTwo) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{},
                                             {"frobnicate"},
                                             {"disk"},
                                             {"apply"},
                                             {"status", "--bogus"},
                                             {"disk", "create"},
                                             {"disk", "create", "a", "--kind", "zfs"},
                                             {"disk", "create", "a", "--size", "12 parsecs"},
                                             {"disk", "create", "a", "--write-cache", "maybe"},
                                             {"disk", "resize", "a"},
                                             {"disk", "resize", "a", "0"},
                                             {"session", "drop", "all"},
                                             {"session", "drop", "-1"},
                                             {"alua", "set", "0", "standby"},
                                             {"alua", "set", "70000", "standby"},
                                             {"alua", "set", "1", "sleeping"}}) {
    const Ran ran = run(words, done());
    EXPECT_EQ(ran.status, kExitUsage) << testing::PrintToString(words);
    EXPECT_NE(ran.err, "");
    EXPECT_TRUE(ran.requests.empty());
  }
  EXPECT_EQ(run({"--help"}, done()).status, kExitOk);
}

TEST(Cli, RefusalIsOneWithItsReasons) {
  const std::string refused =
      daemon::to_line(daemon::refusal({"t.toml:3: bad", "t.toml:9: worse"}));
  Ran ran = run({"apply", "t.toml"}, refused);
  EXPECT_EQ(ran.status, kExitRefused);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, "t.toml:3: bad\nt.toml:9: worse\n");
  ran = run({"apply", "t.toml", "--json"}, refused);
  EXPECT_EQ(ran.status, kExitRefused);
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(json::parse(ran.out)["problems"][1], "t.toml:9: worse");
}

TEST(Cli, UnreachableDaemonIsTwo) {
  const Ran ran = run({"status"}, std::unexpected("no daemon answers"));
  EXPECT_EQ(ran.status, kExitUsage);
  EXPECT_EQ(ran.err, "no daemon answers\n");
}

TEST(Cli, AnswerOfAnotherKindIsTwo) {
  for (const char* answer :
       {"", "x\n", "{}\n", "[]\n", "{\"ok\":1}\n", "{\"ok\":true}\n",
        "{\"ok\":true,\"status\":[]}\n", "{\"ok\":true,\"status\":{\"disks\":7}}\n"}) {
    const Ran ran = run({"status"}, answer);
    EXPECT_EQ(ran.status, kExitUsage) << answer;
    EXPECT_THAT(ran.err, HasSubstr("not understood"));
  }
}

TEST(Cli, StatusShowsEverything) {
  const Ran ran = run({"status"}, status_line());
  EXPECT_EQ(ran.status, kExitOk);
  for (const char* text :
       {"Holdfast target 0.1.0, up 1h 2m, 2 threads\n",
        "Connections: 12 accepted, 1 refused; 2 logins failed, 3 PDUs rejected\n",
        "Buffers: 1 MiB of 128 MiB in use\n", "10.1.0.10:3260  1      listening\n",
        "1      active/optimized\n", "csv1", "64 GiB", "iqn.2026-11.org.holdfast:store LUN 1",
        "42  iqn.2026-11.org.holdfast:hv1"}) {
    EXPECT_THAT(ran.out, HasSubstr(text));
  }
  EXPECT_THAT(ran.out, Not(HasSubstr("Problems")));
}

TEST(Cli, StatusWithAProblemIsOne) {
  NodeStatus status = sample_status();
  status.disks[0].state = "failed: /srv/csv1.img: Input/output error";
  status.portals[1].state = "failed: address not available";
  Ran ran = run({"status"}, status_line(status));
  EXPECT_EQ(ran.status, kExitRefused);
  EXPECT_THAT(ran.out,
              HasSubstr("\nProblems:\n  portal 10.2.0.10:3260: failed: address not available\n"
                        "  disk csv1: failed: /srv/csv1.img: Input/output error\n"));
  EXPECT_EQ(run({"status", "--json"}, status_line(status)).status, kExitRefused);
  EXPECT_EQ(run({"disk", "list"}, status_line(status)).status, kExitOk);
}

TEST(Cli, ListsAsText) {
  EXPECT_THAT(run({"disk", "list"}, status_line()).out,
              StartsWith("DISK  KIND  SIZE    STATE  FROM  MAPPED AS"));
  EXPECT_THAT(run({"session", "list"}, status_line()).out, HasSubstr("00023d000001"));
  EXPECT_THAT(run({"reservation", "list"}, status_line()).out,
              HasSubstr("csv1  write exclusive, registrants only  yes     "
                        "iqn.2026-11.org.holdfast:hv1  00023d000001  1      0xfedcba9876543210"));
  EXPECT_THAT(run({"stats"}, status_line()).out, HasSubstr("150us / 128us / 1.0ms"));
  EXPECT_EQ(run({"alua", "list"}, status_line()).out,
            "GROUP  ALUA STATE\n1      active/optimized\n2      standby\n");
  const std::string empty = status_line(NodeStatus{});
  EXPECT_EQ(run({"disk", "list"}, empty).out, "No disks.\n");
  EXPECT_EQ(run({"session", "list"}, empty).out, "No sessions.\n");
  EXPECT_EQ(run({"reservation", "list"}, empty).out,
            "No disk is reserved and no initiator is registered.\n");
}

TEST(Cli, ListsAsJson) {
  const auto part = [](std::vector<std::string> words) {
    words.push_back("--json");
    return json::parse(run(std::move(words), status_line()).out);
  };
  EXPECT_EQ(part({"status"})["version"], "0.1.0");
  EXPECT_EQ(part({"disk", "list"})[0]["config"]["name"], "csv1");
  EXPECT_EQ(part({"session", "list"})[0]["id"], 42);
  EXPECT_EQ(part({"reservation", "list"})[0]["reservation"]["generation"], 7);
  EXPECT_EQ(part({"stats"})[0]["disk"], "csv1");
  EXPECT_EQ(part({"stats"})[0]["counters"]["reads"], 100);
  EXPECT_EQ(part({"alua", "list"})[1]["state"], "standby");
}

TEST(Cli, PeersCannotDriveTheTerminal) {
  NodeStatus status = sample_status();
  status.sessions[0].initiator_name = "iqn\x1b[2Jevil\n";
  const Ran ran = run({"session", "list"}, status_line(status));
  EXPECT_THAT(ran.out, HasSubstr("iqn?[2Jevil?"));
  EXPECT_EQ(run({"disk", "remove", "a"}, daemon::to_line(daemon::refusal({"a\x1b]0;x"}))).err,
            "a?]0;x\n");
}

TEST(Cli, ChecksAFileWithoutTheDaemon) {
  std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-cli-XXXXXX");
  const std::string directory = ::mkdtemp(pattern.data());
  const std::string path = directory + "/t.toml";
  std::ofstream(path) << "[[disk]]\nname = \"a\"\nkind = \"memory\"\nsize = \"1MiB\"\n";
  Ran ran = run({"check", path}, std::unexpected("unused"));
  EXPECT_EQ(ran.status, kExitOk);
  EXPECT_EQ(ran.out, path + ": no errors; 0 portal groups, 1 disks, 0 targets\n");
  EXPECT_TRUE(ran.requests.empty());
  std::ofstream(path) << "[[portal_group]]\ntag = 1\nportals = [\"10.1.0.1:3260\"]\n[[target]]\n"
                         "name = \"iqn.2026-11.org.holdfast:s\"\nportal_groups = [1]\n"
                         "luns = [{ lun = 0, disk = \"made\" }]\n";
  ran = run({"check", path}, std::unexpected("unused"));
  EXPECT_EQ(ran.status, kExitOk);
  EXPECT_THAT(ran.out, HasSubstr("unless the daemon has it: " + path + ":7: no disk is named"));
  std::ofstream(path) << "x = 1\n\ny = 2\n";
  ran = run({"check", path}, std::unexpected("unused"));
  EXPECT_EQ(ran.status, kExitRefused);
  EXPECT_EQ(ran.err, path + ":1: unknown key `x`\n" + path + ":3: unknown key `y`\n");
  std::filesystem::remove_all(directory);
}

TEST(Cli, Percentiles) {
  LatencyHistogram latency;
  EXPECT_EQ(percentile_us(latency, 0.99), 0u);
  latency.buckets[3] = 98;
  latency.buckets[9] = 2;
  EXPECT_EQ(percentile_us(latency, 0.5), 8u);
  EXPECT_EQ(percentile_us(latency, 0.98), 8u);
  EXPECT_EQ(percentile_us(latency, 0.99), 512u);
  EXPECT_EQ(percentile_us(latency, 1.0), 512u);
}

}  // namespace
}  // namespace holdfast::target
