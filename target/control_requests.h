#pragma once
// What each request of the control socket does.

#include <string_view>

#include "common/daemon/control_server.h"
#include "target/node_control.h"

namespace holdfast::target {

// Parses one request and passes it to the node; the answer follows in its own time. What is wrong
// with the request itself is answered at once.
void carry_out(std::string_view request, NodeControl& node, daemon::StreamServer::Reply reply);

// The same for the control socket. The node must outlive its server.
daemon::ControlServer::Handler control_handler(NodeControl& node);

}  // namespace holdfast::target
