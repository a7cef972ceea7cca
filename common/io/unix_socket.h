#pragma once
// Unix stream sockets with a file. What Network says of them, for programs without a loop too.

#include "common/io/network.h"

namespace holdfast::io {

// sun_path with its terminating NUL has 108 bytes.
inline constexpr size_t kMaxUnixPath = 107;

base::Result<Socket> listen_unix(const std::string& path, uint32_t mode);
// Never more than a socket's file. Before the listener is closed: afterwards the path may already
// be another process's, who found the file stale.
void unlink_unix(const std::string& path);
base::Result<Socket> connect_unix(const std::string& path);

}  // namespace holdfast::io
