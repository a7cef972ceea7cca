#pragma once
// What a disk is stored on, opened and locked once per process, attached to every loop that uses
// it.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/io/block_device.h"
#include "common/io/loop.h"

namespace holdfast::io {

enum class BackingKind : uint8_t { file, block, memory };

struct BackingSpec {
  BackingKind kind = BackingKind::file;
  std::string path;         // file, block
  uint64_t size_bytes = 0;  // 0 for block: what the device has
  bool thin = true;         // file: sparse and UNMAP punches holes; else preallocated
  uint32_t block_size = 512;
  uint32_t physical_block_size = 4096;
  bool read_only = false;
  // Of a file: how much of it has been served before. It is made when it is absent only if that is
  // nothing; one that is smaller now has lost data.
  uint64_t served_bytes = 0;
  bool shared = false;  // with others that say the same: several daemons of a host on one LUN
  bool operator==(const BackingSpec&) const = default;
};

// Shared by loops. While any Backing of a path exists, its lock (exclusive, unless `shared`) is
// held through the open file description that does the I/O, so that after a kill the kernel keeps
// the lock until the last request of the dead process has ended (no late write after a restart).
class Backing {
 public:
  using Resized = std::move_only_function<void(base::Result<>) noexcept>;

  virtual ~Backing() = default;
  virtual BlockInfo info() const = 0;  // thread-safe
  // On the loop's own thread. The device must be destroyed before the Backing, with no op pending.
  virtual std::unique_ptr<BlockDevice> attach(Loop& loop) = 0;
  // Makes room for that size, at least what it is now; may block, so it runs elsewhere and answers
  // on reply_to, exactly once. Nobody sees it before use_grown(). The caller keeps the Backing
  // until the answer.
  virtual void grow(uint64_t size_bytes, Loop& reply_to, Resized done) = 0;
  // What the last grow() made is the size from now on, also in the info() of attached devices.
  virtual void use_grown() = 0;
  // What the last grow() made is not used: gives it back, as far as possible, at some time.
  virtual void undo_grow() = 0;
  // The same with a file that open() has made. Before anything was stored in it.
  virtual void undo_open() = 0;
};

// Opening can block (a dead NFS server), so it never runs on a loop. The answer arrives on the loop
// given, exactly once.
class BackingOpener {
 public:
  using Opened = std::move_only_function<void(base::Result<std::shared_ptr<Backing>>) noexcept>;

  virtual ~BackingOpener() = default;
  // Creates the file if absent (if it was served before: Errc::not_found). Fails with Errc::busy
  // while another process holds the lock (try again later), Errc::exists while this process has the
  // same file or device open under another path, Errc::invalid_argument when an existing file is
  // larger than size_bytes (never shrunk) and so much was not served before, Errc::corrupt when
  // less is there than was. One that is smaller and cannot be grown, because the file system is
  // full, keeps its size.
  virtual void open(const BackingSpec& spec, Loop& reply_to, Opened done) = 0;
};

}  // namespace holdfast::io
