#pragma once
// What the values of a configuration mean together, and the secret files it names.

#include "target/config.h"
#include "target/config_source.h"

namespace holdfast::target {

// Reports to the source; fills the secrets.
void validate_config(Config& config, ConfigSource& source);

}  // namespace holdfast::target
