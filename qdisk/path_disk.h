#pragma once
// A disk that the kernel gives: a block device, with reservations through its ioctls, or a file,
// which has none (a lab, a single host).

#include <expected>
#include <memory>
#include <string>

#include "common/io/file_shared_device.h"

namespace holdfast::qdisk {

// On the loop's own thread. Blocks: for a start. The error is for the administrator.
std::expected<std::unique_ptr<io::FileSharedDevice>, std::string> open_path_disk(
    io::Loop& loop, const std::string& path);

}  // namespace holdfast::qdisk
