#pragma once
// The node as `holdfast target status` and the metrics page show it.

#include <vector>

#include "target/node_control.h"
#include "target/node_state.h"

namespace holdfast::target {

NodeStatus make_status(const NodeState& node, const std::vector<ShardStatus>& shards);

}  // namespace holdfast::target
