#pragma once
// What each request of the daemon's control socket does: docs/operations.md, "Control socket of
// holdfast-qdiskd".

#include <string>

#include "common/daemon/control_server.h"
#include "common/daemon/metrics_server.h"
#include "common/io/loop.h"
#include "qdisk/node_service.h"

namespace holdfast::qdisk {

// One loop's: that of the node, which outlives it.
class Control {
 public:
  // `finish`: fills in what the node does not know itself, its connections and its watchdog.
  using Finish = std::move_only_function<void(QuorumStatus&) noexcept>;
  Control(io::Loop& loop, NodeService& node, Finish finish)
      : loop_(loop), node_(node), finish_(std::move(finish)) {}
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // For the control server. Any thread; the answers come from this loop.
  daemon::ControlServer::Handler handler();
  // For the metrics server, in the same way.
  daemon::MetricsPage metrics_page();

 private:
  using Reply = daemon::StreamServer::Reply;
  void carry_out(const std::string& request, Reply reply);
  QuorumStatus status();

  io::Loop& loop_;
  NodeService& node_;
  Finish finish_;
};

}  // namespace holdfast::qdisk
