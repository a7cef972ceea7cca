#include "common/daemon/control_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <utility>
#include <vector>

#include "common/daemon/control_client.h"
#include "common/daemon/limits.h"

namespace holdfast::daemon {
namespace {

using testing::HasSubstr;

constexpr const char* kDone = "done\n";

// Answers every line, at once or when it is told to.
class FakeDaemon {
 public:
  bool hold_replies = false;

  void take(std::string request, StreamServer::Reply reply) {
    const std::lock_guard guard(mutex_);
    ++calls_;
    held_.push_back([request = std::move(request), reply = std::move(reply)]() mutable {
      reply([request] { return request == "ping\n" ? kDone : "what?\n"; });
    });
    called_.notify_all();
    if (hold_replies) return;
    for (auto& answer : std::exchange(held_, {})) answer();
  }
  void wait_for(size_t calls) {
    std::unique_lock guard(mutex_);
    called_.wait(guard, [&] { return calls_ >= calls; });
  }
  void release() {
    const std::lock_guard guard(mutex_);
    for (auto& answer : std::exchange(held_, {})) answer();
  }

 private:
  std::mutex mutex_;
  std::condition_variable called_;
  size_t calls_ = 0;
  std::vector<std::move_only_function<void()>> held_;
};

// Over a unix socket in a directory of its own; deadlines are short where they must pass.
class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-ctl-XXXXXX");
    directory_ = ::mkdtemp(pattern.data());
    options_.path = directory_ + "/run/daemon.sock";
  }
  ~ControlServerTest() override {
    for (const int fd : clients_) ::close(fd);
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  void start() {
    auto started = ControlServer::start(options_, handler());
    ASSERT_TRUE(started.has_value()) << started.error();
    server_ = std::move(*started);
  }
  ControlServer::Handler handler() {
    return [this](std::string request, StreamServer::Reply reply) {
      daemon_.take(std::move(request), std::move(reply));
    };
  }
  std::string start_error() {
    auto started = ControlServer::start(options_, handler());
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
  std::string directory_;
  ControlServerOptions options_;
  FakeDaemon daemon_;
  std::vector<int> clients_;
  std::unique_ptr<ControlServer> server_;
};

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

// A client that goes and the end of the server wake its thread at once; the end was lost then.
TEST_F(ControlServerTest, EndsWhileClientsGo) {
  for (int round = 0; round < 100; ++round) {
    start();
    for (int i = 0; i < 4; ++i) ask("ping");
    for (const int fd : std::exchange(clients_, {})) ::close(fd);
    server_.reset();
  }
}

TEST_F(ControlServerTest, SeveralRequestsOnOneConnectionAndInPieces) {
  start();
  const int fd = connect();
  const std::string request = "ping\n";
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
  send(slow, "pin");
  EXPECT_EQ(ask("ping"), kDone);
  EXPECT_EQ(receive(slow), "");
}

TEST_F(ControlServerTest, NodeThatDoesNotAnswerTimesOut) {
  options_.reply_deadline = std::chrono::milliseconds(50);
  daemon_.hold_replies = true;
  start();
  EXPECT_THAT(ask("ping"), HasSubstr("timed out"));
  daemon_.hold_replies = false;
  daemon_.release();  // the late answer goes nowhere
  EXPECT_EQ(ask("ping"), kDone);
}

TEST_F(ControlServerTest, AnswerMayComeFromAnyThreadAndAfterTheServer) {
  daemon_.hold_replies = true;
  start();
  const int fd = connect();
  send(fd, "ping\n");
  daemon_.wait_for(1);
  daemon_.release();
  EXPECT_EQ(receive(fd), kDone);
  send(fd, "ping\n");
  daemon_.wait_for(2);
  server_.reset();
  daemon_.release();
  EXPECT_EQ(receive(fd), "");
}

TEST_F(ControlServerTest, ClientsAreBounded) {
  options_.request_deadline = std::chrono::milliseconds(300);
  start();
  for (size_t i = 0; i < kMaxControlClients; ++i) connect();
  // Waits in the backlog until the idle ones are dropped, and is served then.
  EXPECT_EQ(ask("ping"), kDone);
}

TEST_F(ControlServerTest, LivingDaemonKeepsItsSocket) {
  start();
  EXPECT_THAT(start_error(), HasSubstr("another daemon answers on the control socket"));
  EXPECT_EQ(ask("ping"), kDone);
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
  EXPECT_EQ(ask("ping"), kDone);
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
  const Exchange exchange = control_exchange("holdfast-xd", std::chrono::seconds(30));
  EXPECT_EQ(exchange(options_.path, "{}\n").error(),
            "no daemon answers on " + options_.path +
                ": start holdfast-xd, or name its control socket with --socket");
  EXPECT_THAT(exchange(std::string(300, 'x'), "{}\n").error(), HasSubstr("1 to 107"));
  start();
  EXPECT_EQ(exchange(options_.path, "ping\n").value(), kDone);
}

TEST_F(ControlServerTest, CommandLineGivesUpAtItsDeadline) {
  daemon_.hold_replies = true;
  start();
  const Exchange exchange = control_exchange("holdfast-xd", std::chrono::milliseconds(50));
  EXPECT_THAT(exchange(options_.path, "ping\n").error(), HasSubstr("not answer within 0.05 s"));
  daemon_.release();
}

}  // namespace
}  // namespace holdfast::daemon
