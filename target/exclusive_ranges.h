#pragma once
// Who may hold which block ranges of one logical unit alone, in the order asked for. Pure.

#include <cstddef>
#include <vector>

#include "target/node_link.h"

namespace holdfast::target {

// A request waits for every earlier one that it overlaps, whether that one holds or waits itself:
// nobody is overtaken, nobody starves. Each entry belongs to a command, so the shards' task limits
// bound their number.
class ExclusiveRanges {
 public:
  // True: its turn is now. False: a release() will name it.
  bool acquire(ExclusiveId id, BlockRange range);
  // Whose turn it is now, oldest first. An id that is not known changes nothing.
  std::vector<ExclusiveId> release(ExclusiveId id);

  bool contains(ExclusiveId id) const;
  BlockRange range_of(ExclusiveId id) const;  // contains(id)
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    ExclusiveId id;
    BlockRange range;
    size_t blockers;  // earlier entries that overlap it
  };
  std::vector<Entry> entries_;  // in the order of the calls
};

}  // namespace holdfast::target
