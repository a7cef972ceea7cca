#include "common/io/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>

namespace holdfast::io {

Buffer::~Buffer() {
  if (data_ != nullptr) pool_->release(data_, order_);
}

base::Result<std::unique_ptr<BufferPool>> BufferPool::create(uint64_t bytes) {
  std::unique_ptr<BufferPool> pool(new BufferPool(bytes / kMaxSlabBytes * kMaxSlabBytes));
  void* memory =
      mmap(nullptr, pool->total_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return base::fail(base::Errc::limit, "not enough memory for the data buffers", errno);
  }
  madvise(memory, pool->total_bytes_, MADV_HUGEPAGE);  // fewer TLB misses; its failure is harmless
  pool->arena_ = static_cast<uint8_t*>(memory);
  for (uint64_t at = 0; at < pool->total_bytes_; at += kMaxSlabBytes) {
    pool->push(pool->arena_ + at, kOrders - 1);
  }
  return pool;
}

BufferPool::BufferPool(uint64_t bytes)
    : total_bytes_(bytes), free_order_(bytes / kMinSlabBytes, uint8_t{0}) {
  for (auto& kept : kept_) kept.reserve(kKept);
}

BufferPool::~BufferPool() {
  ASSERT(used_bytes_ == 0);
  if (arena_ != nullptr) munmap(arena_, total_bytes_);
}

Buffer BufferPool::acquire(size_t bytes) {
  ASSERT(bytes > 0 && bytes <= kMaxSlabBytes);
  const size_t order =
      static_cast<size_t>(std::bit_width((bytes - 1) / kMinSlabBytes));  // 0 for one page
  uint8_t* slab = nullptr;
  if (!kept_[order].empty()) {
    slab = kept_[order].back();
    kept_[order].pop_back();
  } else {
    slab = take(order);
    if (slab == nullptr) {
      merge_kept();
      slab = take(order);
    }
  }
  if (slab == nullptr) return {};
  used_bytes_ += kMinSlabBytes << order;
  return {this, slab, static_cast<uint8_t>(order)};
}

void BufferPool::release(uint8_t* data, uint8_t order) {
  ASSERT(used_bytes_ >= kMinSlabBytes << order);
  used_bytes_ -= kMinSlabBytes << order;
  if (kept_[order].size() < kKept) {
    kept_[order].push_back(data);
    return;
  }
  merge(data, order);
}

uint8_t* BufferPool::take(size_t order) {
  size_t from = order;
  while (from < kOrders && free_[from] == nullptr) ++from;
  if (from == kOrders) return nullptr;
  auto* slab = reinterpret_cast<uint8_t*>(free_[from]);
  unlink(slab, from);
  while (from > order) {
    --from;
    push(slab + (kMinSlabBytes << from), from);
  }
  return slab;
}

void BufferPool::push(uint8_t* slab, size_t order) {
  auto* node = reinterpret_cast<FreeSlab*>(slab);
  node->previous = nullptr;
  node->next = free_[order];
  if (node->next != nullptr) node->next->previous = node;
  free_[order] = node;
  free_order_[page_of(slab)] = static_cast<uint8_t>(order + 1);
}

void BufferPool::unlink(uint8_t* slab, size_t order) {
  auto* node = reinterpret_cast<FreeSlab*>(slab);
  if (node->next != nullptr) node->next->previous = node->previous;
  (node->previous != nullptr ? node->previous->next : free_[order]) = node->next;
  free_order_[page_of(slab)] = 0;
}

void BufferPool::merge(uint8_t* slab, size_t order) {
  while (order + 1 < kOrders) {
    const auto offset = static_cast<uint64_t>(slab - arena_);
    uint8_t* buddy = arena_ + (offset ^ (kMinSlabBytes << order));
    if (free_order_[page_of(buddy)] != order + 1) break;
    unlink(buddy, order);
    slab = std::min(slab, buddy);
    ++order;
  }
  push(slab, order);
}

void BufferPool::merge_kept() {
  for (size_t order = 0; order < kOrders; ++order) {
    for (uint8_t* slab : kept_[order]) merge(slab, order);
    kept_[order].clear();
  }
}

}  // namespace holdfast::io
