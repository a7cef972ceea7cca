#pragma once
// A block device as one loop sees it.

#include <cstdint>
#include <span>

#include "common/base/bytes.h"
#include "common/io/op.h"

namespace holdfast::io {

struct BlockInfo {
  uint64_t size_bytes = 0;
  uint32_t block_size = 512;  // smallest unit and alignment of offset and length, bytes
  uint32_t physical_block_size = 4096;
  bool volatile_cache = false;  // a completed write may be lost by power loss until flush()
  bool can_discard = false;     // discarded ranges read as zeroes
  bool read_only = false;
};

enum class Durability : uint8_t {
  cached,
  durable
};  // durable: on stable media when complete (FUA)

enum class ExtentState : uint8_t { mapped, deallocated };
struct Extent {
  ExtentState state = ExtentState::mapped;
  uint64_t length_bytes = 0;  // from the offset asked for
};

// Each loop has its own BlockDevice on the same backing. Results are bytes or -errno; a short count
// never happens (a short transfer of the kernel becomes -EIO). Buffers are 4096-aligned, or as
// memory_alignment() says; offset and length multiples of block_size, within size; the memory stays
// the caller's duty until completion, also after cancel().
class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  virtual BlockInfo info() const = 0;

  virtual void read(Op& op, uint64_t offset, base::MutableBytes buffer) = 0;
  virtual void write(Op& op, uint64_t offset, base::Bytes buffer, Durability durability) = 0;
  virtual void flush(Op& op) = 0;
  // Deallocates; afterwards the range reads as zeroes.
  virtual void discard(Op& op, uint64_t offset, uint64_t length) = 0;
  // Zeroes without deallocating (thick).
  virtual void write_zeroes(Op& op, uint64_t offset, uint64_t length) = 0;
  // State of the extent that begins at offset; *extent is filled at completion.
  virtual void extent_at(Op& op, uint64_t offset, Extent* extent) = 0;
  // Tries to stop the operation. It completes in any case, with its result or -ECANCELED; only its
  // completion says that it can no longer change the medium.
  virtual void cancel(Op& op) = 0;

  // What the address of a buffer must be a multiple of. 1: any memory does, and of any length.
  virtual uint32_t memory_alignment() const { return 4096; }

  // The whole content, where it lies in memory: reads need no copy. Empty otherwise.
  virtual base::MutableBytes mapped() { return {}; }
};

}  // namespace holdfast::io
