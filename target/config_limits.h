#pragma once
// Bounds of what a configuration may ask for. They bound memory and the time an apply takes; none
// of them is near what one storage server needs.

#include <cstddef>
#include <cstdint>

namespace holdfast::target {

inline constexpr size_t kMaxPortals = 64;  // all groups together: a listening socket each
inline constexpr size_t kMaxDisks = 256;   // a lock, a uuid and counters each
inline constexpr size_t kMaxTargets = 256;
inline constexpr size_t kMaxLunsPerTarget = 256;  // one REPORT LUNS answer of 2 KiB
inline constexpr size_t kMaxInitiatorsPerTarget = 1024;
inline constexpr size_t kMaxAddressesPerInitiator = 64;

inline constexpr uint16_t kMaxLun = 16383;  // flat space addressing, SAM-5, LUN
inline constexpr uint64_t kMaxDiskBytes = uint64_t{1} << 60;
inline constexpr uint32_t kMaxPhysicalBlock = 1 << 20;

inline constexpr uint32_t kMaxThreads = 256;
inline constexpr uint32_t kMaxSpinUs = 1000;
inline constexpr uint64_t kMaxBufferMemory = uint64_t{64} << 30;
inline constexpr uint32_t kMaxConnections = 65536;
inline constexpr uint32_t kMinDrainMs = 1000;
inline constexpr uint32_t kMaxDrainMs = 60'000;

}  // namespace holdfast::target
