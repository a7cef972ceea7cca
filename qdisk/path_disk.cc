#include "qdisk/path_disk.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "common/io/blocking_worker.h"
#include "common/io/file_backing.h"
#include "common/io/kernel_shared_device.h"

namespace holdfast::qdisk {

std::expected<std::unique_ptr<io::FileSharedDevice>, std::string> open_path_disk(
    io::Loop& loop, const std::string& path) {
  const auto failed = [&path](const char* what, int error) {
    return std::unexpected(error == 0
                               ? fmt::format("{}: {}", path, what)
                               : fmt::format("{}: {} ({})", path, what, std::strerror(error)));
  };
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return failed("cannot be used", errno);
  const bool block = S_ISBLK(status.st_mode);
  if (!block && !S_ISREG(status.st_mode)) return failed("no block device and no regular file", 0);
  io::BackingSpec spec{
      .kind = block ? io::BackingKind::block : io::BackingKind::file, .path = path, .shared = true};
  if (!block) {
    // As long as it is, and never made.
    spec.size_bytes = spec.served_bytes = static_cast<uint64_t>(status.st_size);
  }
  auto backing = io::FileBacking::open(spec, io::BlockingWorker::start());
  if (!backing) return failed(backing.error().what, backing.error().sys);
  if (block) {
    const int fd = (*backing)->fd();
    auto device = io::KernelSharedDevice::open(loop, std::move(*backing), fd, {});
    if (!device) return failed(device.error().what, device.error().sys);
    return std::move(*device);
  }
  auto device = io::FileSharedDevice::open(loop, std::move(*backing));
  if (!device) return failed(device.error().what, device.error().sys);
  return std::move(*device);
}

}  // namespace holdfast::qdisk
