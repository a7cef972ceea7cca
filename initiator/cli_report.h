#pragma once
// What `holdfast initiator` shows.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/iscsi/send_targets.h"
#include "initiator/login_test.h"

namespace holdfast::initiator {

// `portal`: the one that was asked; a target without portals is reached there.
nlohmann::json to_json(const iscsi::SendTargetsAnswer& answer, const std::string& portal);
std::string describe(const iscsi::SendTargetsAnswer& answer, const std::string& portal);

using PortalResults = std::vector<LoginTest::PortalResult>;
// Portals that do not work, and units that differ between portals.
std::vector<std::string> problems_of(const PortalResults& results);
nlohmann::json to_json(const PortalResults& results, const std::vector<std::string>& problems);
std::string describe(const PortalResults& results, const std::vector<std::string>& problems);

}  // namespace holdfast::initiator
