#include "common/daemon/control_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/daemon/limits.h"

namespace holdfast::daemon {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kMaxAnswer = size_t{64} << 20;
constexpr auto kConnectRetry = std::chrono::milliseconds(50);

struct SocketCloser {
  int fd = -1;
  ~SocketCloser() {
    if (fd >= 0) ::close(fd);
  }
};

std::unexpected<std::string> unreachable(const char* daemon, const std::string& socket, int error) {
  if (error == EACCES || error == EPERM) {
    return std::unexpected(
        fmt::format("not allowed to use the control socket {}: run this as root", socket));
  }
  if (error == ENOENT || error == ECONNREFUSED) {
    return std::unexpected(
        fmt::format("no daemon answers on {}: start {}, or name its control socket with --socket",
                    socket, daemon));
  }
  return std::unexpected(
      fmt::format("cannot use the control socket {}: {}", socket, std::strerror(error)));
}

// False when the deadline has passed.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd polled{.fd = fd, .events = events, .revents = 0};
    const int count = ::poll(&polled, 1, static_cast<int>(left));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
  }
}

std::unexpected<std::string> too_late(std::chrono::milliseconds deadline) {
  return std::unexpected(
      fmt::format("the daemon did not answer within {} s: it may still be at it; look at its log",
                  static_cast<double>(deadline.count()) / 1000));
}

// 0 or errno.
int connect_until(int fd, const sockaddr_un& address, Clock::time_point deadline) {
  for (;;) {
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return 0;
    // A full backlog refuses at once on a non-blocking socket.
    if (errno != EAGAIN && errno != EINTR) return errno;
    if (Clock::now() + kConnectRetry > deadline) return ETIMEDOUT;
    ::poll(nullptr, 0, static_cast<int>(kConnectRetry.count()));
  }
}

std::expected<std::string, std::string> exchange_over_socket(const char* daemon,
                                                             std::chrono::milliseconds patience,
                                                             const std::string& socket,
                                                             const std::string& request) {
  if (socket.empty() || socket.size() > kMaxSocketPath) {
    return std::unexpected(
        fmt::format("the path of a socket has 1 to {} bytes: {}", kMaxSocketPath, socket));
  }
  const Clock::time_point deadline = Clock::now() + patience;
  const SocketCloser opened{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (opened.fd < 0) return unreachable(daemon, socket, errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket.data(), socket.size());
  const int error = connect_until(opened.fd, address, deadline);
  if (error == ETIMEDOUT) return too_late(patience);
  if (error != 0) return unreachable(daemon, socket, error);

  for (size_t sent = 0; sent < request.size();) {
    if (!wait_for(opened.fd, POLLOUT, deadline)) return too_late(patience);
    const ssize_t count =
        ::send(opened.fd, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN && errno != EINTR) return unreachable(daemon, socket, errno);
    if (count > 0) sent += static_cast<size_t>(count);
  }
  std::string answer;
  std::array<char, 65536> buffer;
  while (!answer.ends_with('\n')) {
    if (!wait_for(opened.fd, POLLIN, deadline)) return too_late(patience);
    const ssize_t count = ::recv(opened.fd, buffer.data(), buffer.size(), 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count < 0) return unreachable(daemon, socket, errno);
    if (count == 0 || answer.size() > kMaxAnswer) {
      return std::unexpected(
          fmt::format("the daemon at {} ended the connection: only root and the daemon's own user "
                      "may use it; else look at its log",
                      socket));
    }
    answer.append(buffer.data(), static_cast<size_t>(count));
  }
  return answer;
}

}  // namespace

Exchange control_exchange(const char* daemon, std::chrono::milliseconds deadline) {
  return [daemon, deadline](const std::string& socket, const std::string& request) {
    return exchange_over_socket(daemon, deadline, socket, request);
  };
}

}  // namespace holdfast::daemon
