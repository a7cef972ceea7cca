#include "common/io/file_backing.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "common/base/log.h"
#include "common/io/file_device.h"

namespace holdfast::io {
namespace {

constexpr const char* kLog = "backing";
constexpr mode_t kNewFileMode = 0600;

// "write back" or "write through", as the kernel knows it for the whole disk of a partition.
bool device_has_volatile_cache(dev_t device) {
  char path[96];
  char text[32] = {};
  for (const char* format :
       {"/sys/dev/block/%u:%u/queue/write_cache", "/sys/dev/block/%u:%u/../queue/write_cache"}) {
    std::snprintf(path, sizeof(path), format, major(device), minor(device));
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    const ssize_t got = ::read(fd, text, sizeof(text) - 1);
    ::close(fd);
    if (got > 0) return std::string_view(text).starts_with("write back");
  }
  return true;  // unknown: say the careful thing
}

std::unexpected<base::Error> no_room(int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  return base::fail(full ? base::Errc::no_space : base::Errc::io,
                    full ? "the file system is too full for the whole size: free space or set "
                           "thin = true"
                         : "its space cannot be reserved",
                    error);
}

// Of the offsets and lengths that O_DIRECT takes here; 0: the file system does not say.
uint32_t direct_alignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx status{};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    return status.stx_dio_offset_align;
  }
#endif
  return 0;
}

}  // namespace

base::Result<std::shared_ptr<FileBacking>> FileBacking::open(const BackingSpec& spec,
                                                             std::shared_ptr<BlockingWorker> worker,
                                                             std::shared_ptr<FileClaims> claims) {
  std::shared_ptr<FileBacking> backing(new FileBacking(spec, std::move(worker), std::move(claims)));
  TRY(backing->open_path());
  TRY(backing->lock());
  if (const base::Result<> fit = backing->prepare(); !fit.has_value()) {
    if (backing->made_) ::unlink(spec.path.c_str());
    return std::unexpected(fit.error());
  }
  return backing;
}

FileBacking::~FileBacking() {
  for (const FileClaims::Key& key : claimed_) claims_->remove(key, spec_.path);
  if (fd_ >= 0) ::close(fd_);
  worker_->finish();
}

base::Result<> FileBacking::prepare() {
  TRY(check_alignment());
  TRY(spec_.kind == BackingKind::block ? size_device() : size_file());
  probe();
  return {};
}

base::Result<> FileBacking::open_path() {
  const int access = spec_.read_only ? O_RDONLY : O_RDWR;
  int flags = access | O_CLOEXEC | O_DIRECT;
  const bool create =
      spec_.kind == BackingKind::file && !spec_.read_only && spec_.served_bytes == 0;
  if (spec_.kind == BackingKind::file) flags |= O_NONBLOCK;  // a FIFO would wait for its other end
  if (spec_.kind == BackingKind::block) flags |= O_EXCL;     // refuses a mounted or claimed device
  fd_ = ::open(spec_.path.c_str(), flags);
  if (fd_ >= 0 && spec_.kind == BackingKind::block && spec_.shared) {
    // It is neither; but the claim itself would keep the others out.
    ::close(fd_);
    flags &= ~O_EXCL;
    fd_ = ::open(spec_.path.c_str(), flags);
  }
  if (fd_ < 0 && errno == ENOENT && create) {
    // Made without O_DIRECT: a file system that has none makes the file all the same, and says so
    // when it is opened.
    fd_ = ::open(spec_.path.c_str(), (flags & ~O_DIRECT) | O_CREAT | O_EXCL, kNewFileMode);
    made_ = fd_ >= 0;
    if (made_) ::close(fd_);
    fd_ = ::open(spec_.path.c_str(), flags);
  }
  if (fd_ < 0 && errno == EINVAL) {
    LOG_WARNING(kLog, "{}: the file system has no O_DIRECT; the page cache is used", spec_.path);
    direct_ = false;
    fd_ = ::open(spec_.path.c_str(), flags & ~O_DIRECT);
  }
  if (fd_ >= 0) {
    // io_uring would give up at once what it cannot do without waiting.
    if (spec_.kind == BackingKind::file) fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) & ~O_NONBLOCK);
    return {};
  }
  switch (errno) {
    case EBUSY:
      return in_use("in use: mounted or claimed", errno);
    case ENOENT:
      return base::fail(base::Errc::not_found, "no such file or directory", errno);
    case EACCES:
    case EPERM:
      return base::fail(base::Errc::permission, "no permission to open it", errno);
    case EROFS:
      return base::fail(base::Errc::permission, "on a read-only file system", errno);
    default:
      return base::fail(base::Errc::io, "cannot be opened", errno);
  }
}

