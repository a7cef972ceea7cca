#include "common/io/memory_backing.h"

#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {
namespace {

constexpr uint64_t kSize = 64 * 1024;

class MemoryBackingTest : public ::testing::Test {
 protected:
  void attach(const BackingSpec& spec) {
    auto opened = MemoryBacking::open(spec);
    ASSERT_TRUE(opened.has_value()) << opened.error().what;
    backing_ = *opened;
    device_ = backing_->attach(thread_.loop());
  }
  void SetUp() override { attach({.kind = BackingKind::memory, .size_bytes = kSize}); }

  bool content_is(uint8_t value, uint64_t from, uint64_t length) {
    const base::MutableBytes content = backing_->content();
    for (uint64_t i = from; i < from + length; ++i) {
      if (content[i] != value) return false;
    }
    return true;
  }
  Extent extent_at(uint64_t offset) {
    Extent extent;
    EXPECT_EQ(thread_.complete([&](Op& op) { device_->extent_at(op, offset, &extent); }), 0);
    return extent;
  }
  base::Result<> grow(uint64_t size_bytes) {
    std::promise<base::Result<>> done;
    backing_->grow(size_bytes, thread_.loop(),
                   [&](base::Result<> result) noexcept { done.set_value(result); });
    return done.get_future().get();
  }

  LoopThread thread_;
  std::shared_ptr<MemoryBacking> backing_;
  std::unique_ptr<BlockDevice> device_;
};

TEST_F(MemoryBackingTest, StartsAsZeroesAndKeepsWhatIsWritten) {
  EXPECT_TRUE(content_is(0, 0, kSize));
  std::vector<uint8_t> bytes(1024, 0x42), got(1024);
  EXPECT_EQ(thread_.complete([&](Op& op) { device_->write(op, 512, bytes, Durability::durable); }),
            1024);
  EXPECT_EQ(thread_.complete([&](Op& op) { device_->read(op, 512, got); }), 1024);
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(thread_.complete([&](Op& op) { device_->flush(op); }), 0);
  EXPECT_EQ(device_->mapped().data(), backing_->content().data());
  EXPECT_EQ(device_->mapped().size(), kSize);
  EXPECT_FALSE(device_->info().volatile_cache);
}

TEST_F(MemoryBackingTest, WhatIsDeallocatedReadsAsZeroesAndNothingElseDoes) {
  struct Range {
    uint64_t offset, length;
  };
  // Whole pages, parts of one page, parts of two, and ends within pages.
  for (const Range range :
       {Range{4096, 8192}, Range{512, 1024}, Range{3584, 1024}, Range{512, 12288}, Range{4096, 512},
        Range{7680, 4608}, Range{0, kSize}, Range{1024, 0}}) {
    std::ranges::fill(backing_->content(), uint8_t{0xee});
    EXPECT_EQ(thread_.complete([&](Op& op) { device_->discard(op, range.offset, range.length); }),
              0);
    const uint64_t end = range.offset + range.length;
    EXPECT_TRUE(content_is(0xee, 0, range.offset)) << range.offset << '+' << range.length;
    EXPECT_TRUE(content_is(0, range.offset, range.length)) << range.offset << '+' << range.length;
    EXPECT_TRUE(content_is(0xee, end, kSize - end)) << range.offset << '+' << range.length;
  }
}

TEST_F(MemoryBackingTest, WriteZeroes) {
  std::ranges::fill(backing_->content(), uint8_t{0xee});
  EXPECT_EQ(thread_.complete([&](Op& op) { device_->write_zeroes(op, 512, 5120); }), 0);
  EXPECT_TRUE(content_is(0xee, 0, 512));
  EXPECT_TRUE(content_is(0, 512, 5120));
  EXPECT_TRUE(content_is(0xee, 5632, kSize - 5632));
}

TEST_F(MemoryBackingTest, ExtentsArePages) {
  backing_->content()[8192 + 1024] = 1;
  Extent extent = extent_at(0);
  EXPECT_EQ(extent.state, ExtentState::deallocated);
  EXPECT_EQ(extent.length_bytes, 8192u);
  extent = extent_at(8192 + 512);
  EXPECT_EQ(extent.state, ExtentState::mapped);
  EXPECT_EQ(extent.length_bytes, 4096u - 512);
  extent = extent_at(12288);
  EXPECT_EQ(extent.state, ExtentState::deallocated);
  EXPECT_EQ(extent.length_bytes, kSize - 12288);
}

TEST_F(MemoryBackingTest, TheSearchForAnExtentsEndIsBounded) {
  device_.reset();
  backing_.reset();
  attach({.kind = BackingKind::memory, .size_bytes = 64 * 1024 * 1024});
  const Extent extent = extent_at(0);
  EXPECT_EQ(extent.state, ExtentState::deallocated);
  EXPECT_EQ(extent.length_bytes, 256u * 4096);
}

TEST_F(MemoryBackingTest, GrowsInPlaceUpToItsReserve) {
  const uint8_t* const before = backing_->content().data();
  backing_->content()[0] = 7;
  ASSERT_TRUE(grow(4 * kSize).has_value());
  EXPECT_EQ(device_->info().size_bytes, kSize) << "not before it is used";
  backing_->use_grown();
  EXPECT_EQ(device_->info().size_bytes, 4 * kSize);
  EXPECT_EQ(backing_->content().data(), before);
  EXPECT_EQ(backing_->content()[0], 7);
  EXPECT_TRUE(content_is(0, kSize, 3 * kSize));

  auto refused = grow(4 * kSize + 512);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, base::Errc::limit);
  refused = grow(kSize);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, base::Errc::invalid_argument);
  EXPECT_EQ(device_->info().size_bytes, 4 * kSize);
}

TEST_F(MemoryBackingTest, MoreThanTheAddressSpaceIsRefused) {
  const auto opened = MemoryBacking::open({.kind = BackingKind::memory, .size_bytes = 1ull << 60});
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, base::Errc::limit);
}

TEST_F(MemoryBackingTest, SaysWhatItCan) {
  EXPECT_TRUE(device_->info().can_discard);
  device_.reset();
  attach({.kind = BackingKind::memory, .size_bytes = kSize, .thin = false, .block_size = 4096});
  EXPECT_FALSE(device_->info().can_discard);
  EXPECT_EQ(device_->info().block_size, 4096u);
}

}  // namespace
}  // namespace holdfast::io
