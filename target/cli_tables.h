#pragma once
// What the command line shows: plain text for people.

#include <string>
#include <vector>

#include "target/node_control.h"

namespace holdfast::target {

std::string describe_status(const NodeStatus& status);
std::string describe_disks(const NodeStatus& status);
std::string describe_sessions(const NodeStatus& status);
std::string describe_reservations(const NodeStatus& status);
std::string describe_stats(const NodeStatus& status);
std::string describe_alua(const NodeStatus& status);
// What of the target does not work; empty: nothing.
std::vector<std::string> problems_of(const NodeStatus& status);

// The upper bound of the bucket in which the given share of commands had ended; 0: no commands.
uint64_t percentile_us(const LatencyHistogram& latency, double share);

}  // namespace holdfast::target
