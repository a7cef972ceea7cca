#include "target/config.h"

#include "common/daemon/config_file.h"
#include "target/config_reader.h"
#include "target/config_validate.h"

namespace holdfast::target {

using Errors = std::vector<daemon::ConfigError>;

std::expected<Config, Errors> parse_config(std::string_view text, const std::string& path) {
  daemon::ConfigSource source(path);
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
  auto text = daemon::read_config_file(path);
  if (!text) return std::unexpected(std::move(text.error()));
  return parse_config(*text, path);
}

}  // namespace holdfast::target
