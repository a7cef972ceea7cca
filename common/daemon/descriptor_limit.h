#pragma once

#include <cstdint>

namespace holdfast::daemon {

// Allows this process as many open files as it may have (RLIMIT_NOFILE); says in the log when that
// fails. Returns how many that is.
uint64_t raise_descriptor_limit();

}  // namespace holdfast::daemon
