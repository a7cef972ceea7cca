#include "common/base/random.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

namespace holdfast::base {

void SystemRandom::fill(MutableBytes out) {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    ASSERT(got > 0 || errno == EINTR);  // getrandom without flags cannot fail otherwise
    if (got > 0) out = out.subspan(static_cast<size_t>(got));
  }
}

void SeededRandom::fill(MutableBytes out) {
  while (!out.empty()) {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    const le64 word = z;
    const size_t part = std::min(out.size(), sizeof(word));
    std::memcpy(out.data(), &word, part);
    out = out.subspan(part);
  }
}

}  // namespace holdfast::base
