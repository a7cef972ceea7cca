#pragma once
// The metrics page: docs/operations.md, "Metrics of holdfast-qdiskd".

#include <string>

#include "qdisk/quorum_status.h"

namespace holdfast::qdisk {

// Prometheus text format 0.0.4.
std::string metrics_text(const QuorumStatus& status);

}  // namespace holdfast::qdisk
