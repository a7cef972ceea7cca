#pragma once
// The files of a daemon's state directory: read whole, replaced whole, and there after a power cut
// once the call has returned. Blocking: at a start, or on a thread at the edge.

#include <expected>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"

namespace holdfast::daemon {

// Owner of a descriptor.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();
  int get() const { return fd_; }

 private:
  int fd_;
};

// With its parents, each of them synced: what is made durable in it must not vanish with it. The
// error is for the administrator.
std::expected<void, std::string> make_directory(const std::string& directory);
// Makes the file if it is absent. Nothing: another process holds it. The lock goes with the Fd.
std::expected<std::optional<Fd>, std::string> lock_file(const std::string& path);

// These fail with an errno.
// Of a file with more than `max_bytes`: one byte more than that. ENOENT: there is none. EINVAL: it
// is no regular file.
std::expected<std::vector<uint8_t>, int> read_file(const std::string& path, size_t max_bytes);
std::expected<void, int> sync_directory(const std::string& path);

struct WriteFailure {
  std::string path;  // what is to be looked at: not always the file that was to be replaced
  int sys = 0;       // errno
};
// By way of PATH.new and a rename: at no moment is there half of one.
std::expected<void, WriteFailure> replace_file(const std::string& path, base::Bytes content);

}  // namespace holdfast::daemon
