#pragma once
// Tells systemd about the state of the service (Type=notify). Does nothing when systemd did not
// start us. By hand rather than with libsystemd: it is one datagram, and the library is not.

#include <string_view>

namespace holdfast::daemon {

// Assignments, one a line, as in sd_notify(3): "READY=1\nSTATUS=serving 2 targets".
// False when there is somebody to tell and it failed.
bool notify_systemd(std::string_view assignments);

}  // namespace holdfast::daemon
