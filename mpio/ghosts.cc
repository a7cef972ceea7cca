#include "mpio/ghosts.h"

#include <algorithm>

#include "common/base/assert.h"

namespace holdfast::mpio {
namespace {

ByteRange hull_of(const ByteRange& a, const ByteRange& b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  const uint64_t offset = std::min(a.offset, b.offset);
  return {.offset = offset, .length = std::max(a.end(), b.end()) - offset};
}

}  // namespace

Ghosts::Ghosts(size_t capacity) : capacity_(capacity) {
  ASSERT(capacity > 0);
  ghosts_.reserve(capacity);
}

void Ghosts::add(const Ghost& ghost) {
  if (ghost.range.empty()) return;
  hull_ = hull_of(hull_, ghost.range);
  if (ghosts_.size() < capacity_ || make_room(ghost)) ghosts_.push_back(ghost);
}

// False: the ghost is part of another one now. Best first: a range of its own session, else a place
// by making one of two ranges of another session, else a range that only time can clear.
bool Ghosts::make_room(const Ghost& ghost) {
  ++merges_;
  const auto own = std::ranges::find_if(
      ghosts_, [&](const Ghost& each) { return !each.merged && each.session == ghost.session; });
  if (own != ghosts_.end()) {
    absorb(*own, ghost);
    return false;
  }
  for (size_t i = 0; i < ghosts_.size(); ++i) {
    const auto twin = std::find_if(
        ghosts_.begin() + static_cast<ptrdiff_t>(i) + 1, ghosts_.end(), [&](const Ghost& each) {
          return !each.merged && !ghosts_[i].merged && each.session == ghosts_[i].session;
        });
    if (twin == ghosts_.end()) continue;
    absorb(ghosts_[i], *twin);
    ghosts_.erase(twin);
    return true;
  }
  absorb(ghosts_.front(), ghost);
  return false;
}

void Ghosts::absorb(Ghost& into, const Ghost& ghost) {
  into.merged = into.merged || ghost.merged || !(into.session == ghost.session);
  into.left_behind = into.left_behind || ghost.left_behind;
  into.range = hull_of(into.range, ghost.range);
  into.since = std::min(into.since, ghost.since);
  if (!into.held_until || !ghost.held_until) {
    into.held_until.reset();
  } else {
    into.held_until = std::max(*into.held_until, *ghost.held_until);
  }
}

bool Ghosts::overlaps(const ByteRange& range) const {
  if (ghosts_.empty() || !hull_.overlaps(range)) return false;
  return std::ranges::any_of(ghosts_,
                             [&](const Ghost& ghost) { return ghost.range.overlaps(range); });
}

bool Ghosts::hold(io::BlockRequest::Kind kind, const ByteRange& range) const {
  if (ghosts_.empty() || !hull_.overlaps(range)) return false;
  const bool changes = waits_for_ghosts(kind);
  return std::ranges::any_of(ghosts_, [&](const Ghost& ghost) {
    return (changes || ghost.left_behind) && ghost.range.overlaps(range);
  });
}

bool Ghosts::has_session(SessionId session) const {
  return std::ranges::any_of(
      ghosts_, [&](const Ghost& ghost) { return ghost.merged || ghost.session == session; });
}

void Ghosts::clear_session(SessionId session) {
  std::erase_if(ghosts_,
                [&](const Ghost& ghost) { return !ghost.merged && ghost.session == session; });
  find_hull();
}

void Ghosts::clear_expired(io::Instant now, std::span<const SessionId> open) {
  std::erase_if(ghosts_, [&](const Ghost& ghost) {
    if (ghost.merged) return open.empty() && (!ghost.held_until || *ghost.held_until <= now);
    return ghost.held_until && *ghost.held_until <= now &&
           std::ranges::find(open, ghost.session) == open.end();
  });
  find_hull();
}

void Ghosts::find_hull() {
  hull_ = {};
  for (const Ghost& ghost : ghosts_) hull_ = hull_of(hull_, ghost.range);
}

void Ghosts::wait(GhostWaiter& waiter) {
  ASSERT(overlaps(waiter.range));
  waiters_.push_back(waiter);
}

void Ghosts::take_ready(GhostWaiters& out) {
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    GhostWaiter& one = *waiter++;
    if (overlaps(one.range)) continue;
    one.hook.unlink();
    out.push_back(one);
  }
}

}  // namespace holdfast::mpio
