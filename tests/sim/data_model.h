#pragma once
// What may be read from a logical unit, sector by sector: the last acknowledged value, plus writes
// whose fate is unknown. Pure: the caller says when things happened.
//
// Every write carries a value of its own, repeated through each sector it covers, so that a sector
// that was read names the write it came from. A write W of a sector may be what a read sees unless
// some other write was begun after W had ended and had itself landed before the read began. A write
// whose connection died "ends" only at a barrier: a point after which the target promised that it
// can not land any more.

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

using WriteId = uint64_t;  // also its value; 0: zeroes, from the beginning or unmapped

class DataModel {
 public:
  static constexpr Duration kNever = Duration::max();
  static constexpr uint64_t kSectorBytes = 512;

  // volatile_cache: acknowledged writes may be lost by power loss until a flush.
  DataModel(std::string name, uint64_t sectors, bool volatile_cache);

  // A range of sectors.
  struct Range {
    uint64_t first = 0;
    uint64_t count = 0;
  };

  // --- writes ---
  // `zeroes`: its value is 0 (UNMAP, WRITE SAME of zeroes).
  WriteId begin_write(Duration now, Range range, bool zeroes);
  void write_acknowledged(WriteId id, Duration now, bool durable);
  // It did not happen and can not any more. Not empty: it was seen on the medium.
  std::string write_refused(WriteId id);
  // It ended with an error: in parts perhaps on the medium, and nothing of it lands later.
  void write_failed(WriteId id, Duration now);
  // From `now` on it can not land any more; an answer to it may still be on its way.
  void barrier(WriteId id, Duration now);
  // The barrier held only while something kept the write's nexus out, and that is over.
  void lift_barrier(WriteId id);
  // A later write of the range, begun at `began`, is done: where both were, the older one, if it
  // lands at all, has landed before it.
  void overwritten(WriteId id, Range range, Duration began);
  bool is_open(WriteId id) const { return open_.contains(id); }

  // --- reads ---
  uint64_t begin_read(Duration now);
  void cancel_read(uint64_t read);
  // Empty: all is allowed. Else what is wrong.
  std::string end_read(uint64_t read, Duration now, Range range, base::Bytes data);
  // COMPARE AND WRITE that ended GOOD: what it compared with must have been there, and no other may
  // have found the same.
  std::string swap_succeeded(WriteId write, uint64_t read, Duration now, Range range,
                             base::Bytes compared);
  // Miscompare although nothing else could have been there.
  std::string swap_miscompared(uint64_t read, Duration now, Range range, base::Bytes compared);

  // --- durability ---
  // A flush that began at `began` has been acknowledged: what had landed by then is durable.
  void flushed(Duration began, Duration now);
  // Nothing under way can land any more, and what was not durable may be gone.
  void power_lost(Duration now);

  static void fill(base::MutableBytes sectors, WriteId value);
  uint64_t sectors() const { return sectors_.size(); }
  // A value the sector may have now: what a client believes it would compare with.
  WriteId likely_value(uint64_t sector) const;

 private:
  struct Entry {
    WriteId id = 0;     // which write
    WriteId value = 0;  // what it leaves in the sector
    Duration start{0};
    Duration end = kNever;      // can not land after this
    Duration landed = kNever;   // known to be on the medium since
    Duration durable = kNever;  // known to survive power loss since
    bool survived = false;      // of those that power loss left possible
  };
  using Sector = std::vector<Entry>;

  template <class Visitor>
  void for_each_entry(WriteId id, Visitor&& visit);
  bool possible(const Sector& sector, const Entry& entry, Duration read_began) const;
  std::string check_sector(uint64_t index, Duration began, Duration now, WriteId value);
  std::string describe(uint64_t index, Duration began, Duration now) const;
  void prune(Sector& sector);
  Duration oldest_read() const;

  const std::string name_;
  const bool volatile_cache_;
  std::vector<Sector> sectors_;
  std::set<WriteId> open_;  // not acknowledged, refused or failed
  std::map<WriteId, Range> ranges_;
  std::map<uint64_t, Duration> reads_;
  std::vector<std::set<WriteId>> swapped_;  // per sector: values that a swap has replaced
  WriteId next_write_ = 1;
  uint64_t next_read_ = 1;
};

}  // namespace holdfast::sim
