#include "target/config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "target/config_limits.h"
#include "target/config_reader.h"
#include "target/config_source.h"
#include "target/config_validate.h"

namespace holdfast::target {
namespace {

using Errors = std::vector<ConfigError>;

std::unexpected<Errors> file_error(const std::string& path, std::string message) {
  return std::unexpected(Errors{ConfigError{.file = path, .line = 0, .message = message}});
}

std::expected<std::string, Errors> read_file(const std::string& path) {
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

}  // namespace

std::expected<Config, Errors> parse_config(std::string_view text, const std::string& path) {
  ConfigSource source(path);
  std::optional<Config> config = read_config(text, source);
  if (config) validate_config(*config, source);
  if (source.empty()) return std::move(*config);
  // The file is refused anyway: let its author see everything at once.
  if (config) {
    for (UnknownDisk& unknown : config->unknown_disks) source.report(std::move(unknown.error));
  }
  return std::unexpected(source.take_errors());
}

std::expected<Config, Errors> load_config(const std::string& path) {
  auto text = read_file(path);
  if (!text) return std::unexpected(std::move(text.error()));
  return parse_config(*text, path);
}

}  // namespace holdfast::target
