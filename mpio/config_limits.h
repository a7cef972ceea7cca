#pragma once
// Bounds of what a configuration may ask for.

#include <cstddef>
#include <cstdint>

#include "mpio/limits.h"

namespace holdfast::mpio {

inline constexpr size_t kMaxDevices = 256;
inline constexpr size_t kMaxExports = 256;
inline constexpr uint32_t kMaxSessionsPerPortal = 8;  // more than one connection can carry, x 8
inline constexpr uint32_t kMaxIoThreads = 64;
inline constexpr uint16_t kMaxLun = 16383;  // flat space addressing, SAM-5
inline constexpr uint32_t kMinNoPathMs = 1000;
inline constexpr uint32_t kMaxNoPathMs = 24 * 3600 * 1000;
inline constexpr uint32_t kMinGhostHoldMs = 1000;
inline constexpr uint32_t kMaxGhostHoldMs = 3600 * 1000;
// Of each thread: parameter data and the data of NBD clients, whose largest request has 32 MiB.
inline constexpr uint64_t kMinBufferMemory = uint64_t{32} << 20;
inline constexpr uint64_t kMaxBufferMemory = uint64_t{16} << 30;
inline constexpr uint64_t kDefaultBufferMemory = uint64_t{128} << 20;

}  // namespace holdfast::mpio
