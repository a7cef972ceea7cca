#pragma once
// The lease of this node: until when a majority has vouched for it. Pure.

#include <array>
#include <optional>

#include "common/io/loop.h"
#include "qdisk/proposer.h"

namespace holdfast::qdisk {

// Owner: Membership.
class Lease {
 public:
  explicit Lease(io::Duration length) : length_(length) {}

  // Replies of acceptors of another epoch do not count together with those of this one.
  void begin_epoch();
  // `sent_at`: when the request was sent, not when the reply came: the acceptor may have made it at
  // any time between.
  void on_vouched(NodeId acceptor, io::Instant sent_at);
  // Nobody vouches any more: evicted.
  void end();

  // The latest moment at which, as is proved, no epoch without this life had been decided.
  std::optional<io::Instant> confirmed_at(const Decision& current) const;
  // Never earlier than it once was, but for end(): what was proved stays proved.
  void renew(const Decision& current);
  std::optional<io::Instant> until() const { return until_; }
  // Who has vouched for it in the length of a lease.
  Answers vouching(io::Instant now) const;
  bool valid(io::Instant now) const { return until_ && now < *until_; }

 private:
  io::Duration length_;
  std::array<std::optional<io::Instant>, kMaxNodes + 1> vouched_{};  // by acceptor
  std::optional<io::Instant> until_;
};

}  // namespace holdfast::qdisk
