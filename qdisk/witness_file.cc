#include "qdisk/witness_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/base/assert.h"
#include "qdisk/layout.h"

namespace holdfast::qdisk {

using base::Errc;
using base::fail;
using base::Result;

namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;

std::unexpected<base::Error> open_failed(int error) {
  switch (error) {
    case EBUSY:
      return fail(Errc::busy, "in use: mounted, or claimed by another program", error);
    case ENOENT:
      return fail(Errc::not_found, "no such file or device", error);
    case EACCES:
    case EPERM:
      return fail(Errc::permission, "no permission to open it: run this as root", error);
    case EROFS:
      return fail(Errc::permission, "it is read-only", error);
    case EISDIR:
      return fail(Errc::invalid_argument, "neither a block device nor a regular file", error);
    default:
      return fail(Errc::io, "cannot be opened", error);
  }
}

std::unexpected<base::Error> io_failed(const char* what, int error) {
  // What the block layer makes of a SCSI reservation conflict.
  if (error == EBADE) {
    return fail(Errc::permission,
                "another host holds a reservation there that shuts this one out: a cluster uses it",
                error);
  }
  return fail(Errc::io, what, error);
}

}  // namespace

void WitnessFile::FreeBuffer::operator()(uint8_t* buffer) const { std::free(buffer); }

WitnessFile::WitnessFile(int fd, bool block_device)
    : fd_(fd),
      block_device_(block_device),
      buffer_(static_cast<uint8_t*>(std::aligned_alloc(kSlotBytes, kBufferBytes))) {
  ASSERT(buffer_ != nullptr);
}

WitnessFile::WitnessFile(WitnessFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      block_device_(other.block_device_),
      size_bytes_(other.size_bytes_),
      sector_bytes_(other.sector_bytes_),
      buffer_(std::move(other.buffer_)),
      progress_(std::move(other.progress_)) {}

WitnessFile::~WitnessFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<WitnessFile> WitnessFile::open(const std::string& path, Use use) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return open_failed(errno);
  const bool block = S_ISBLK(status.st_mode);
  if (!block && !S_ISREG(status.st_mode)) return open_failed(EISDIR);
  int flags = O_CLOEXEC | O_DIRECT | O_NONBLOCK;
  flags |= use == Use::format ? O_RDWR | O_DSYNC : O_RDONLY;
  if (use == Use::format && block) flags |= O_EXCL;
  int fd = ::open(path.c_str(), flags);
  // A file system without O_DIRECT. Of a file no other host has a copy in mind.
  if (fd < 0 && errno == EINVAL && !block) fd = ::open(path.c_str(), flags & ~O_DIRECT);
  if (fd < 0) return open_failed(errno);
  WitnessFile made(fd, block);
  struct stat opened{};
  if (::fstat(fd, &opened) != 0 || opened.st_mode != status.st_mode) {
    return fail(Errc::busy, "another file has come in its place");
  }
  // As our target locks what it serves.
  if (use == Use::format && ::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::busy, "in use: another program has locked it", errno);
  }
  TRY(made.learn_size());
  return made;
}

Result<> WitnessFile::learn_size() {
  if (!block_device_) {
    struct stat status{};
    if (::fstat(fd_, &status) != 0) return io_failed("its size cannot be read", errno);
    size_bytes_ = static_cast<uint64_t>(status.st_size);
    return {};
  }
  int sector = 0;
  if (::ioctl(fd_, BLKGETSIZE64, &size_bytes_) != 0 || ::ioctl(fd_, BLKSSZGET, &sector) != 0) {
    return io_failed("its size cannot be read", errno);
  }
  if (sector != 512 && sector != 4096) {
    return fail(Errc::unsupported, "its sectors have neither 512 nor 4096 bytes");
  }
  sector_bytes_ = static_cast<uint32_t>(sector);
  return {};
}

bool WitnessFile::within(uint64_t offset, size_t size) const {
  ASSERT(offset % sector_bytes_ == 0 && size % sector_bytes_ == 0);
  return offset <= size_bytes_ && size <= size_bytes_ - offset;
}

Result<> WitnessFile::read(uint64_t offset, base::MutableBytes out) {
  if (!within(offset, out.size())) return fail(Errc::io, "the device is too small");
  while (!out.empty()) {
    const size_t wanted = std::min(out.size(), kBufferBytes);
    const ssize_t got = ::pread(fd_, buffer_.get(), wanted, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_failed("it cannot be read", errno);
    const auto count = static_cast<size_t>(got);
    if (count == 0 || count % sector_bytes_ != 0) return fail(Errc::io, "it became smaller");
    std::memcpy(out.data(), buffer_.get(), count);
    out = out.subspan(count);
    offset += count;
    if (progress_) progress_();
  }
  return {};
}

Result<> WitnessFile::write(uint64_t offset, base::Bytes in) {
  if (!within(offset, in.size())) return fail(Errc::io, "the device is too small");
  while (!in.empty()) {
    const size_t wanted = std::min(in.size(), kBufferBytes);
    std::memcpy(buffer_.get(), in.data(), wanted);
    const ssize_t done = ::pwrite(fd_, buffer_.get(), wanted, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return io_failed("it cannot be written", errno);
    const auto count = static_cast<size_t>(done);
    if (count == 0 || count % sector_bytes_ != 0) return fail(Errc::io, "a write was cut short");
    in = in.subspan(count);
    offset += count;
    if (progress_) progress_();
  }
  // A block device may take O_DSYNC for itself only; its cache is flushed with this.
  while (::fdatasync(fd_) != 0) {
    if (errno != EINTR) return io_failed("it cannot be flushed", errno);
  }
  if (progress_) progress_();
  return {};
}

}  // namespace holdfast::qdisk
