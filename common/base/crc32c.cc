#include "common/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <climits>

namespace holdfast::base {

void Crc32c::update(Bytes bytes) {
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), INT_MAX / 2);
    // ISA-L's signature lacks const but only reads. It returns the running state without the final
    // inversion that the standard asks for; value() applies it.
    state_ = crc32_iscsi(const_cast<unsigned char*>(bytes.data()), static_cast<int>(part), state_);
    bytes = bytes.subspan(part);
  }
}

uint32_t crc32c(Bytes bytes) {
  Crc32c crc;
  crc.update(bytes);
  return crc.value();
}

}  // namespace holdfast::base
