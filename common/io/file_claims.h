#pragma once
// Which files and devices this process has open as backings, by what they are rather than by their
// path: a link, or a second name of a device, would otherwise give two disks one store.

#include <sys/stat.h>

#include <compare>
#include <map>
#include <optional>
#include <string>

#include "common/io/mutex.h"

namespace holdfast::io {

// Thread-safe. One for all backings of a process: SystemBackingOpener's.
class FileClaims {
 public:
  // Device and inode of a file, number of a block device.
  struct Key {
    bool block_device = false;
    dev_t device = 0;
    ino_t inode = 0;
    auto operator<=>(const Key&) const = default;
  };
  static Key key_of(const struct stat& status);
  // Of the file behind a loop device; none: it is no such device.
  static std::optional<Key> key_behind(dev_t device);

  // After its lock was taken; those of `shared` backings may be several. Also of files that are no
  // backing and must not become one.
  void add(const Key& key, const std::string& path);
  void remove(const Key& key, const std::string& path);
  // The path under which it is open here; empty: not open here.
  std::string path_of(const Key& key) const;

 private:
  mutable Mutex mutex_;
  std::multimap<Key, std::string> claims_ HOLDFAST_GUARDED_BY(mutex_);
};

}  // namespace holdfast::io
