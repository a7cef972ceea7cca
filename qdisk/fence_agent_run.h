#pragma once
// One run of a fence agent, to its end. Blocks; for a thread at the edge.

#include "qdisk/fence_agent.h"

namespace holdfast::qdisk {

// `give_up`: a descriptor that is readable when nobody waits for the outcome any more.
FenceAgentOutcome run_fence_agent(const FenceAgent& agent, int give_up);

}  // namespace holdfast::qdisk
