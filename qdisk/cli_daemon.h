#pragma once
// The verbs of `holdfast quorum` that ask the daemon of this node.

#include "qdisk/cli.h"
#include "qdisk/guarded_call.h"

namespace holdfast::qdisk {

Outcome run_with_daemon(const QuorumCommand& command, const daemon::Exchange& exchange);

}  // namespace holdfast::qdisk
