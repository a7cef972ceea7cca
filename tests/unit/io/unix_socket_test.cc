#include "common/io/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {
namespace {

class UnixSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "holdfast-unix-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
    path = folder / "nbd.sock";
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  Socket listen(uint32_t mode = 0600) {
    const auto listening = listen_unix(path, mode);
    EXPECT_TRUE(listening.has_value()) << listening.error().what;
    return listening.value_or(kNoSocket);
  }
  base::Errc refusal() {
    const auto listening = listen_unix(path, 0600);
    EXPECT_FALSE(listening.has_value());
    return listening.has_value() ? base::Errc::io : listening.error().code;
  }

  std::filesystem::path folder;
  std::string path;
};

TEST_F(UnixSocketTest, CarriesBytesThroughTheLoop) {
  LoopThread thread;
  UringLoop& loop = thread.loop();
  const Socket listener = loop.listen_unix(path, 0600).value();
  const Socket client = loop.connect_unix(path).value();
  const Socket server = thread.complete([&](Op& op) { loop.accept(op, listener); });
  ASSERT_GE(server, 0);
  char out[] = "hello";
  const iovec from{out, 5};
  EXPECT_EQ(thread.complete([&](Op& op) { loop.send(op, server, {&from, 1}); }), 5);
  std::array<char, 16> in{};
  const iovec to{in.data(), in.size()};
  EXPECT_EQ(thread.complete([&](Op& op) { loop.receive(op, client, {&to, 1}); }), 5);
  EXPECT_EQ(std::string(in.data(), 5), "hello");
  // It waits, as a TCP connection does.
  EXPECT_EQ(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
  std::promise<int32_t> done;
  Call pending([&](int32_t result) { done.set_value(result); });
  thread.call([&] { loop.receive(pending, client, {&to, 1}); });
  EXPECT_EQ(thread.complete([&](Op& op) { loop.send(op, server, {&from, 1}); }), 5);
  EXPECT_EQ(done.get_future().get(), 5);
  thread.call([] {});
  EXPECT_FALSE(loop.transport_info(client).valid);
  loop.close(client, false);
  EXPECT_EQ(thread.complete([&](Op& op) { loop.receive(op, server, {&to, 1}); }), 0);
  loop.close(server, false);
  loop.unlink_unix(path);
  loop.close(listener, false);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(UnixSocketTest, HasTheModeWhateverTheUmask) {
  const mode_t before = ::umask(0077);
  const Socket wide = listen(0666);
  ::umask(before);
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0666u);
  ::unlink(path.c_str());
  ::close(wide);
  const Socket narrow = listen(0600);
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0600u);
  ::close(narrow);
}

TEST_F(UnixSocketTest, ReplacesTheFileOfADeadProcess) {
  ::close(listen());  // it ended without removing its file
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_FALSE(connect_unix(path).has_value());
  const Socket again = listen();
  const auto client = connect_unix(path);
  EXPECT_TRUE(client.has_value());
  ::close(client.value_or(kNoSocket));
  ::close(again);
}

TEST_F(UnixSocketTest, LeavesOneInUseAlone) {
  const Socket first = listen();
  EXPECT_EQ(refusal(), base::Errc::busy);
  // Nor one whose backlog is full: nobody may connect, and yet it is not stale.
  const Socket tight = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ::unlink(path.c_str());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(tight, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(tight, 0), 0);
  std::vector<Socket> waiting;
  base::Result<Socket> more = connect_unix(path);
  for (; more.has_value(); more = connect_unix(path)) waiting.push_back(*more);
  EXPECT_EQ(more.error().code, base::Errc::busy);
  EXPECT_FALSE(waiting.empty());
  EXPECT_EQ(refusal(), base::Errc::busy);
  EXPECT_TRUE(std::filesystem::is_socket(path));
  for (const Socket socket : waiting) ::close(socket);
  ::close(tight);
  ::close(first);
}

TEST_F(UnixSocketTest, RemovesNothingThatIsNoSocket) {
  std::ofstream(path) << "precious";
  EXPECT_EQ(refusal(), base::Errc::exists);
  unlink_unix(path);
  EXPECT_EQ(std::filesystem::file_size(path), 8u);
}

TEST_F(UnixSocketTest, TwoThatStartAtOnceDoNotRemoveEachOthersSocket) {
  ::close(listen());  // stale: both would remove it
  const int other = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  EXPECT_EQ(refusal(), base::Errc::busy);
  ::close(other);
  ::close(listen());
}

TEST_F(UnixSocketTest, SaysWhatIsWrongWithAPath) {
  path = "";
  EXPECT_EQ(refusal(), base::Errc::invalid_argument);
  path = folder / std::string(kMaxUnixPath, 'x');
  EXPECT_EQ(refusal(), base::Errc::invalid_argument);
  EXPECT_EQ(connect_unix(path).error().code, base::Errc::invalid_argument);
  path = folder / "missing" / "nbd.sock";
  EXPECT_EQ(connect_unix(path).error().code, base::Errc::not_found);
  ::close(listen());  // the folder is made
  EXPECT_TRUE(std::filesystem::is_socket(path));
  path = folder / "missing" / "nbd.sock" / "below a socket";
  EXPECT_EQ(refusal(), base::Errc::permission);
  // The longest that is possible works.
  path = folder / std::string(kMaxUnixPath - folder.string().size() - 1, 'x');
  ::close(listen());
}

}  // namespace
}  // namespace holdfast::io
