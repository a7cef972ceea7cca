#include "target/control_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/log.h"
#include "common/daemon/control_message.h"
#include "target/control_json.h"
#include "tests/unit/target/fake_node.h"

namespace holdfast::target {
namespace {

using daemon::parse_line;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class ControlRequestsTest : public testing::Test {
 protected:
  ControlRequestsTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-ctl-XXXXXX");
    directory_ = ::mkdtemp(pattern.data());
  }
  ~ControlRequestsTest() override { std::filesystem::remove_all(directory_); }

  std::string ask(const std::string& request) {
    std::string answer;
    const auto read_at_once = [](io::Task task) {
      task();
      return true;
    };
    carry_out(request + "\n", {.node = node_, .read_files = read_at_once},
              [&answer](daemon::StreamServer::Answer made) { answer = made(); });
    return answer;
  }
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
    return directory_ + "/" + name;
  }

  std::string directory_;
  FakeNode node_;
};

constexpr const char* kDone = "{\"lines\":[\"done\"],\"ok\":true}\n";

TEST_F(ControlRequestsTest, CallsTheNode) {
  const std::string config = file("t.toml", "[[disk]]\nname=\"a\"\nkind=\"memory\"\nsize=512\n");
  EXPECT_EQ(ask(R"({"command":"apply","file":")" + config + "\"}"), kDone);
  EXPECT_EQ(ask(R"({"command":"apply","force":true,"file":")" + config + "\"}"), kDone);
  EXPECT_EQ(ask(R"({"command":"disk_create","disk":{"name":"b","backing":{"path":"/srv/b",)"
                R"("size_bytes":4096}}})"),
            kDone);
  EXPECT_EQ(ask(R"({"command":"disk_resize","name":"b","size_bytes":8192})"), kDone);
  EXPECT_EQ(ask(R"({"command":"disk_remove","name":"b"})"), kDone);
  EXPECT_EQ(ask(R"({"command":"session_drop","id":7})"), kDone);
  EXPECT_EQ(ask(R"({"command":"session_logout","id":8})"), kDone);
  EXPECT_EQ(ask(R"({"command":"alua_set","portal_group_tag":1,"state":"standby"})"), kDone);
  EXPECT_THAT(node_.calls(),
              ElementsAre("apply disks=1", "apply disks=1 force", "disk_create b /srv/b 4096",
                          "disk_resize b 8192", "disk_remove b", "session_drop 7",
                          "session_logout 8", "alua_set 1 standby"));
}

TEST_F(ControlRequestsTest, ReportsStatusAndRefusals) {
  const auto answer = parse_line(ask(R"({"command":"status"})"));
  ASSERT_TRUE(answer.has_value());
  const auto status = status_from_json((*answer)["status"]);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(to_json(*status), to_json(sample_status()));
  node_.outcome = std::unexpected(std::vector<std::string>{"disk b is in use", "unmap it first"});
  EXPECT_EQ(ask(R"({"command":"disk_remove","name":"b"})"),
            "{\"ok\":false,\"problems\":[\"disk b is in use\",\"unmap it first\"]}\n");
}

TEST_F(ControlRequestsTest, WrongConfigurationNeverReachesTheNode) {
  const std::string config = file("bad.toml", "threads = -1\nbogus = 1\n");
  const std::string answer = ask(R"({"command":"apply","file":")" + config + "\"}");
  EXPECT_THAT(answer, HasSubstr(config + ":1: `threads` must be"));
  EXPECT_THAT(answer, HasSubstr(config + ":2: unknown key `bogus`"));
  EXPECT_THAT(answer, HasSubstr("\"ok\":false"));
  EXPECT_THAT(node_.calls(), ElementsAre());
}

// A file on storage that hangs.
TEST_F(ControlRequestsTest, FilesAreReadElsewhere) {
  std::vector<io::Task> reads;
  const ControlParts parts{.node = node_, .read_files = [&reads](io::Task task) {
                             if (reads.size() == 1) return false;
                             reads.push_back(std::move(task));
                             return true;
                           }};
  const std::string config = file("t.toml", "[[disk]]\nname=\"a\"\nkind=\"memory\"\nsize=512\n");
  std::string answer;
  const auto ask_apply = [&] {
    carry_out(R"({"command":"apply","file":")" + config + "\"}", parts,
              [&answer](daemon::StreamServer::Answer made) { answer = made(); });
  };
  ask_apply();
  EXPECT_EQ(answer, "");
  EXPECT_THAT(node_.calls(), ElementsAre());
  ask_apply();
  EXPECT_THAT(answer, HasSubstr("earlier files are still being read"));
  reads[0]();
  EXPECT_EQ(answer, kDone);
  EXPECT_THAT(node_.calls(), ElementsAre("apply disks=1"));
}

// The client may have gone by the time the outcome is known.
TEST_F(ControlRequestsTest, WhatIsRefusedIsLogged) {
  std::string log;
  base::set_log_sink([&log](base::LogLevel, std::string_view, std::string_view message) {
    log += std::string(message) + "\n";
  });
  node_.outcome = std::unexpected(std::vector<std::string>{"disk b is never shrunk"});
  const std::string config = file("t.toml", "[[disk]]\nname=\"a\"\nkind=\"memory\"\nsize=512\n");
  ask(R"({"command":"apply","file":")" + config + "\"}");
  base::set_log_sink(nullptr);
  EXPECT_THAT(log, HasSubstr("t.toml: disk b is never shrunk"));
}

TEST_F(ControlRequestsTest, WrongRequestsNeverReachTheNode) {
  for (const char* request :
       {"", "x", "[]", "{}", R"({"command":1})", R"({"command":"format_everything"})",
        R"({"command":"apply"})", R"({"command":"apply","file":"relative.toml"})",
        R"({"command":"disk_create"})", R"({"command":"disk_create","disk":{"name":"../x"}})",
        R"({"command":"disk_resize","name":"a"})",
        R"({"command":"disk_resize","name":"a","size_bytes":0})",
        R"({"command":"disk_remove","name":5})", R"({"command":"session_drop","id":-1})",
        R"({"command":"session_logout","id":"7"})",
        R"({"command":"alua_set","portal_group_tag":65536,"state":"standby"})"}) {
    EXPECT_THAT(ask(request), StartsWith("{\"ok\":false,\"problems\":[\"")) << request;
  }
  EXPECT_THAT(node_.calls(), ElementsAre());
}

}  // namespace
}  // namespace holdfast::target
