#pragma once
// The daemon's control socket: a unix socket that only root and the daemon's own user may use.
// Requests and answers are JSON objects, one a line: docs/operations.md, "Control socket".

#include <chrono>
#include <expected>
#include <memory>
#include <string>

#include "target/node_control.h"

namespace holdfast::target {

struct ControlServerOptions {
  std::string path;
  // The node answers within its drain deadline plus a second.
  std::chrono::milliseconds reply_deadline{14'000};
  std::chrono::milliseconds request_deadline{5'000};
};

inline constexpr size_t kMaxControlClients = 16;
inline constexpr size_t kMaxControlRequest = 1 << 20;

// May this user control the daemon?
constexpr bool control_allowed(unsigned peer_uid, unsigned own_uid) {
  return peer_uid == 0 || peer_uid == own_uid;
}

class ControlServer {
 public:
  virtual ~ControlServer() = default;  // removes the socket's file

  // Replaces the socket file of a daemon that is gone, never that of one that answers. The error is
  // for the administrator. The node must outlive the server.
  static std::expected<std::unique_ptr<ControlServer>, std::string> start(
      const ControlServerOptions& options, NodeControl& node);
};

}  // namespace holdfast::target
