#pragma once
// Runs the administrator's fence agents: a command for each node that switches it off, as those of
// the fence-agents packages do. A command that ends with status 0 is the proof that the node is
// off; whatever else comes of it proves nothing.

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/result.h"
#include "common/daemon/durable_file.h"
#include "common/io/loop.h"
#include "qdisk/node_set.h"

namespace holdfast::qdisk {

struct FenceAgent {
  NodeId node = kNoNode;
  std::vector<std::string> command;  // its path, absolute, and its arguments, which may be secret
  io::Duration deadline = std::chrono::seconds(60);  // then it is killed
};

struct FenceAgentOutcome {
  bool off = false;    // the agent says so
  std::string reason;  // else: why not
  std::string output;  // the beginning of what it wrote, both streams
};

// Owner: the daemon's loop. Each run has a thread, which waits for the agent, a process group of
// its own without input. Whatever is left of the group when the agent has ended is killed.
class FenceAgents {
 public:
  using Done = std::move_only_function<void(FenceAgentOutcome) noexcept>;
  static constexpr size_t kMaxOutput = 4096;

  // Errc::invalid_argument: a path that is not absolute, a node without a number or with two
  // agents, no time to run.
  static base::Result<std::unique_ptr<FenceAgents>> create(io::Loop& loop,
                                                           std::vector<FenceAgent> agents);
  FenceAgents(const FenceAgents&) = delete;
  FenceAgents& operator=(const FenceAgents&) = delete;
  // Kills what runs, whose callbacks never come. Waits for it no longer than kKillPatience.
  ~FenceAgents();

  bool has_agent(NodeId node) const { return find(node) != nullptr; }
  bool running(NodeId node) const;
  // Answers once, on the loop, within the agent's deadline and kKillPatience, unless the disk hangs
  // that the agent's program lies on: to start it waits for that. Errc::not_found:
  // there is no agent for this node; Errc::busy: it runs. Then there is no answer.
  base::Result<> switch_off(NodeId node, Done done);

  // An agent that SIGKILL does not end hangs in the kernel. It is left behind.
  static constexpr io::Duration kKillPatience = std::chrono::seconds(1);

 private:
  struct Agent {
    FenceAgent config;
    std::thread thread;      // joinable: it runs
    daemon::Fd give_up{-1};  // an eventfd
    Done done;
  };

  FenceAgents(io::Loop& loop, std::vector<FenceAgent> agents);
  const Agent* find(NodeId node) const;
  Agent* find(NodeId node);
  void on_ended(NodeId node, FenceAgentOutcome outcome);

  io::Loop& loop_;
  std::vector<Agent> agents_;  // never changes in size
  std::shared_ptr<FenceAgents*> self_ = std::make_shared<FenceAgents*>(this);  // ends with this
};

}  // namespace holdfast::qdisk
