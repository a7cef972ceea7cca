#include "common/daemon/control_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/base/log.h"
#include "common/daemon/control_message.h"
#include "common/daemon/limits.h"

namespace holdfast::daemon {
namespace {

constexpr auto kSendDeadline = std::chrono::seconds(5);

std::string errno_text() { return std::strerror(errno); }

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int stream_socket() { return ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

// Nothing: the path is free now.
std::optional<std::string> clear_stale(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return std::nullopt;
    return fmt::format("cannot look at the control socket {}: {}", path, errno_text());
  }
  if (!S_ISSOCK(info.st_mode)) {
    return fmt::format(
        "{} exists and is not a socket: remove it or choose another `control_socket`", path);
  }
  const int fd = stream_socket();
  if (fd < 0) return fmt::format("cannot make a socket: {}", errno_text());
  const sockaddr_un address = address_of(path);
  const bool answered =
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
      errno == EAGAIN;  // its backlog is full: somebody holds it open
  const int error = errno;
  ::close(fd);
  if (answered) {
    return fmt::format(
        "another daemon answers on the control socket {}: stop it or choose another "
        "`control_socket`",
        path);
  }
  if (error != ECONNREFUSED) {
    return fmt::format("cannot tell whether a daemon uses the control socket {}: {}", path,
                       std::strerror(error));
  }
  if (::unlink(path.c_str()) != 0) {
    return fmt::format("cannot remove the old control socket {}: {}", path, errno_text());
  }
  return std::nullopt;
}

std::expected<int, std::string> listen_at(const std::string& path) {
  if (path.empty() || path.size() > kMaxSocketPath) {
    return std::unexpected(
        fmt::format("the control socket's path has more than {} bytes: {}", kMaxSocketPath, path));
  }
  std::error_code ignored;  // bind() says it better
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  if (auto problem = clear_stale(path)) return std::unexpected(std::move(*problem));
  const int fd = stream_socket();
  if (fd < 0) return std::unexpected(fmt::format("cannot make a socket: {}", errno_text()));
  const sockaddr_un address = address_of(path);
  // The file takes the mode of the socket: there is no moment at which others may open it.
  if (::fchmod(fd, 0600) != 0 ||
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd, static_cast<int>(kMaxControlClients)) != 0) {
    const int error = errno;
    ::close(fd);
    return std::unexpected(
        fmt::format("cannot listen on the control socket {}: {}", path, std::strerror(error)));
  }
  return fd;
}

class Server final : public ControlServer, private StreamServer::Protocol {
 public:
  Server(const ControlServerOptions& options, Handler handler)
      : path_(options.path), timed_out_(options.timed_out), handler_(std::move(handler)) {}
  ~Server() override {
    struct stat info{};
    // Only our own: a second daemon may have been given the path by hand.
    if (::lstat(path_.c_str(), &info) == 0 && info.st_dev == file_.st_dev &&
        info.st_ino == file_.st_ino) {
      ::unlink(path_.c_str());
    }
  }

  base::Result<> start(int listener, const ControlServerOptions& options) {
    ::lstat(path_.c_str(), &file_);
    const StreamServer::Limits limits{.max_clients = kMaxControlClients,
                                      .max_request_bytes = kMaxControlRequest,
                                      .request_deadline = options.request_deadline,
                                      .reply_deadline = options.reply_deadline,
                                      .send_deadline = kSendDeadline};
    TRY_ASSIGN(streams_, StreamServer::start(listener, limits, *this, "hf-control"));
    return {};
  }

 private:
  bool admit(int client) override {
    ucred peer{};
    socklen_t length = sizeof(peer);
    if (::getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
        control_allowed(peer.uid, ::geteuid())) {
      return true;
    }
    LOG_LIMITED(warning, "control", "refused a user of the control socket: uid={}", peer.uid);
    return false;
  }
  std::optional<size_t> request_length(std::string_view received) override {
    const size_t end = received.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    return end + 1;
  }
  void on_request(std::string request, StreamServer::Reply reply) override {
    handler_(std::move(request), std::move(reply));
  }
  std::string describe(StreamServer::Failure failure) override {
    if (failure == StreamServer::Failure::request_too_long) {
      return to_line(
          refusal({fmt::format("the request is longer than {} bytes", kMaxControlRequest)}));
    }
    return to_line(refusal({timed_out_}));
  }
  bool keeps_connections() const override { return true; }

  const std::string path_;
  const std::string timed_out_;
  Handler handler_;
  struct stat file_{};
  std::unique_ptr<StreamServer> streams_;  // last: its thread calls the above
};

}  // namespace

std::expected<std::unique_ptr<ControlServer>, std::string> ControlServer::start(
    const ControlServerOptions& options, Handler handler) {
  const auto listener = listen_at(options.path);
  if (!listener) return std::unexpected(listener.error());
  auto server = std::make_unique<Server>(options, std::move(handler));
  if (const auto started = server->start(*listener, options); !started) {
    return std::unexpected(std::string(started.error().what));
  }
  return server;
}

}  // namespace holdfast::daemon