base::Result<> FileBacking::lock() {
  struct stat status{};
  if (fstat(fd_, &status) != 0) return base::fail(base::Errc::io, "fstat failed", errno);
  if (flock(fd_, (spec_.shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    return in_use("locked: another process serves it, or a killed one still has requests in flight",
                  errno);
  }
  // Whoever held the lock may have removed the file while we opened it: undo_open().
  struct stat now{};
  if (stat(spec_.path.c_str(), &now) != 0 || now.st_dev != status.st_dev ||
      now.st_ino != status.st_ino) {
    return base::fail(base::Errc::busy, "another file has come in its place");
  }
  if (claims_ == nullptr) return {};
  std::vector<FileClaims::Key> keys = {FileClaims::key_of(status)};
  if (S_ISBLK(status.st_mode)) {
    if (const auto file = FileClaims::key_behind(status.st_rdev)) keys.push_back(*file);
  }
  for (const FileClaims::Key& key : keys) {
    const std::string other = claims_->path_of(key);
    if (!other.empty() && !spec_.shared) return same_as(other);
  }
  claimed_ = std::move(keys);
  for (const FileClaims::Key& key : claimed_) claims_->add(key, spec_.path);
  return {};
}

std::unexpected<base::Error> FileBacking::same_as(const std::string& other) const {
  LOG_ERROR(kLog, "{} and {} are the same file or device", spec_.path, other);
  return base::fail(base::Errc::exists,
                    "this server has the same file or device open already, as another disk or as "
                    "one of its own files (the log names it): each would destroy the other's data");
}

// A backing of this process that is closing soon (the same path) is worth waiting for, like another
// process; a second disk of the configuration on the same store never is.
std::unexpected<base::Error> FileBacking::in_use(const char* what, int error) const {
  struct stat status{};
  if (claims_ != nullptr && stat(spec_.path.c_str(), &status) == 0) {
    const std::string other = claims_->path_of(FileClaims::key_of(status));
    if (!other.empty() && other != spec_.path) return same_as(other);
  }
  return base::fail(base::Errc::busy, what, error);
}

base::Result<> FileBacking::size_file() {
  struct stat status{};
  if (fstat(fd_, &status) != 0) return base::fail(base::Errc::io, "fstat failed", errno);
  if (!S_ISREG(status.st_mode)) {
    return base::fail(base::Errc::invalid_argument, "not a regular file: use kind = \"block\"");
  }
  const auto now = static_cast<uint64_t>(status.st_size);
  if (now < spec_.served_bytes) {
    return base::fail(
        base::Errc::corrupt,
        "the file is smaller than what was served of it before: data is lost. Restore it from a "
        "backup; to begin again with an empty disk, give it another name or path");
  }
  if (now > spec_.size_bytes) {
    if (spec_.served_bytes == 0 || spec_.served_bytes > spec_.size_bytes) {
      return base::fail(base::Errc::invalid_argument,
                        "the file is larger than the configured size: data would be cut off; set "
                        "size to at least the file's size");
    }
    // As after a kill while it was being grown. What is beyond was never served.
    LOG_WARNING(kLog, "{}: has {} bytes, of which the first {} are served, as configured",
                spec_.path, now, spec_.size_bytes);
    size_bytes_.store(spec_.size_bytes);
    return allocate_all();
  }
  size_bytes_.store(now);
  TRY(allocate_all());
  if (now < spec_.size_bytes) {
    if (spec_.read_only) {
      return base::fail(base::Errc::invalid_argument,
                        "the file is smaller than the configured size and read_only");
    }
    const base::Result<> grown = grow_to(spec_.size_bytes);
    if (grown.has_value()) {
      use_grown();
      return {};
    }
    if (now == 0 || now % spec_.block_size != 0) return grown;
    if (grown.error().code != base::Errc::no_space) return grown;
    // It was to be grown, and perhaps the process was killed in the middle of that: not to serve
    // the data there are would be worse than an old size.
    LOG_ERROR(kLog,
              "{}: has {} bytes instead of {}, and the file system is too full to grow it: free "
              "space, then apply the configuration again",
              spec_.path, now, spec_.size_bytes);
  }
  return {};
}

// A file that was thin before, or was copied with its holes.
base::Result<> FileBacking::allocate_all() {
  const auto bytes = static_cast<off_t>(size_bytes_.load());
  if (spec_.thin || spec_.read_only || bytes == 0) return {};
  if (fallocate(fd_, 0, 0, bytes) == 0) return {};
  if (spec_.served_bytes == 0) return no_room(errno);
  // A full file system is no reason not to serve what is there.
  LOG_ERROR(kLog, "{}: thin = false, but not all of its space could be reserved ({}): free space",
            spec_.path, std::strerror(errno));
  return {};
}

// With O_DIRECT the file system takes what its own disk can do.
base::Result<> FileBacking::check_alignment() const {
  if (!direct_ || spec_.kind == BackingKind::block) return {};
  const uint32_t needed = direct_alignment(fd_);
  if (needed <= spec_.block_size) return {};
  return base::fail(base::Errc::invalid_argument,
                    "the sectors of its file system are larger than block_size: set block_size = "
                    "4096");
}

base::Result<uint64_t> FileBacking::device_bytes() const {
  uint64_t bytes = 0;
  if (ioctl(fd_, BLKGETSIZE64, &bytes) != 0) {
    return base::fail(base::Errc::io, "its size cannot be read", errno);
  }
  return bytes / spec_.block_size * spec_.block_size;
}

base::Result<> FileBacking::size_device() {
  struct stat status{};
  if (fstat(fd_, &status) != 0 || !S_ISBLK(status.st_mode)) {
    return base::fail(base::Errc::invalid_argument, "not a block device: use kind = \"file\"");
  }
  int sector = 0;
  if (ioctl(fd_, BLKSSZGET, &sector) != 0) {
    return base::fail(base::Errc::io, "its sector size cannot be read", errno);
  }
  if (static_cast<uint32_t>(sector) > spec_.block_size) {
    return base::fail(base::Errc::invalid_argument,
                      "the device's sectors are larger than block_size: set block_size = 4096");
  }
  TRY_ASSIGN(const uint64_t bytes, device_bytes());
  size_bytes_.store(bytes);
  volatile_cache_ = device_has_volatile_cache(status.st_rdev);
  return {};
}

void FileBacking::probe() {
  if (spec_.read_only || !spec_.thin) return;
  // Punching a hole beyond the end, which may lie behind what is served, changes nothing but says
  // whether holes can be punched.
  can_discard_ =
      spec_.kind == BackingKind::block || fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                    lseek(fd_, 0, SEEK_END), 4096) == 0;
  if (!can_discard_) {
    LOG_WARNING(kLog, "{}: holes cannot be punched: UNMAP is not offered", spec_.path);
  }
}

void FileBacking::grow(uint64_t size_bytes, Loop& reply_to, Resized done) {
  auto shared_done = std::make_shared<Resized>(std::move(done));
  const bool taken = worker_->submit([this, size_bytes, &reply_to, shared_done]() noexcept {
    reply_to.post(
        [result = grow_to(size_bytes), shared_done]() noexcept { (*shared_done)(result); });
  });
  if (taken) return;
  reply_to.post([shared_done]() noexcept {
    (*shared_done)(base::fail(base::Errc::busy, "the disk is busy with earlier requests"));
  });
}

base::Result<> FileBacking::grow_to(uint64_t size_bytes) {
  const uint64_t now = size_bytes_.load();
  if (size_bytes < now) return base::fail(base::Errc::invalid_argument, "disks only grow");
  if (spec_.kind == BackingKind::block) {
    TRY_ASSIGN(grown_bytes_, device_bytes());
    if (grown_bytes_ < size_bytes) {
      return base::fail(base::Errc::invalid_argument, "the block device itself is smaller");
    }
    return {};
  }
  struct stat status{};
  if (fstat(fd_, &status) != 0) return base::fail(base::Errc::io, "fstat failed", errno);
  before_bytes_ = static_cast<uint64_t>(status.st_size);
  if (spec_.read_only && before_bytes_ < size_bytes) {
    return base::fail(base::Errc::invalid_argument, "the disk is read_only, and its file smaller");
  }
  if (spec_.read_only) {
    grown_bytes_ = size_bytes;
    return {};
  }
  if (before_bytes_ > size_bytes) {
    return base::fail(base::Errc::invalid_argument,
                      "the file has been made larger than that by others: data would be cut off; "
                      "grow it to at least the file's size");
  }
  const auto grown = extend(now, size_bytes);
  if (!grown.has_value()) {
    if (ftruncate(fd_, static_cast<off_t>(before_bytes_)) != 0) {
      LOG_WARNING(kLog, "{}: not cut back to {} bytes", spec_.path, before_bytes_);
    }
    return grown;
  }
  grown_bytes_ = size_bytes;
  return {};
}

void FileBacking::use_grown() { size_bytes_.store(std::exchange(grown_bytes_, 0)); }

// The copy of the descriptor keeps the lock until all is done, whatever becomes of this object.
void FileBacking::undo_grow() {
  if (std::exchange(grown_bytes_, 0) == 0 || !is_file() || spec_.read_only) return;
  const int fd = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  const bool taken = worker_->submit([fd, path = spec_.path, bytes = before_bytes_]() noexcept {
    if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
      LOG_WARNING(kLog, "{}: not cut back to {} bytes", path, bytes);
    }
    ::close(fd);
  });
  if (!taken) ::close(fd);
}

