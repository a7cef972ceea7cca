#include "common/daemon/control_message.h"

#include <nlohmann/json.hpp>

namespace holdfast::daemon {

using nlohmann::json;

json refusal(std::vector<std::string> problems) {
  json out = json::object();
  out["ok"] = false;
  out["problems"] = std::move(problems);
  return out;
}

std::string to_line(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<json> parse_line(std::string_view line) {
  json parsed = json::parse(line, nullptr, false);
  if (!parsed.is_object()) return std::nullopt;  // also when it is not JSON
  return parsed;
}

std::optional<std::string> string_member(const json& in, const char* name) {
  const auto found = in.find(name);
  if (found == in.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

std::optional<uint64_t> number_member(const json& in, const char* name) {
  const auto found = in.find(name);
  if (found == in.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<uint64_t>();
}

std::vector<std::string> strings_member(const json& in, const char* name) {
  std::vector<std::string> out;
  const auto found = in.find(name);
  if (found == in.end() || !found->is_array()) return out;
  for (const json& element : *found) {
    if (element.is_string()) out.push_back(element.get<std::string>());
  }
  return out;
}

}  // namespace holdfast::daemon
