#include "qdisk/lease.h"

#include <algorithm>
#include <functional>

namespace holdfast::qdisk {

void Lease::begin_epoch() { vouched_.fill(std::nullopt); }

void Lease::on_vouched(NodeId acceptor, io::Instant sent_at) {
  auto& at = vouched_[acceptor];
  if (!at || *at < sent_at) at = sent_at;
}

void Lease::end() {
  begin_epoch();
  until_.reset();
}

std::optional<io::Instant> Lease::confirmed_at(const Decision& current) const {
  std::array<io::Instant, kMaxNodes + 1> times;
  size_t count = 0;
  for (const NodeId voter : current.voters) {
    if (vouched_[voter]) times[count++] = *vouched_[voter];
  }
  if (current.witness_votes && vouched_[kWitness]) times[count++] = *vouched_[kWitness];
  const auto needed = static_cast<size_t>(majority(current));
  if (count < needed) return std::nullopt;
  std::ranges::sort(times.begin(), times.begin() + static_cast<ptrdiff_t>(count), std::greater<>());
  return times[needed - 1];
}

Answers Lease::vouching(io::Instant now) const {
  const auto counts = [&](NodeId acceptor) {
    return vouched_[acceptor] && now < *vouched_[acceptor] + length_;
  };
  Answers out{.witness = counts(kWitness)};
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    if (counts(node)) out.nodes.add(node);
  }
  return out;
}

void Lease::renew(const Decision& current) {
  const auto at = confirmed_at(current);
  if (at && (!until_ || *until_ < *at + length_)) until_ = *at + length_;
}

}  // namespace holdfast::qdisk
