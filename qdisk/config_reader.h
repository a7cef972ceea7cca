#pragma once
// TOML text -> Config: shapes and types. What the values mean together is config_validate.h's.

#include <optional>
#include <string_view>

#include "qdisk/config.h"

namespace holdfast::qdisk {

// Errors go to the source; what could not be read keeps its default. Nothing when the text is not
// TOML: then there are no values to look at.
std::optional<Config> read_config(std::string_view text, daemon::ConfigSource& source);

}  // namespace holdfast::qdisk
