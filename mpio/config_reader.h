#pragma once
// TOML text -> Config: shapes and types. What the values mean together is config_validate.h's.

#include <optional>
#include <string_view>

#include "mpio/config.h"

namespace holdfast::daemon {
class Section;
}

namespace holdfast::mpio {

// Errors go to the source; what could not be read keeps its default. Nothing when the text is not
// TOML: then there are no values to look at.
std::optional<Config> read_config(std::string_view text, daemon::ConfigSource& source);

// The [[device]] tables of another daemon's file, whose keys are then those of this one that begin
// with "device".
void read_device_tables(daemon::Section& file, Config& config);

}  // namespace holdfast::mpio
