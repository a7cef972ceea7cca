#pragma once
// CRC32C (Castagnoli) as RFC 7143 13.1 and our own disk formats use it. ISA-L computes it.

#include <cstdint>

#include "common/base/bytes.h"

namespace holdfast::base {

// One pass over several ranges: start with Crc32c{}, update() in order, then value().
class Crc32c {
 public:
  void update(Bytes bytes);
  uint32_t value() const { return ~state_; }

 private:
  uint32_t state_ = 0xffffffff;
};

uint32_t crc32c(Bytes bytes);

}  // namespace holdfast::base
