#pragma once
// What each request of the daemon's control socket does: docs/operations.md, "Control socket of
// holdfast-qdiskd".

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/daemon/control_server.h"
#include "common/daemon/metrics_server.h"
#include "common/io/loop.h"
#include "qdisk/node_service.h"
#include "qdisk/quorum_events.h"

namespace holdfast::qdisk {

// One loop's: that of the node, which outlives it.
class Control {
 public:
  // `finish`: fills in what the node does not know itself, its connections and its watchdog.
  using Finish = std::move_only_function<void(QuorumStatus&) noexcept>;
  Control(io::Loop& loop, NodeService& node, Finish finish);
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;
  ~Control();

  // For the control server. Any thread; the answers come from this loop.
  daemon::ControlServer::Handler handler();
  // For the metrics server, in the same way.
  daemon::MetricsPage metrics_page();

 private:
  using Reply = daemon::StreamServer::Reply;
  // What a request is answered with; nothing: not yet. `last`: it waits no longer.
  using Look = std::move_only_function<std::optional<nlohmann::json>(bool last) noexcept>;
  struct Waiting {
    Look look;
    Reply reply;
    io::Instant until{};
  };

  void carry_out(const std::string& request, Reply reply);
  void attend(const nlohmann::json& request, Reply reply);
  void fence(const nlohmann::json& request, Reply reply);
  void get_configuration(Reply reply);
  void set_configuration(const nlohmann::json& request, Reply reply);
  void look_at_proposal(uint64_t version, Reply reply);
  void wait(Look look, Reply reply);
  void look_at_waiting() noexcept;
  void on_change();
  QuorumStatus status();

  io::Loop& loop_;
  NodeService& node_;
  Finish finish_;
  EventLog events_;
  std::vector<Waiting> waiting_;
  io::TimerOf<Control, &Control::look_at_waiting> timer_{*this};
};

}  // namespace holdfast::qdisk
