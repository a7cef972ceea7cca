#include "qdisk/fence_agent.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"
#include "common/daemon/edge_thread.h"
#include "qdisk/fence_agent_run.h"

namespace holdfast::qdisk {

using base::Errc;

namespace {
constexpr const char* kLog = "fence-agent";
}  // namespace

base::Result<std::unique_ptr<FenceAgents>> FenceAgents::create(io::Loop& loop,
                                                               std::vector<FenceAgent> agents) {
  NodeSet seen;
  for (const FenceAgent& each : agents) {
    if (each.node >= kMaxNodes || seen.has(each.node)) {
      return base::fail(Errc::invalid_argument, "a fence agent for no node, or two for one");
    }
    seen.add(each.node);
    if (each.command.empty() || !each.command.front().starts_with('/')) {
      return base::fail(Errc::invalid_argument, "a fence agent's path must be absolute");
    }
    if (each.deadline <= io::Duration::zero()) {
      return base::fail(Errc::invalid_argument, "a fence agent's deadline must be more than 0");
    }
  }
  return std::unique_ptr<FenceAgents>(new FenceAgents(loop, std::move(agents)));
}

FenceAgents::FenceAgents(io::Loop& loop, std::vector<FenceAgent> agents) : loop_(loop) {
  for (FenceAgent& each : agents) agents_.push_back({.config = std::move(each)});
}

FenceAgents::~FenceAgents() {
  for (Agent& each : agents_) {
    if (each.thread.joinable()) ::eventfd_write(each.give_up.get(), 1);
  }
  for (Agent& each : agents_) {
    if (each.thread.joinable()) each.thread.join();
  }
}

const FenceAgents::Agent* FenceAgents::find(NodeId node) const {
  const auto found =
      std::ranges::find_if(agents_, [node](const Agent& each) { return each.config.node == node; });
  return found == agents_.end() ? nullptr : &*found;
}

FenceAgents::Agent* FenceAgents::find(NodeId node) {
  return const_cast<Agent*>(std::as_const(*this).find(node));
}

bool FenceAgents::running(NodeId node) const {
  const Agent* agent = find(node);
  return agent != nullptr && agent->thread.joinable();
}

base::Result<> FenceAgents::switch_off(NodeId node, Done done) {
  Agent* agent = find(node);
  if (agent == nullptr) return base::fail(Errc::not_found, "there is no fence agent for this node");
  if (agent->thread.joinable()) return base::fail(Errc::busy, "the fence agent runs already");
  agent->give_up = daemon::Fd(::eventfd(0, EFD_CLOEXEC));
  if (agent->give_up.get() < 0) return base::fail(Errc::limit, "eventfd failed", errno);
  agent->done = std::move(done);
  // Never its arguments.
  LOG_INFO(kLog, "node {}: {} is run", node, agent->config.command.front());
  // The loop outlives the thread, for which the destructor waits; what is posted may outlive both.
  agent->thread = daemon::start_edge_thread(
      "hf-fence-agent", [&loop = loop_, node, &config = agent->config,
                         give_up = agent->give_up.get(), weak = std::weak_ptr(self_)] {
        FenceAgentOutcome outcome = run_fence_agent(config, give_up);
        loop.post([weak, node, outcome = std::move(outcome)]() mutable noexcept {
          if (const auto self = weak.lock()) (*self)->on_ended(node, std::move(outcome));
        });
      });
  return {};
}

void FenceAgents::on_ended(NodeId node, FenceAgentOutcome outcome) {
  Agent& agent = *find(node);
  agent.thread.join();  // it has posted this, and nothing is left for it to do
  if (outcome.off) {
    LOG_WARNING(kLog, "node {} is off, as {} says", node, agent.config.command.front());
  } else {
    LOG_ERROR(kLog, "node {} is not known to be off: {}: {}", node, agent.config.command.front(),
              outcome.reason);
  }
  if (!outcome.output.empty()) LOG_INFO(kLog, "node {}: its output: {}", node, outcome.output);
  std::exchange(agent.done, nullptr)(std::move(outcome));  // it may run it again, or destroy this
}

}  // namespace holdfast::qdisk
