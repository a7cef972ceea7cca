#pragma once
// What each request of the control socket does.

#include <functional>
#include <string_view>

#include "common/daemon/control_server.h"
#include "common/io/loop.h"
#include "target/node_control.h"

namespace holdfast::target {

struct ControlParts {
  NodeControl& node;
  // Carries out a task that reads files, on another thread; false: too many wait.
  std::function<bool(io::Task)> read_files;
};

// Parses one request and passes it to the node; the answer follows in its own time. What is wrong
// with the request itself is answered at once.
void carry_out(std::string_view request, const ControlParts& parts,
               daemon::StreamServer::Reply reply);

// The same for the control socket. The node must outlive its server and the files' reader.
daemon::ControlServer::Handler control_handler(ControlParts parts);

}  // namespace holdfast::target
