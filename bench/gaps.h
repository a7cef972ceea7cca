#pragma once
// The pauses between completions: the longest one, and when each long one was. Pure.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace holdfast::bench {

struct Gap {
  uint64_t begin_ns = 0;  // the completion before it
  uint64_t end_ns = 0;    // the completion that ended it, or the end of the run
  uint64_t length_ns() const { return end_ns - begin_ns; }
};

class Gaps {
 public:
  static constexpr size_t kMost = 1000;  // longer ones push out the shortest kept

  // Pauses of `least_ns` and longer are kept. The run begins at `begin_ns`.
  Gaps(uint64_t begin_ns, uint64_t least_ns) : last_ns_(begin_ns), least_ns_(least_ns) {}

  // A completion, or the end of the run. Times never decrease.
  void at(uint64_t now_ns) {
    const Gap gap{.begin_ns = last_ns_, .end_ns = now_ns};
    last_ns_ = now_ns;
    longest_ns_ = std::max(longest_ns_, gap.length_ns());
    if (gap.length_ns() >= least_ns_) keep(gap);
  }

  uint64_t longest_ns() const { return longest_ns_; }
  uint64_t count() const { return count_; }  // all of them, also those that were pushed out
  const std::vector<Gap>& kept() const { return kept_; }  // in the order of time

 private:
  void keep(const Gap& gap) {
    ++count_;
    if (kept_.size() == kMost) {
      const auto least = std::ranges::min_element(kept_, {}, &Gap::length_ns);
      if (least->length_ns() >= gap.length_ns()) return;
      kept_.erase(least);
    }
    kept_.push_back(gap);
  }

  uint64_t last_ns_;
  const uint64_t least_ns_;
  uint64_t longest_ns_ = 0;
  uint64_t count_ = 0;
  std::vector<Gap> kept_;
};

}  // namespace holdfast::bench
