#pragma once
// What `holdfast path` shows, made from the daemon's answer. Members that are not there are left
// blank: the daemon may be of another version.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace holdfast::mpio {

std::string describe_list(const nlohmann::json& devices);
// Rates between two answers, `ms` apart.
nlohmann::json rates(const nlohmann::json& before, const nlohmann::json& after, uint32_t ms);
std::string describe_rates(const nlohmann::json& rates);

}  // namespace holdfast::mpio
