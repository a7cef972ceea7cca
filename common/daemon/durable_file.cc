#include "common/daemon/durable_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace holdfast::daemon {

namespace {

constexpr size_t kReadBytes = 65536;

std::expected<void, int> write_all(int fd, base::Bytes content) {
  while (!content.empty()) {
    const ssize_t count = ::write(fd, content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(errno);
    content = content.subspan(static_cast<size_t>(count));
  }
  if (::fdatasync(fd) != 0) return std::unexpected(errno);
  return {};
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

std::expected<void, std::string> make_directory(const std::string& directory) {
  std::error_code error;
  if (std::filesystem::create_directories(directory, error)) {
    for (auto path = std::filesystem::absolute(directory, error); path.has_relative_path();) {
      path = path.parent_path();
      if (const auto synced = sync_directory(path); !synced) {
        return std::unexpected(
            fmt::format("cannot sync {}: {}", path.string(), std::strerror(synced.error())));
      }
    }
  }
  if (!error) return {};
  return std::unexpected(
      fmt::format("cannot create the state directory {}: {}", directory, error.message()));
}

std::expected<std::optional<Fd>, std::string> lock_file(const std::string& path) {
  Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.get() < 0) {
    return std::unexpected(fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return std::nullopt;
  return std::unexpected(fmt::format("cannot lock {}: {}", path, std::strerror(errno)));
}

std::expected<std::vector<uint8_t>, int> read_file(const std::string& path, size_t max_bytes) {
  // A pipe of that name must not hold us up.
  const Fd opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  if (opened.get() < 0 || ::fstat(opened.get(), &status) != 0) return std::unexpected(errno);
  if (!S_ISREG(status.st_mode)) return std::unexpected(EINVAL);
  std::vector<uint8_t> content;
  for (;;) {
    const size_t size = content.size();
    const size_t part = std::min(max_bytes + 1 - size, kReadBytes);
    if (part == 0) return content;
    content.resize(size + part);
    const ssize_t count = ::read(opened.get(), content.data() + size, part);
    if (count < 0 && errno != EINTR) return std::unexpected(errno);
    content.resize(size + (count > 0 ? static_cast<size_t>(count) : 0));
    if (count == 0) return content;
  }
}

std::expected<void, WriteFailure> replace_file(const std::string& path, base::Bytes content) {
  const std::string fresh = path + ".new";
  const std::string directory = std::filesystem::path(path).parent_path();
  {
    const Fd out(
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (out.get() < 0) return std::unexpected(WriteFailure(fresh, errno));
    if (const auto written = write_all(out.get(), content); !written) {
      ::unlink(fresh.c_str());  // what is on a full disk is in the way of the next attempt
      return std::unexpected(WriteFailure(fresh, written.error()));
    }
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) {
    return std::unexpected(WriteFailure(path, errno));
  }
  if (const auto synced = sync_directory(directory); !synced) {
    return std::unexpected(WriteFailure(directory, synced.error()));
  }
  return {};
}

std::expected<void, int> sync_directory(const std::string& path) {
  const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0) return std::unexpected(errno);
  return {};
}

}  // namespace holdfast::daemon
