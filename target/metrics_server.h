#pragma once
// GET /metrics for Prometheus. Plain HTTP/1.1 without authentication: bind it to an address that
// only the monitoring reaches. Why no HTTP library: docs/decisions/004-metrics-page.md.

#include <expected>
#include <memory>
#include <string>

#include "common/daemon/stream_server.h"
#include "common/io/network.h"
#include "target/node_control.h"

namespace holdfast::target {

inline constexpr size_t kMaxMetricsClients = 8;
inline constexpr size_t kMaxMetricsRequest = 8192;

class MetricsServer {
 public:
  virtual ~MetricsServer() = default;

  // The error is for the administrator. The node must outlive the server.
  static std::expected<std::unique_ptr<MetricsServer>, std::string> start(
      const io::Endpoint& endpoint, NodeControl& node);
};

// For tests: the server without its socket.
std::unique_ptr<daemon::StreamServer::Protocol> make_metrics_protocol(NodeControl& node);

}  // namespace holdfast::target
