#pragma once
// From a configuration to a serving node, or to a list of what is wrong and nothing started.

#include <string>
#include <vector>

#include "target/node_control.h"
#include "target/node_state.h"

namespace holdfast::target {

// Disks whose lock another process still holds, or whose server is silent, hold up the start for at
// most this long; they answer NOT READY until they are open.
inline constexpr io::Duration kStartWait = std::chrono::seconds(5);

// Owner: TargetNode. Thread: the control loop's. Used once.
class NodeStart {
 public:
  using Reply = NodeControl::Reply<NodeControl::Outcome>;

  explicit NodeStart(NodeState& node) : node_(node) {}
  NodeStart(const NodeStart&) = delete;
  NodeStart& operator=(const NodeStart&) = delete;
  ~NodeStart() { stop(); }

  void begin(Config config, Reply reply);
  void stop();

 private:
  void on_identified(const DiskConfig& disk, DiskOrigin origin, base::Result<DiskRecord> record);
  void open_disks();
  void on_settled(const Unit& unit);
  void on_wait_over() noexcept;
  void listen();
  void publish();
  void fail();

  NodeState& node_;
  Reply reply_;  // empty: over
  std::vector<std::string> problems_;
  size_t unidentified_ = 0;
  size_t unsettled_ = 0;
  io::TimerOf<NodeStart, &NodeStart::on_wait_over> wait_{*this};
};

}  // namespace holdfast::target
