#pragma once
// The command line's side of a control socket.

#include <chrono>
#include <expected>
#include <functional>
#include <string>

namespace holdfast::daemon {

// Sends one line to the daemon behind the socket and returns the line it answers. The error is for
// the user.
using Exchange = std::function<std::expected<std::string, std::string>(const std::string& socket,
                                                                       const std::string& request)>;
// `daemon`: its program's name, static text. The whole exchange ends by the deadline.
Exchange control_exchange(const char* daemon, std::chrono::milliseconds deadline);

}  // namespace holdfast::daemon
