#pragma once
// The data buffers of one loop: a fixed arena cut in slabs of powers of two (buddy system). Never
// allocates after the start; empty means wait. Not thread-safe.

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace holdfast::io {

// Large enough for COMPARE AND WRITE of 255 blocks of 4096 bytes, twice.
inline constexpr size_t kMinSlabBytes = 4096;
inline constexpr size_t kMaxSlabBytes = 2 * 1024 * 1024;

class BufferPool;

// Owner of one slab, 4096-aligned; gives it back when destroyed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~Buffer();

  explicit operator bool() const { return data_ != nullptr; }
  uint8_t* data() const { return data_; }
  size_t capacity() const { return data_ == nullptr ? 0 : kMinSlabBytes << order_; }
  base::MutableBytes first(size_t bytes) const {
    ASSERT(bytes <= capacity());
    return {data_, bytes};
  }

 private:
  friend class BufferPool;
  Buffer(BufferPool* pool, uint8_t* data, uint8_t order)
      : pool_(pool), data_(data), order_(order) {}
  void swap(Buffer& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(data_, other.data_);
    std::swap(order_, other.order_);
  }

  BufferPool* pool_ = nullptr;
  uint8_t* data_ = nullptr;
  uint8_t order_ = 0;
};

class BufferPool {
 public:
  // `bytes` is rounded down to whole slabs of the largest size.
  static base::Result<std::unique_ptr<BufferPool>> create(uint64_t bytes);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // At least `bytes` (<= kMaxSlabBytes); an empty Buffer when none is free.
  Buffer acquire(size_t bytes);

  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t used_bytes() const { return used_bytes_; }

 private:
  friend class Buffer;
  static constexpr size_t kOrders = 10;
  static_assert(kMinSlabBytes << (kOrders - 1) == kMaxSlabBytes);
  // Slabs given back are kept whole up to this many per size, so that the steady state neither
  // splits nor merges.
  static constexpr size_t kKept = 64;

  struct FreeSlab {  // lies in the free slab itself
    FreeSlab* next;
    FreeSlab* previous;
  };

  explicit BufferPool(uint64_t bytes);
  void release(uint8_t* data, uint8_t order);
  uint8_t* take(size_t order);
  void push(uint8_t* slab, size_t order);
  void unlink(uint8_t* slab, size_t order);
  void merge(uint8_t* slab, size_t order);
  void merge_kept();
  size_t page_of(const uint8_t* slab) const {
    return static_cast<size_t>(slab - arena_) / kMinSlabBytes;
  }

  uint8_t* arena_ = nullptr;
  uint64_t total_bytes_ = 0;
  uint64_t used_bytes_ = 0;
  std::array<FreeSlab*, kOrders> free_{};
  std::array<std::vector<uint8_t*>, kOrders> kept_;
  std::vector<uint8_t> free_order_;  // per 4 KiB page: order + 1 where a free slab begins, else 0
};

}  // namespace holdfast::io
