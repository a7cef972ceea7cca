#include "common/daemon/notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

namespace holdfast::daemon {
namespace {

TEST(Notify, TellsSystemd) {
  std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-notify-XXXXXX");
  const std::string directory = ::mkdtemp(pattern.data());
  const std::string path = directory + "/notify";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  EXPECT_TRUE(notify_systemd("READY=1\nSTATUS=serving"));
  char text[64] = {};
  EXPECT_GT(::recv(fd, text, sizeof(text), 0), 0);
  EXPECT_STREQ(text, "READY=1\nSTATUS=serving");

  const std::string name = "holdfast-test-" + std::to_string(::getpid());
  const int abstract = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(::bind(abstract, reinterpret_cast<const sockaddr*>(&address), length), 0);
  ::setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  EXPECT_TRUE(notify_systemd("STOPPING=1"));
  EXPECT_EQ(::recv(abstract, text, sizeof(text), 0), 10);

  ::setenv("NOTIFY_SOCKET", (directory + "/absent").c_str(), 1);
  EXPECT_FALSE(notify_systemd("READY=1"));
  ::setenv("NOTIFY_SOCKET", std::string(300, '/').c_str(), 1);
  EXPECT_FALSE(notify_systemd("READY=1"));
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(notify_systemd("READY=1"));
  ::close(fd);
  ::close(abstract);
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace holdfast::daemon
