#pragma once
// Answers that are cut, changed or made up, for the parsers of the initiator's side.

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/random.h"

namespace holdfast::scsi {

// Calls check(part, size) with every beginning of `data` that is shorter than it, each in memory
// of just its size, so that the sanitizers see a step beyond it.
template <class Check>
void for_each_truncation(base::Bytes data, Check&& check) {
  for (size_t size = 0; size < data.size(); ++size) {
    const auto copy = std::make_unique<uint8_t[]>(size);
    std::copy_n(data.begin(), size, copy.get());
    SCOPED_TRACE(size);
    check(base::Bytes(copy.get(), size));
  }
}

// Calls check(damaged) with each byte set to values a length may lie by, then with bytes of random
// content behind a beginning of `data`, so that some get past the checks of the header. The seed is
// fixed: a failure comes again.
template <class Check>
void for_each_damage(base::Bytes data, Check&& check) {
  std::vector<uint8_t> damaged(data.begin(), data.end());
  for (size_t at = 0; at < damaged.size(); ++at) {
    for (const unsigned value : {0x00U, 0x01U, 0x7fU, 0x80U, 0xffU, data[at] ^ 0x01U}) {
      damaged[at] = static_cast<uint8_t>(value);
      SCOPED_TRACE(at);
      check(base::Bytes(damaged));
    }
    damaged[at] = data[at];
  }
  base::SeededRandom random(data.size());
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> noise(random.below(600));
    random.fill(noise);
    const size_t kept = std::min<size_t>(random.below(data.size() + 1), noise.size());
    std::copy_n(data.begin(), kept, noise.begin());
    check(base::Bytes(noise));
  }
}

}  // namespace holdfast::scsi
