#pragma once
// A daemon's control socket: a unix socket that only root and the daemon's own user may use.
// Requests and answers are JSON objects, one a line: docs/operations.md, "Control socket".

#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <string>

#include "common/daemon/stream_server.h"

namespace holdfast::daemon {

struct ControlServerOptions {
  std::string path;
  std::chrono::milliseconds reply_deadline{14'000};
  std::chrono::milliseconds request_deadline{5'000};
  // What the client is told when the answer has not come by then.
  std::string timed_out = "timed out: the daemon is still at it";
};

// May this user control the daemon?
constexpr bool control_allowed(unsigned peer_uid, unsigned own_uid) {
  return peer_uid == 0 || peer_uid == own_uid;
}

class ControlServer {
 public:
  // On the server's thread: one line. The answer is a line too (control_message.h) and may follow
  // later, from any thread.
  using Handler = std::move_only_function<void(std::string request, StreamServer::Reply reply)>;

  virtual ~ControlServer() = default;  // removes the socket's file

  // Replaces the socket file of a daemon that is gone, never that of one that answers. The error is
  // for the administrator. What the handler uses must outlive the server.
  static std::expected<std::unique_ptr<ControlServer>, std::string> start(
      const ControlServerOptions& options, Handler handler);
};

}  // namespace holdfast::daemon
