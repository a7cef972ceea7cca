#pragma once
// Requests for changes -> what NodeChange must do, or why it is refused. Reads the state, changes
// nothing.

#include <expected>
#include <string>
#include <vector>

#include "target/node_change.h"

namespace holdfast::target {

// Error: why not, one sentence a line. A plan without sentences: nothing to change.
using Planned = std::expected<ChangePlan, std::vector<std::string>>;

Planned plan_apply(const NodeState& node, Config config, bool force);
Planned plan_disk_create(const NodeState& node, DiskConfig disk);
Planned plan_disk_resize(const NodeState& node, const std::string& name, uint64_t size_bytes);
Planned plan_disk_remove(const NodeState& node, const std::string& name);

}  // namespace holdfast::target
