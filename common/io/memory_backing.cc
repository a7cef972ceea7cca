#include "common/io/memory_backing.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace holdfast::io {
namespace {

constexpr uint64_t kGrowthFactor = 4;
constexpr uint64_t kPage = 4096;

class MemoryDevice final : public BlockDevice {
 public:
  MemoryDevice(MemoryBacking& backing, Loop& loop) : backing_(backing), loop_(loop) {}

  BlockInfo info() const override { return backing_.info(); }
  void read(Op& op, uint64_t offset, base::MutableBytes buffer) override {
    std::memcpy(buffer.data(), backing_.content().data() + offset, buffer.size());
    loop_.complete_soon(op, static_cast<int32_t>(buffer.size()));
  }
  void write(Op& op, uint64_t offset, base::Bytes buffer, Durability) override {
    std::memcpy(backing_.content().data() + offset, buffer.data(), buffer.size());
    loop_.complete_soon(op, static_cast<int32_t>(buffer.size()));
  }
  void flush(Op& op) override { loop_.complete_soon(op, 0); }
  void discard(Op& op, uint64_t offset, uint64_t length) override {
    backing_.deallocate(offset, length);
    loop_.complete_soon(op, 0);
  }
  void write_zeroes(Op& op, uint64_t offset, uint64_t length) override {
    std::memset(backing_.content().data() + offset, 0, length);
    loop_.complete_soon(op, 0);
  }
  void extent_at(Op& op, uint64_t offset, Extent* extent) override;
  void cancel(Op&) override {}  // completes in this turn anyway
  uint32_t memory_alignment() const override { return 1; }
  base::MutableBytes mapped() override { return backing_.content(); }

 private:
  MemoryBacking& backing_;
  Loop& loop_;
};

// Whole pages of zeroes count as deallocated: what UNMAP left, or what nobody wrote. The search is
// bounded, an extent may be reported in several pieces.
void MemoryDevice::extent_at(Op& op, uint64_t offset, Extent* extent) {
  constexpr uint64_t kMaxPages = 256;
  static constexpr uint8_t kZeroes[kPage] = {};
  const base::MutableBytes content = backing_.content();
  ASSERT(offset < content.size());
  const auto state_at = [&](uint64_t at) {
    const uint64_t length = std::min<uint64_t>(kPage - at % kPage, content.size() - at);
    return std::memcmp(content.data() + at, kZeroes, length) == 0 ? ExtentState::deallocated
                                                                  : ExtentState::mapped;
  };
  const ExtentState state = state_at(offset);
  uint64_t end = offset / kPage * kPage + kPage;
  for (uint64_t i = 1; i < kMaxPages && end < content.size() && state_at(end) == state; ++i) {
    end += kPage;
  }
  *extent = {state, std::min<uint64_t>(end, content.size()) - offset};
  loop_.complete_soon(op, 0);
}

}  // namespace

base::Result<std::shared_ptr<MemoryBacking>> MemoryBacking::open(const BackingSpec& spec) {
  std::shared_ptr<MemoryBacking> backing(new MemoryBacking(spec));
  backing->reserved_bytes_ = spec.size_bytes * kGrowthFactor;
  void* memory = mmap(nullptr, backing->reserved_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return base::fail(base::Errc::limit, "not enough address space for the disk", errno);
  }
  backing->content_ = static_cast<uint8_t*>(memory);
  backing->size_bytes_.store(spec.size_bytes);
  backing->grown_bytes_ = spec.size_bytes;
  return backing;
}

MemoryBacking::~MemoryBacking() {
  if (content_ != nullptr) munmap(content_, reserved_bytes_);
}

BlockInfo MemoryBacking::info() const {
  return {.size_bytes = size_bytes_.load(std::memory_order_acquire),
          .block_size = spec_.block_size,
          .physical_block_size = spec_.physical_block_size,
          .volatile_cache = false,
          .can_discard = spec_.thin && !spec_.read_only,
          .read_only = spec_.read_only};
}

std::unique_ptr<BlockDevice> MemoryBacking::attach(Loop& loop) {
  return std::make_unique<MemoryDevice>(*this, loop);
}

void MemoryBacking::grow(uint64_t size_bytes, Loop& reply_to, Resized done) {
  reply_to.post(
      [result = grow_to(size_bytes), done = std::move(done)]() mutable noexcept { done(result); });
}

base::Result<> MemoryBacking::grow_to(uint64_t size_bytes) {
  if (size_bytes < size_bytes_.load()) {
    return base::fail(base::Errc::invalid_argument, "disks only grow");
  }
  if (size_bytes > reserved_bytes_) {
    return base::fail(base::Errc::limit,
                      "a memory disk grows at most to four times its first size");
  }
  grown_bytes_ = size_bytes;
  return {};
}

void MemoryBacking::deallocate(uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  const uint64_t first_page = base::round_up(offset, kPage);
  const uint64_t last_page = end / kPage * kPage;
  if (first_page >= last_page) {
    std::memset(content_ + offset, 0, length);
    return;
  }
  std::memset(content_ + offset, 0, first_page - offset);
  std::memset(content_ + last_page, 0, end - last_page);
  // Private anonymous memory reads as zeroes after this and its pages go back to the system.
  madvise(content_ + first_page, last_page - first_page, MADV_DONTNEED);
}

}  // namespace holdfast::io
