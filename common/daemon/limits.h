#pragma once
// Bounds that every daemon of ours shares: what its configuration and its control socket may ask
// for.

#include <cstddef>

namespace holdfast::daemon {

inline constexpr size_t kMaxConfigFileBytes = 1 << 20;
inline constexpr size_t kMaxName = 64;         // of a disk, a device
inline constexpr size_t kMaxIscsiName = 223;   // RFC 7143 4.2.7.1
inline constexpr size_t kMaxPath = 4095;       // PATH_MAX without its NUL
inline constexpr size_t kMaxSocketPath = 107;  // sockaddr_un::sun_path without its NUL

// RFC 7143 9.2.1 asks for 96 random bits without IPsec, which is 12 bytes; Windows takes 12 to 16
// characters.
inline constexpr size_t kMinSecret = 12;
inline constexpr size_t kMaxSecret = 255;
inline constexpr size_t kMaxChapUser = 255;

inline constexpr size_t kMaxControlClients = 16;
inline constexpr size_t kMaxControlRequest = 1 << 20;

}  // namespace holdfast::daemon
