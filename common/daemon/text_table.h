#pragma once
// Plain text for people: what the command lines print.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::daemon {

// Rows of cells, the first of which is the heading; columns two blanks apart.
std::string table(const std::vector<std::vector<std::string>>& rows);
// A peer's text may hold what a terminal obeys.
std::string printable(std::string_view text);
std::string human_size(uint64_t bytes);            // "1.5 GiB"
std::string human_time(uint64_t ms);               // "3h 12m"
std::string human_latency(uint64_t microseconds);  // "180us", "1.5ms"

}  // namespace holdfast::daemon
