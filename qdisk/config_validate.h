#pragma once
// What the values of a configuration mean together.

#include "qdisk/config.h"

namespace holdfast::qdisk {

// Also reads the secret files of devices. Errors go to the source.
void validate_config(Config& config, daemon::ConfigSource& source);

}  // namespace holdfast::qdisk
