#include "common/io/file_claims.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <fstream>

#include "common/base/assert.h"

namespace holdfast::io {

FileClaims::Key FileClaims::key_of(const struct stat& status) {
  if (S_ISBLK(status.st_mode)) return {.block_device = true, .device = status.st_rdev};
  return {.device = status.st_dev, .inode = status.st_ino};
}

std::optional<FileClaims::Key> FileClaims::key_behind(dev_t device) {
  const std::string link =
      fmt::format("/sys/dev/block/{}:{}/loop/backing_file", major(device), minor(device));
  std::ifstream file(link);
  std::string path;
  struct stat status{};
  if (!std::getline(file, path) || stat(path.c_str(), &status) != 0) return std::nullopt;
  return key_of(status);
}

void FileClaims::add(const Key& key, const std::string& path) {
  const MutexLock guard(mutex_);
  claims_.emplace(key, path);
}

void FileClaims::remove(const Key& key, const std::string& path) {
  const MutexLock guard(mutex_);
  const auto [first, last] = claims_.equal_range(key);
  for (auto claim = first; claim != last; ++claim) {
    if (claim->second != path) continue;
    claims_.erase(claim);
    return;
  }
  ASSERT(false);  // removed what was never added
}

std::string FileClaims::path_of(const Key& key) const {
  const MutexLock guard(mutex_);
  const auto found = claims_.find(key);
  return found == claims_.end() ? std::string{} : found->second;
}

}  // namespace holdfast::io
