#include "common/daemon/config_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/daemon/limits.h"

namespace holdfast::daemon {
namespace {

using Errors = std::vector<ConfigError>;

std::unexpected<Errors> file_error(const std::string& path, std::string message) {
  return std::unexpected(Errors{ConfigError{.file = path, .line = 0, .message = message}});
}

}  // namespace

std::expected<std::string, Errors> read_config_file(const std::string& path) {
  // O_NONBLOCK: a FIFO in the file's place must not hold up the daemon.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    return file_error(path, fmt::format("cannot read the configuration: {}", std::strerror(errno)));
  }
  std::string text(kMaxConfigFileBytes + 1, '\0');
  size_t used = 0;
  ssize_t count = 1;
  while (count > 0 && used < text.size()) {
    count = ::read(fd, text.data() + used, text.size() - used);
    if (count > 0) used += static_cast<size_t>(count);
  }
  const int error = count < 0 ? errno : 0;
  ::close(fd);
  if (error != 0) {
    return file_error(path, fmt::format("cannot read the configuration: {}", std::strerror(error)));
  }
  if (used > kMaxConfigFileBytes) {
    return file_error(path, fmt::format("larger than {} bytes: this is no configuration file",
                                        kMaxConfigFileBytes));
  }
  text.resize(used);
  return text;
}

}  // namespace holdfast::daemon
