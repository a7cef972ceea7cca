#pragma once
// The randomness seam: production draws from the kernel, the simulator from its seed.

#include <cstdint>

#include "common/base/bytes.h"

namespace holdfast::base {

class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(MutableBytes out) = 0;
  uint64_t next() {
    uint8_t bytes[8];
    fill(bytes);
    return load<le64>(bytes);
  }
  // Uniform enough for tests and jitter: [0, bound).
  uint64_t below(uint64_t bound) { return next() % bound; }
};

// getrandom(2). CHAP challenges and identities come from here, never from a seeded source
// (CVE-2024-45751).
class SystemRandom final : public Random {
 public:
  void fill(MutableBytes out) override;
};

// splitmix64: equal seeds give equal runs on every machine.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}
  void fill(MutableBytes out) override;

 private:
  uint64_t state_;
};

}  // namespace holdfast::base
