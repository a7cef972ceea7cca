#pragma once
// A number of the command line, and nothing after it.

#include <charconv>
#include <string_view>

namespace holdfast::bench {

template <class T>
bool parse_number(std::string_view text, T* out) {
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, *out);
  return error == std::errc{} && last == end;
}

}  // namespace holdfast::bench
