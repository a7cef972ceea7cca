#pragma once
// What the values of a configuration mean together.

#include "mpio/config.h"

namespace holdfast::mpio {

// Also reads the secret files. Errors go to the source.
void validate_config(Config& config, daemon::ConfigSource& source);

}  // namespace holdfast::mpio
