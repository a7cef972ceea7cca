#include "common/daemon/config_source.h"

#include <algorithm>

namespace holdfast::daemon {

std::string ConfigError::to_string() const {
  if (line == 0) return file + ": " + message;
  return file + ":" + std::to_string(line) + ": " + message;
}

uint32_t ConfigSource::line(std::string_view place) const {
  while (!place.empty()) {
    if (const auto found = lines_.find(place); found != lines_.end()) return found->second;
    const size_t cut = place.find_last_of(".[");
    place = cut == std::string_view::npos ? std::string_view{} : place.substr(0, cut);
  }
  return 0;
}

void ConfigSource::report(const std::string& place, std::string message) {
  if (!reported_.insert(place).second) return;
  report_at(line(place), std::move(message));
}

void ConfigSource::report_at(uint32_t line, std::string message) {
  errors_.push_back(ConfigError{.file = file_, .line = line, .message = std::move(message)});
}

ConfigError ConfigSource::make_error(std::string_view place, std::string message) const {
  return {.file = file_, .line = line(place), .message = std::move(message)};
}

std::vector<ConfigError> ConfigSource::take_errors() {
  std::stable_sort(errors_.begin(), errors_.end(),
                   [](const ConfigError& a, const ConfigError& b) { return a.line < b.line; });
  return std::move(errors_);
}

std::string place_of(std::string_view list, size_t index) {
  return std::string(list) + "[" + std::to_string(index) + "]";
}

}  // namespace holdfast::daemon
