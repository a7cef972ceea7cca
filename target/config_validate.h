#pragma once
// What the values of a configuration mean together, and the secret files it names.

#include "common/daemon/config_source.h"
#include "target/config.h"

namespace holdfast::target {

// Reports to the source; fills the secrets.
void validate_config(Config& config, daemon::ConfigSource& source);

}  // namespace holdfast::target
