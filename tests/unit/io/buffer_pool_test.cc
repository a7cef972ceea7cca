#include "common/io/buffer_pool.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/base/random.h"

namespace holdfast::io {
namespace {

constexpr uint64_t kBytes = 8 * kMaxSlabBytes;

TEST(BufferPool, SlabsAreAlignedAndLargeEnough) {
  const auto pool = BufferPool::create(kBytes).value();
  for (const size_t bytes :
       {size_t{1}, size_t{4096}, size_t{4097}, size_t{100'000}, kMaxSlabBytes}) {
    const Buffer buffer = pool->acquire(bytes);
    ASSERT_TRUE(buffer);
    EXPECT_GE(buffer.capacity(), bytes);
    EXPECT_LT(buffer.capacity(), 2 * std::max<size_t>(bytes, 4096));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 4096, 0u);
  }
  EXPECT_EQ(pool->used_bytes(), 0u);
}

TEST(BufferPool, EmptyGivesNothingAndRecovers) {
  const auto pool = BufferPool::create(kBytes).value();
  std::vector<Buffer> all;
  while (Buffer buffer = pool->acquire(4096)) all.push_back(std::move(buffer));
  EXPECT_EQ(all.size(), kBytes / 4096);
  EXPECT_EQ(pool->used_bytes(), kBytes);
  EXPECT_FALSE(pool->acquire(1));
  all.clear();
  // The small slabs have merged again, also those that were kept whole.
  for (uint64_t i = 0; i < kBytes / kMaxSlabBytes; ++i) {
    all.push_back(pool->acquire(kMaxSlabBytes));
    EXPECT_TRUE(all.back());
  }
}

TEST(BufferPool, SlabsNeverOverlap) {
  const auto pool = BufferPool::create(kBytes).value();
  base::SeededRandom random(7);
  struct Held {
    Buffer buffer;
    uint8_t stamp;
  };
  std::vector<Held> held;
  for (int step = 0; step < 20'000; ++step) {
    if (random.below(2) == 0 || held.empty()) {
      const size_t bytes = 1 + random.below(size_t{4096} << random.below(10));
      Buffer buffer = pool->acquire(std::min(bytes, kMaxSlabBytes));
      if (!buffer) continue;
      const auto stamp = static_cast<uint8_t>(random.next());
      // First and last byte: enough to see any overlap of slabs of powers of two.
      buffer.data()[0] = buffer.data()[buffer.capacity() - 1] = stamp;
      held.push_back({std::move(buffer), stamp});
    } else {
      const size_t at = random.below(held.size());
      ASSERT_EQ(held[at].buffer.data()[0], held[at].stamp);
      ASSERT_EQ(held[at].buffer.data()[held[at].buffer.capacity() - 1], held[at].stamp);
      held[at] = std::move(held.back());
      held.pop_back();
    }
  }
}

}  // namespace
}  // namespace holdfast::io
