#pragma once
// A disk in memory: gone when the process ends. For tests, benchmarks and scratch LUNs.

#include <atomic>

#include "common/io/backing.h"

namespace holdfast::io {

class MemoryBacking final : public Backing {
 public:
  // Address space for kGrowthReserve is reserved at once (not memory), so growing moves nothing.
  static base::Result<std::shared_ptr<MemoryBacking>> open(const BackingSpec& spec);
  ~MemoryBacking() override;

  BlockInfo info() const override;
  std::unique_ptr<BlockDevice> attach(Loop& loop) override;
  void grow(uint64_t size_bytes, Loop& reply_to, Resized done) override;
  void use_grown() override { size_bytes_.store(grown_bytes_); }
  void undo_grow() override {}
  void undo_open() override {}
  base::MutableBytes content() { return {content_, size_bytes_.load(std::memory_order_acquire)}; }
  void deallocate(uint64_t offset, uint64_t length);

 private:
  explicit MemoryBacking(const BackingSpec& spec) : spec_(spec) {}
  base::Result<> grow_to(uint64_t size_bytes);

  BackingSpec spec_;
  uint8_t* content_ = nullptr;
  uint64_t reserved_bytes_ = 0;
  std::atomic<uint64_t> size_bytes_{0};
  uint64_t grown_bytes_ = 0;  // of the last grow()
};

}  // namespace holdfast::io
