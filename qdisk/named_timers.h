#pragma once
// The times of a cluster by their names, as commands take and show them.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "qdisk/timers.h"

namespace holdfast::qdisk {

struct NamedTimer {
  const char* name;
  Milliseconds Timers::* member;
};
std::span<const NamedTimer> named_timers();

// "lease=15s". What is wrong with it, or nothing.
std::optional<std::string> set_timer(Timers& timers, std::string_view assignment);

// "15s", "250ms"
std::string to_text(Milliseconds time);

}  // namespace holdfast::qdisk
