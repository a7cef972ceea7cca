#pragma once
// What each request of the control socket does.

#include <string_view>

#include "target/node_control.h"
#include "target/stream_server.h"

namespace holdfast::target {

// Parses one request and passes it to the node; the answer follows in its own time. What is wrong
// with the request itself is answered at once.
void carry_out(std::string_view request, NodeControl& node, StreamServer::Reply reply);

}  // namespace holdfast::target
