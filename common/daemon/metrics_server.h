#pragma once
// GET /metrics for Prometheus. Plain HTTP/1.1 without authentication: bind it to an address that
// only the monitoring reaches. Why no HTTP library: docs/decisions/004-metrics-page.md.

#include <expected>
#include <memory>
#include <string>

#include "common/daemon/stream_server.h"
#include "common/io/network.h"

namespace holdfast::daemon {

inline constexpr size_t kMaxMetricsClients = 8;
inline constexpr size_t kMaxMetricsRequest = 8192;

// Gives the text of the page, for which it may have to ask another thread. On the server's thread;
// what it uses outlives the server.
using MetricsPage = std::move_only_function<void(StreamServer::Reply reply)>;

class MetricsServer {
 public:
  virtual ~MetricsServer() = default;

  // The error is for the administrator.
  static std::expected<std::unique_ptr<MetricsServer>, std::string> start(
      const io::Endpoint& endpoint, MetricsPage page);
};

// For tests: the server without its socket.
std::unique_ptr<StreamServer::Protocol> make_metrics_protocol(MetricsPage page);

}  // namespace holdfast::daemon
