#pragma once
// A fixed number of T, made once; acquire() and release() never allocate. Not thread-safe: a pool
// belongs to one loop.

#include <cstddef>
#include <memory>
#include <vector>

#include "common/base/assert.h"

namespace holdfast::base {

template <class T>
class SlotPool {
 public:
  explicit SlotPool(size_t count) : slots_(std::make_unique<T[]>(count)), count_(count) {
    free_.reserve(count);
    for (size_t i = count; i > 0; --i) free_.push_back(&slots_[i - 1]);
  }
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;
  ~SlotPool() { ASSERT(free_.size() == count_); }

  // Null when all are in use; the caller must then wait or refuse, never allocate.
  T* acquire() {
    if (free_.empty()) return nullptr;
    T* slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void release(T* slot) {
    ASSERT(slot >= slots_.get() && slot < slots_.get() + count_ && free_.size() < count_);
    free_.push_back(slot);
  }
  size_t available() const { return free_.size(); }
  size_t count() const { return count_; }

 private:
  std::unique_ptr<T[]> slots_;
  size_t count_;
  std::vector<T*> free_;
};

}  // namespace holdfast::base
