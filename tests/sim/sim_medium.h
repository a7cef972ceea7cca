#pragma once
// What a simulated disk holds: durable content, and per sector the newer versions that sit in a
// volatile cache. No time, no requests: sim_disk.h.

#include <cstdint>
#include <map>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/random.h"
#include "common/io/block_device.h"

namespace holdfast::sim {

inline constexpr uint64_t kSector = 512;       // what a power loss can tear
inline constexpr uint64_t kAllocation = 4096;  // what discard frees

class SimMedium {
 public:
  SimMedium(uint64_t size_bytes, bool volatile_cache);

  uint64_t size() const { return current_.size(); }
  void grow(uint64_t size_bytes);

  void read(uint64_t offset, base::MutableBytes out) const;
  // cached: later flushes or luck make it durable. Else it is durable at once, and with it nothing
  // older of the same sectors can come back.
  void write(uint64_t offset, base::Bytes data, bool cached);
  void discard(uint64_t offset, uint64_t length, bool cached);
  io::Extent extent_at(uint64_t offset) const;

  // What was written up to now; flush(mark) makes that durable, and later versions not.
  uint64_t mark() const { return next_version_; }
  void flush(uint64_t mark);
  // Each cached write is kept whole, kept in part or lost; the newest kept version of a sector
  // wins, so that writes also seem reordered.
  void lose_power(base::Random& random);
  // Writes some sectors of it, straight to the durable content: a write torn by power loss.
  void tear(uint64_t offset, base::Bytes data, base::Random& random);
  void clear();  // all zeroes: a memory disk whose process died

  uint64_t allocated_bytes() const;
  // Bytes that a write of this range would newly allocate.
  uint64_t new_allocation(uint64_t offset, uint64_t length) const;
  base::MutableBytes content() { return current_; }
  size_t cached_sectors() const { return cache_.size(); }

 private:
  struct Version {
    uint64_t number = 0;
    std::vector<uint8_t> data;
  };

  void put(uint64_t offset, base::Bytes data, bool cached);
  void make_durable(uint64_t sector, base::Bytes data);

  const bool volatile_cache_;
  std::vector<uint8_t> current_;  // what reads see
  std::vector<uint8_t> durable_;  // what power loss leaves
  std::vector<bool> allocated_;   // per kAllocation
  std::map<uint64_t, std::vector<Version>> cache_;
  uint64_t next_version_ = 1;
};

}  // namespace holdfast::sim
