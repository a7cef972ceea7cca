#include "target/control_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "target/cli.h"
#include "target/control_json.h"
#include "target/notify.h"
#include "tests/unit/target/fake_node.h"

namespace holdfast::target {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// Over a unix socket in a directory of its own; deadlines are short where they must pass.
class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-ctl-XXXXXX");
    directory_ = ::mkdtemp(pattern.data());
    options_.path = directory_ + "/run/target.sock";
  }
  ~ControlServerTest() override {
    for (const int fd : clients_) ::close(fd);
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  void start() {
    auto started = ControlServer::start(options_, node_);
    ASSERT_TRUE(started.has_value()) << started.error();
    server_ = std::move(*started);
  }
  std::string start_error() {
    auto started = ControlServer::start(options_, node_);
    return started ? "started" : started.error();
  }
  int connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, options_.path.data(), options_.path.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval patience{.tv_sec = 30, .tv_usec = 0};  // a test fails rather than hangs
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    clients_.push_back(fd);
    return fd;
  }
  static void send(int fd, const std::string& text) {
    size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t count = ::send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;
      sent += static_cast<size_t>(count);
    }
  }
  // One line, or what came before the end of the connection.
  static std::string receive(int fd) {
    std::string line;
    char c = 0;
    while (!line.ends_with('\n') && ::recv(fd, &c, 1, 0) == 1) line += c;
    return line;
  }
  std::string ask(const std::string& request) {
    const int fd = connect();
    send(fd, request + "\n");
    return receive(fd);
  }
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
    return directory_ + "/" + name;
  }

  std::string directory_;
  ControlServerOptions options_;
  FakeNode node_;
  std::vector<int> clients_;
  std::unique_ptr<ControlServer> server_;
};

constexpr const char* kDone = "{\"lines\":[\"done\"],\"ok\":true}\n";

TEST_F(ControlServerTest, SocketIsPrivateAndRemovedAtTheEnd) {
  start();
  struct stat info{};
  ASSERT_EQ(::stat(options_.path.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 0777u, 0600u);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(options_.path));
}

TEST_F(ControlServerTest, OnlyRootAndTheOwnUserAreAllowed) {
  EXPECT_TRUE(control_allowed(0, 1000));
  EXPECT_TRUE(control_allowed(1000, 1000));
  EXPECT_FALSE(control_allowed(1001, 1000));
  EXPECT_FALSE(control_allowed(1000, 0));
}

TEST_F(ControlServerTest, CallsTheNode) {
  start();
  const std::string config = file("t.toml", "[[disk]]\nname=\"a\"\nkind=\"memory\"\nsize=512\n");
  EXPECT_EQ(ask(R"({"command":"apply","file":")" + config + "\"}"), kDone);
  EXPECT_EQ(ask(R"({"command":"disk_create","disk":{"name":"b","backing":{"path":"/srv/b",)"
                R"("size_bytes":4096}}})"),
            kDone);
  EXPECT_EQ(ask(R"({"command":"disk_resize","name":"b","size_bytes":8192})"), kDone);
  EXPECT_EQ(ask(R"({"command":"disk_remove","name":"b"})"), kDone);
  EXPECT_EQ(ask(R"({"command":"session_drop","id":7})"), kDone);
  EXPECT_EQ(ask(R"({"command":"session_logout","id":8})"), kDone);
  EXPECT_EQ(ask(R"({"command":"alua_set","portal_group_tag":1,"state":"standby"})"), kDone);
  EXPECT_THAT(node_.calls(), ElementsAre("apply disks=1", "disk_create b /srv/b 4096",
                                         "disk_resize b 8192", "disk_remove b", "session_drop 7",
                                         "session_logout 8", "alua_set 1 standby"));
}

TEST_F(ControlServerTest, ReportsStatusAndRefusals) {
  start();
  const auto answer = parse_line(ask(R"({"command":"status"})"));
  ASSERT_TRUE(answer.has_value());
  const auto status = status_from_json((*answer)["status"]);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(to_json(*status), to_json(sample_status()));
  node_.outcome = std::unexpected(std::vector<std::string>{"disk b is in use", "unmap it first"});
  EXPECT_EQ(ask(R"({"command":"disk_remove","name":"b"})"),
            "{\"ok\":false,\"problems\":[\"disk b is in use\",\"unmap it first\"]}\n");
}

TEST_F(ControlServerTest, WrongConfigurationNeverReachesTheNode) {
  start();
  const std::string config = file("bad.toml", "threads = -1\nbogus = 1\n");
  const std::string answer = ask(R"({"command":"apply","file":")" + config + "\"}");
  EXPECT_THAT(answer, HasSubstr(config + ":1: `threads` must be"));
  EXPECT_THAT(answer, HasSubstr(config + ":2: unknown key `bogus`"));
  EXPECT_THAT(answer, HasSubstr("\"ok\":false"));
  EXPECT_THAT(node_.calls(), ElementsAre());
}

