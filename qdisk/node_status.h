#pragma once
// What the node knows, for administrators.

#include <string>

#include "qdisk/config.h"
#include "qdisk/node.h"
#include "qdisk/quorum_status.h"

namespace holdfast::qdisk {

// `running`: null between two lives. `problem`: why no life can begin; empty: none.
QuorumStatus status_of(const Config& config, const Node* running, io::Instant now,
                       const std::string& problem);

}  // namespace holdfast::qdisk
