#pragma once
// What `holdfast quorum` shows.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "qdisk/witness_contents.h"

namespace holdfast::qdisk {

nlohmann::json to_json(const Superblock& superblock);
nlohmann::json to_json(const WitnessContents& contents);
// What is valid and still not as it should be.
std::vector<std::string> warnings_of(const WitnessContents& contents);
std::string describe(const Superblock& superblock);
std::string describe(const WitnessContents& contents);

}  // namespace holdfast::qdisk
