#include "common/io/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace holdfast::io {
namespace {

using base::Errc;
using base::fail;
using base::Result;

constexpr int kListenBacklog = 128;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  static_assert(kMaxUnixPath < sizeof(address.sun_path));
  // A NUL first would be a name outside the file system, one further on would cut the path.
  if (path.empty() || path.size() > kMaxUnixPath || path.find('\0') != std::string::npos) {
    return fail(Errc::invalid_argument, "a socket's path has 1 to 107 bytes", ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int connect_now(int fd, const sockaddr_un& address) {
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return 0;
  return errno;
}

// Two that start at once must not both find the old file stale, or the second removes the socket of
// the first. The lock is the folder's and goes with its descriptor. It is never waited for: this is
// the loop's thread.
Result<int> lock_folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::error_code ignored;  // open() says it better
  std::filesystem::create_directories(folder, ignored);
  Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() < 0) {
    return fail(errno == ENOENT ? Errc::not_found : Errc::permission,
                "the folder of the socket cannot be opened", errno);
  }
  if (::flock(opened.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::busy, "another program is making a socket in that folder: try again", errno);
  }
  return opened.release();
}

Result<> clear_stale(const std::string& path, const sockaddr_un& address) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return fail(Errc::io, "cannot look at the socket's path", errno);
  }
  if (!S_ISSOCK(info.st_mode)) return fail(Errc::exists, "the path is there and is no socket");
  const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (probe.get() < 0) return fail(Errc::limit, "no socket to be had", errno);
  const int error = connect_now(probe.get(), address);
  // EAGAIN: its backlog is full, so somebody holds it open.
  if (error == 0 || error == EAGAIN) return fail(Errc::busy, "another program listens there");
  if (error != ECONNREFUSED) return fail(Errc::io, "cannot tell whether the socket is used", error);
  if (::unlink(path.c_str()) != 0) return fail(Errc::permission, "cannot remove it", errno);
  return {};
}

}  // namespace

Result<Socket> listen_unix(const std::string& path, uint32_t mode) {
  TRY_ASSIGN(const sockaddr_un address, address_of(path));
  TRY_ASSIGN(const int folder, lock_folder(path));
  const Descriptor lock(folder);
  TRY(clear_stale(path, address));
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) return fail(Errc::limit, "no socket to be had", errno);
  // The file begins with no rights at all, and nobody connects before listen().
  if (::fchmod(socket.get(), 0) != 0 ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail(errno == EACCES ? Errc::permission : Errc::io, "cannot make the socket", errno);
  }
  if (::chmod(path.c_str(), mode) != 0 || ::listen(socket.get(), kListenBacklog) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return fail(Errc::io, "cannot listen on the socket", error);
  }
  return socket.release();
}

void unlink_unix(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
}

Result<Socket> connect_unix(const std::string& path) {
  TRY_ASSIGN(const sockaddr_un address, address_of(path));
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) return fail(Errc::limit, "no socket to be had", errno);
  switch (const int error = connect_now(socket.get(), address)) {
    case 0:
      break;
    case EAGAIN:
      return fail(Errc::busy, "the socket's backlog is full", error);
    case EACCES:
      return fail(Errc::permission, "not allowed to connect to the socket", error);
    default:
      return fail(Errc::not_found, "nobody listens on the socket", error);
  }
  // As accepted ones are: whoever uses it without a loop waits.
  if (::fcntl(socket.get(), F_SETFL, 0) != 0) return fail(Errc::io, "fcntl failed", errno);
  return socket.release();
}

}  // namespace holdfast::io
