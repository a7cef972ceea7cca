#pragma once
// Sizes and durations as administrators write them.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace holdfast::base {

// "512", "64MiB", "2 GiB", "1TiB"; also K, M, G, T with or without "iB" (all binary). Bytes.
Result<uint64_t> parse_size(std::string_view text);
// The largest binary unit that divides it: "64GiB".
std::string format_size(uint64_t bytes);

// "250ms", "10s", "5m".
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

}  // namespace holdfast::base
