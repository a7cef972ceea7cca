#include "common/base/units.h"

#include <array>
#include <charconv>
#include <limits>

namespace holdfast::base {
namespace {

struct NumberAndUnit {
  uint64_t number;
  std::string_view unit;
};

Result<NumberAndUnit> split(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return fail(Errc::invalid_argument, "must begin with a whole number");
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  return NumberAndUnit{number, unit};
}

constexpr std::string_view kPrefixes = "KMGT";

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  TRY_ASSIGN(const NumberAndUnit parsed, split(text));
  unsigned shift = 0;
  std::string_view unit = parsed.unit;
  if (!unit.empty() && unit != "B") {
    const size_t index = kPrefixes.find(unit.front());
    if (index == std::string_view::npos) {
      return fail(Errc::invalid_argument, "unknown unit of size: use KiB, MiB, GiB or TiB");
    }
    shift = 10 * static_cast<unsigned>(index + 1);
    unit.remove_prefix(1);
    if (!unit.empty() && unit != "iB") {
      return fail(Errc::invalid_argument, "unknown unit of size: use KiB, MiB, GiB or TiB");
    }
  }
  if (parsed.number > std::numeric_limits<uint64_t>::max() >> shift) {
    return fail(Errc::invalid_argument, "size does not fit in 64 bits");
  }
  return parsed.number << shift;
}

std::string format_size(uint64_t bytes) {
  size_t index = 0;
  while (index < kPrefixes.size() && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++index;
  }
  std::string text = std::to_string(bytes);
  if (index == 0) return text + "B";
  return text + kPrefixes[index - 1] + "iB";
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  TRY_ASSIGN(const NumberAndUnit parsed, split(text));
  uint64_t unit_ms = 0;
  if (parsed.unit == "ms") unit_ms = 1;
  if (parsed.unit == "s") unit_ms = 1000;
  if (parsed.unit == "m") unit_ms = 60'000;
  if (unit_ms == 0) return fail(Errc::invalid_argument, "unknown unit of time: use ms, s or m");
  constexpr uint64_t kMaxMs = 365ull * 24 * 3600 * 1000;
  if (parsed.number > kMaxMs / unit_ms) {
    return fail(Errc::invalid_argument, "time is longer than a year");
  }
  return std::chrono::milliseconds(parsed.number * unit_ms);
}

}  // namespace holdfast::base
