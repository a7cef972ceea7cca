#pragma once
// Recorders of completions for the simulator's own tests.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "tests/sim/sim_backing.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

using namespace std::chrono_literals;

// An op that remembers its last result.
struct TestOp {
  void on_done(int32_t value) noexcept {
    result = value;
    ++completions;
  }
  std::optional<int32_t> result;
  int completions = 0;
  io::OpOf<TestOp, &TestOp::on_done> op{*this};
};

// 4096-aligned memory.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t size, uint8_t fill = 0)
      : size_(size), memory_(static_cast<uint8_t*>(std::aligned_alloc(4096, size))) {
    std::fill_n(memory_.get(), size, fill);
  }
  base::MutableBytes bytes() { return {memory_.get(), size_}; }
  bool all(uint8_t value) {
    return std::ranges::all_of(bytes(), [value](uint8_t byte) { return byte == value; });
  }

 private:
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  size_t size_;
  std::unique_ptr<uint8_t, Free> memory_;
};

inline iovec iov(base::MutableBytes bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace holdfast::sim
