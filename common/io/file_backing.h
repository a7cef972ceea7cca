#pragma once
// Files and block devices through O_DIRECT and io_uring.

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "common/io/backing.h"
#include "common/io/blocking_worker.h"
#include "common/io/file_claims.h"
#include "common/io/uring_loop.h"

namespace holdfast::io {

class FileBacking final : public Backing {
 public:
  // Blocks; call on a worker. Opens or creates, locks, sizes. See BackingOpener::open for errors.
  // `claims` tells a second path to a file of this process from a lock of another one; may be null.
  static base::Result<std::shared_ptr<FileBacking>> open(
      const BackingSpec& spec, std::shared_ptr<BlockingWorker> worker,
      std::shared_ptr<FileClaims> claims = nullptr);
  ~FileBacking() override;

  BlockInfo info() const override;
  std::unique_ptr<BlockDevice> attach(Loop& loop) override;

  void grow(uint64_t size_bytes, Loop& reply_to, Resized done) override;
  void use_grown() override;
  void undo_grow() override;
  void undo_open() override;

  BlockingWorker& worker() { return *worker_; }
  int fd() const { return fd_; }
  bool direct() const { return direct_; }  // O_DIRECT
  bool is_file() const { return spec_.kind == BackingKind::file; }
  // Blocks. The extent at offset, by SEEK_DATA and SEEK_HOLE.
  base::Result<Extent> extent_at(uint64_t offset) const;

 private:
  FileBacking(BackingSpec spec, std::shared_ptr<BlockingWorker> worker,
              std::shared_ptr<FileClaims> claims)
      : spec_(std::move(spec)), worker_(std::move(worker)), claims_(std::move(claims)) {}
  base::Result<> open_path();
  base::Result<> lock();
  base::Result<> prepare();
  std::unexpected<base::Error> in_use(const char* what, int error) const;
  std::unexpected<base::Error> same_as(const std::string& other) const;
  base::Result<> grow_to(uint64_t size_bytes);  // blocks
  base::Result<> extend(uint64_t from_bytes, uint64_t to_bytes);
  base::Result<> size_file();
  base::Result<> size_device();
  base::Result<uint64_t> device_bytes() const;
  base::Result<> check_alignment() const;
  base::Result<> allocate_all();
  void probe();

  BackingSpec spec_;
  std::shared_ptr<BlockingWorker> worker_;
  std::shared_ptr<FileClaims> claims_;
  std::vector<FileClaims::Key> claimed_;  // in claims_
  int fd_ = -1;
  bool made_ = false;  // by open(): there was no file before
  bool direct_ = true;
  std::atomic<uint64_t> size_bytes_{0};
  // What grow() has made, and the size of the file before. Its caller waits for the answer, so one
  // thread at a time looks at them.
  uint64_t grown_bytes_ = 0, before_bytes_ = 0;
  bool volatile_cache_ = true;
  bool can_discard_ = false;
};

}  // namespace holdfast::io
