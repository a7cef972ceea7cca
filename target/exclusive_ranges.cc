#include "target/exclusive_ranges.h"

#include <algorithm>

#include "common/base/assert.h"

namespace holdfast::target {

bool ExclusiveRanges::acquire(ExclusiveId id, BlockRange range) {
  ASSERT(!contains(id));
  const auto blockers = static_cast<size_t>(std::ranges::count_if(
      entries_, [&](const Entry& entry) { return entry.range.overlaps(range); }));
  entries_.push_back({id, range, blockers});
  return blockers == 0;
}

std::vector<ExclusiveId> ExclusiveRanges::release(ExclusiveId id) {
  std::vector<ExclusiveId> turn;
  const auto released = std::ranges::find(entries_, id, &Entry::id);
  if (released == entries_.end()) return turn;
  const BlockRange range = released->range;
  for (auto later = entries_.erase(released); later != entries_.end(); ++later) {
    if (!later->range.overlaps(range)) continue;
    ASSERT(later->blockers > 0);
    if (--later->blockers == 0) turn.push_back(later->id);
  }
  return turn;
}

bool ExclusiveRanges::contains(ExclusiveId id) const {
  return std::ranges::find(entries_, id, &Entry::id) != entries_.end();
}

BlockRange ExclusiveRanges::range_of(ExclusiveId id) const {
  const auto entry = std::ranges::find(entries_, id, &Entry::id);
  ASSERT(entry != entries_.end());
  return entry->range;
}

}  // namespace holdfast::target