void FileBacking::undo_open() {
  if (!std::exchange(made_, false)) return;
  const int fd = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  const bool taken = worker_->submit([fd, path = spec_.path]() noexcept {
    if (::unlink(path.c_str()) != 0) LOG_WARNING(kLog, "{}: not removed again", path);
    ::close(fd);
  });
  if (!taken) ::close(fd);
}

base::Result<> FileBacking::extend(uint64_t from_bytes, uint64_t to_bytes) {
  const auto from = static_cast<off_t>(from_bytes);
  const auto to = static_cast<off_t>(to_bytes);
  if (!spec_.thin) {
    if (fallocate(fd_, 0, from, to - from) != 0) {
      return no_room(errno);
    }
  } else if (ftruncate(fd_, to) != 0) {
    return base::fail(errno == EFBIG ? base::Errc::limit : base::Errc::io,
                      "the file cannot be made that large", errno);
  }
  // The size must survive power loss before a capacity that depends on it is shown to anybody.
  if (fsync(fd_) != 0) return base::fail(base::Errc::io, "fsync failed", errno);
  return {};
}

BlockInfo FileBacking::info() const {
  return {.size_bytes = size_bytes_.load(std::memory_order_acquire),
          .block_size = spec_.block_size,
          .physical_block_size = spec_.physical_block_size,
          .volatile_cache = volatile_cache_,
          .can_discard = can_discard_,
          .read_only = spec_.read_only};
}

std::unique_ptr<BlockDevice> FileBacking::attach(Loop& loop) {
  return std::make_unique<FileDevice>(
      *this, static_cast<UringLoop&>(loop));  // production loops are UringLoops
}

base::Result<Extent> FileBacking::extent_at(uint64_t offset) const {
  const uint64_t size = size_bytes_.load();
  ASSERT(offset < size);
  const auto start = static_cast<off_t>(offset);
  // The file may be larger than what is served of it.
  const auto until = [offset, size](off_t end) {
    return std::min(static_cast<uint64_t>(end), size) - offset;
  };
  const off_t data = lseek(fd_, start, SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) return Extent{ExtentState::deallocated, size - offset};
    return Extent{ExtentState::mapped, size - offset};  // not supported: all of it counts as data
  }
  if (data > start) return Extent{ExtentState::deallocated, until(data)};
  const off_t hole = lseek(fd_, start, SEEK_HOLE);
  if (hole <= start) return Extent{ExtentState::mapped, size - offset};
  return Extent{ExtentState::mapped, until(hole)};
}

}  // namespace holdfast::io
