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

// Rows of cells, the first of which is the heading; columns two blanks apart.
std::string table(const std::vector<std::vector<std::string>>& rows);
// A peer's text may hold what a terminal obeys.
std::string printable(std::string_view text);
std::string human_size(uint64_t bytes);            // "1.5 GiB"
std::string human_time(uint64_t ms);               // "3h 12m"
std::string human_latency(uint64_t microseconds);  // "180us", "1.5ms"
// The upper bound of the bucket in which the given share of commands had ended; 0: no commands.
uint64_t percentile_us(const LatencyHistogram& latency, double share);

}  // namespace holdfast::target
