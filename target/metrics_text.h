#pragma once
// The metrics page: docs/operations.md, "Metrics".

#include <string>

#include "target/node_control.h"

namespace holdfast::target {

// Prometheus text format 0.0.4.
std::string metrics_text(const NodeStatus& status);

}  // namespace holdfast::target
