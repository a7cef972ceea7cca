#pragma once
// The metrics page: docs/operations.md, "Metrics".

#include <string>

#include "common/daemon/metrics_server.h"
#include "target/node_control.h"

namespace holdfast::target {

// Prometheus text format 0.0.4.
std::string metrics_text(const NodeStatus& status);
// The node outlives it.
daemon::MetricsPage metrics_page(NodeControl& node);

}  // namespace holdfast::target
