#pragma once
// The text of a configuration file.

#include <expected>
#include <string>
#include <vector>

#include "common/daemon/config_source.h"

namespace holdfast::daemon {

std::expected<std::string, std::vector<ConfigError>> read_config_file(const std::string& path);

}  // namespace holdfast::daemon