TEST_F(ControlServerTest, WrongRequestsNeverReachTheNode) {
  start();
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

// A client that goes and the end of the server wake its thread at once; the end was lost then.
TEST_F(ControlServerTest, EndsWhileClientsGo) {
  for (int round = 0; round < 100; ++round) {
    start();
    for (int i = 0; i < 4; ++i) ask(R"({"command":"session_drop","id":1})");
    for (const int fd : std::exchange(clients_, {})) ::close(fd);
    server_.reset();
  }
}

TEST_F(ControlServerTest, SeveralRequestsOnOneConnectionAndInPieces) {
  start();
  const int fd = connect();
  const std::string request = "{\"command\":\"session_drop\",\"id\":1}\n";
  for (const char c : request) send(fd, std::string(1, c));
  EXPECT_EQ(receive(fd), kDone);
  send(fd, request + request);
  EXPECT_EQ(receive(fd), kDone);
  EXPECT_EQ(receive(fd), kDone);
}

TEST_F(ControlServerTest, EndlessRequestIsRefused) {
  start();
  const int fd = connect();
  send(fd, std::string(kMaxControlRequest + 1, 'x'));
  EXPECT_THAT(receive(fd), HasSubstr("longer than 1048576 bytes"));
  EXPECT_EQ(receive(fd), "");  // closed
}

TEST_F(ControlServerTest, SlowClientIsDroppedAndDisturbsNobody) {
  options_.request_deadline = std::chrono::milliseconds(100);
  start();
  const int slow = connect();
  send(slow, "{\"command\"");
  EXPECT_EQ(ask(R"({"command":"session_drop","id":1})"), kDone);
  EXPECT_EQ(receive(slow), "");
}

TEST_F(ControlServerTest, NodeThatDoesNotAnswerTimesOut) {
  options_.reply_deadline = std::chrono::milliseconds(50);
  node_.hold_replies = true;
  start();
  EXPECT_THAT(ask(R"({"command":"status"})"), HasSubstr("timed out"));
  node_.hold_replies = false;
  node_.release();  // the late answer goes nowhere
  EXPECT_EQ(ask(R"({"command":"session_drop","id":1})"), kDone);
}

TEST_F(ControlServerTest, AnswerMayComeFromAnyThreadAndAfterTheServer) {
  node_.hold_replies = true;
  start();
  const int fd = connect();
  send(fd, "{\"command\":\"session_drop\",\"id\":1}\n");
  node_.wait_for_calls(1);
  node_.release();
  EXPECT_EQ(receive(fd), kDone);
  send(fd, "{\"command\":\"session_drop\",\"id\":2}\n");
  node_.wait_for_calls(2);
  server_.reset();
  node_.release();
  EXPECT_EQ(receive(fd), "");
}

TEST_F(ControlServerTest, ClientsAreBounded) {
  options_.request_deadline = std::chrono::milliseconds(300);
  start();
  for (size_t i = 0; i < kMaxControlClients; ++i) connect();
  // Waits in the backlog until the idle ones are dropped, and is served then.
  EXPECT_EQ(ask(R"({"command":"session_drop","id":1})"), kDone);
}

TEST_F(ControlServerTest, LivingDaemonKeepsItsSocket) {
  start();
  EXPECT_THAT(start_error(), HasSubstr("another daemon answers on the control socket"));
  EXPECT_EQ(ask(R"({"command":"session_drop","id":1})"), kDone);
}

TEST_F(ControlServerTest, StaleSocketIsReplacedButNothingElse) {
  std::filesystem::create_directories(directory_ + "/run");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, options_.path.data(), options_.path.size());
  const int dead = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(dead, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ::close(dead);
  start();
  EXPECT_EQ(ask(R"({"command":"session_drop","id":1})"), kDone);
  server_.reset();

  std::ofstream(options_.path) << "precious";
  EXPECT_THAT(start_error(), HasSubstr("exists and is not a socket"));
  EXPECT_EQ(std::filesystem::file_size(options_.path), 8u);
}

TEST_F(ControlServerTest, TooLongPathIsRefused) {
  options_.path = "/run/" + std::string(200, 'x');
  EXPECT_THAT(start_error(), HasSubstr("more than 107 bytes"));
}

TEST_F(ControlServerTest, CommandLineReachesIt) {
  EXPECT_THAT(exchange_over_socket(options_.path, "{}\n").error(),
              HasSubstr("no daemon answers on " + options_.path));
  EXPECT_THAT(exchange_over_socket(std::string(300, 'x'), "{}\n").error(), HasSubstr("1 to 107"));
  start();
  EXPECT_EQ(
      exchange_over_socket(options_.path, "{\"command\":\"session_drop\",\"id\":1}\n").value(),
      kDone);
}

TEST_F(ControlServerTest, TellsSystemd) {
  const std::string path = directory_ + "/notify";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  clients_.push_back(fd);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  EXPECT_TRUE(notify_systemd("READY=1\nSTATUS=serving"));
  char text[64] = {};
  EXPECT_GT(::recv(fd, text, sizeof(text), 0), 0);
  EXPECT_STREQ(text, "READY=1\nSTATUS=serving");

  const std::string name = "holdfast-test-" + std::to_string(::getpid());
  const int abstract = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  clients_.push_back(abstract);
  address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(::bind(abstract, reinterpret_cast<const sockaddr*>(&address), length), 0);
  ::setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  EXPECT_TRUE(notify_systemd("STOPPING=1"));
  EXPECT_EQ(::recv(abstract, text, sizeof(text), 0), 10);

  ::setenv("NOTIFY_SOCKET", (directory_ + "/absent").c_str(), 1);
  EXPECT_FALSE(notify_systemd("READY=1"));
  ::setenv("NOTIFY_SOCKET", std::string(300, '/').c_str(), 1);
  EXPECT_FALSE(notify_systemd("READY=1"));
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(notify_systemd("READY=1"));
}

}  // namespace
}  // namespace holdfast::target
