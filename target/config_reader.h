#pragma once
// TOML text -> Config: shapes and types. What the values mean together is config_validate.h's.

#include <optional>
#include <string_view>

#include "common/daemon/config_source.h"
#include "target/config.h"

namespace holdfast::target {

// Errors go to the source; what could not be read keeps its default. Nothing when the text is not
// TOML: then there are no values to look at.
std::optional<Config> read_config(std::string_view text, daemon::ConfigSource& source);

}  // namespace holdfast::target
