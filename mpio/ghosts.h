#pragma once
// Ghosts: writes that were given to a session which died before it answered, so that nobody knows
// whether they land, or when. Their ranges are kept until a fence or time has proved that they
// cannot land any more; what would be overwritten by one waits. docs/mpio.md, "Ghosts".

#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/io/loop.h"
#include "common/io/shared_block_device.h"
#include "mpio/limits.h"

namespace holdfast::mpio {

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  // Saturates: a range that came from a caller cannot wrap around to overlap nothing.
  uint64_t end() const { return length > UINT64_MAX - offset ? UINT64_MAX : offset + length; }
  bool empty() const { return length == 0; }
  bool overlaps(const ByteRange& other) const {
    return !empty() && !other.empty() && offset < other.end() && other.offset < end();
  }
  bool operator==(const ByteRange&) const = default;
};

// The incarnations from this on are of sessions that an earlier process of this node has left.
inline constexpr uint32_t kLeftBehind = 0x8000'0000;

// A session of a path: the path's number, and which of its sessions.
struct SessionId {
  uint32_t path = 0;
  uint32_t incarnation = 0;  // from 1
  bool operator==(const SessionId&) const = default;
};
constexpr bool is_left_behind(SessionId session) { return session.incarnation >= kLeftBehind; }

// Which new requests must wait for the ghosts they overlap. A read need not: the write it could
// miss was reissued, with the same data, before the caller heard of it.
constexpr bool waits_for_ghosts(io::BlockRequest::Kind kind) {
  switch (kind) {
    case io::BlockRequest::Kind::write:
    case io::BlockRequest::Kind::discard:
    case io::BlockRequest::Kind::write_zeroes:
    case io::BlockRequest::Kind::compare_and_write:
      return true;
    case io::BlockRequest::Kind::read:
    case io::BlockRequest::Kind::flush:
    case io::BlockRequest::Kind::status:
      return false;
  }
  return true;
}

// Embedded in whoever waits; on one list at most, and unlinks itself when it dies.
struct GhostWaiter {
  ByteRange range;
  boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>
      hook;
  bool waits() const { return hook.is_linked(); }
};
using GhostWaiters = boost::intrusive::list<
    GhostWaiter,
    boost::intrusive::member_hook<GhostWaiter,
                                  boost::intrusive::list_member_hook<
                                      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>,
                                  &GhostWaiter::hook>,
    boost::intrusive::constant_time_size<false>>;

// Owner: the device. All memory is taken at construction.
class Ghosts {
 public:
  struct Ghost {
    ByteRange range;
    SessionId session;
    io::Instant since{};
    // When nothing of that session can land any more if no fence says otherwise, counted from the
    // reset of its socket. None: only a fence clears it.
    std::optional<io::Instant> held_until{};
    // Of an earlier process, which nobody asks: what it wrote where, and with which data. What is
    // read could change by itself, so reads wait, too.
    bool left_behind = false;
    bool merged = false;  // of several sessions: no single fence clears it
  };

  explicit Ghosts(size_t capacity = kMaxGhosts);

  // Never refuses. Without a free place it widens what is there, which only makes more requests
  // wait.
  void add(const Ghost& ghost);
  bool empty() const { return ghosts_.empty(); }
  size_t size() const { return ghosts_.size(); }
  const std::vector<Ghost>& all() const { return ghosts_; }
  uint64_t merges() const { return merges_; }

  bool overlaps(const ByteRange& range) const;
  // Must a request to this range wait?
  bool hold(io::BlockRequest::Kind kind, const ByteRange& range) const;
  // May the session still have some? True also while any merged ghost is there.
  bool has_session(SessionId session) const;

  // Proof: the session's writes cannot land any more. Merged ghosts stay: others may be in them.
  void clear_session(SessionId session);
  // What its time has gone by for. `open`: sessions whose fence has not ended, or has still to
  // begin; it decides for them, and a merged ghost stays until all have.
  void clear_expired(io::Instant now, std::span<const SessionId> open);

  // Waits until nothing overlaps its range. Precondition: overlaps(waiter.range).
  void wait(GhostWaiter& waiter);
  // Those that need not wait any more, in the order in which they began to, onto the end of `out`.
  // After a clear_*; the driver then goes through `out`, from its own turn of the loop.
  void take_ready(GhostWaiters& out);
  bool has_waiters() const { return !waiters_.empty(); }

 private:
  bool make_room(const Ghost& ghost);
  void absorb(Ghost& into, const Ghost& ghost);
  void find_hull();

  std::vector<Ghost> ghosts_;
  size_t capacity_;
  ByteRange hull_;  // of all of them: most requests are far from any ghost
  GhostWaiters waiters_;
  uint64_t merges_ = 0;
};

}  // namespace holdfast::mpio
