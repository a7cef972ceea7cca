#include "target/login_backoff.h"

#include <algorithm>

namespace holdfast::target {

std::vector<LoginBackoff::Entry>::iterator LoginBackoff::find(const io::Endpoint& peer,
                                                              std::string_view user) {
  return std::ranges::find_if(entries_, [&](const Entry& entry) {
    return std::ranges::equal(entry.peer.address(), peer.address()) && entry.user == user;
  });
}

bool LoginBackoff::waits(const io::Endpoint& peer, std::string_view user, io::Instant now) {
  const auto entry = find(peer, user);
  return entry != entries_.end() && now < entry->until;
}

void LoginBackoff::failed(const io::Endpoint& peer, std::string_view user, io::Instant now) {
  std::erase_if(entries_, [&](const Entry& entry) { return now - entry.last > kMemory; });
  auto entry = find(peer, user);
  if (entry == entries_.end()) {
    if (entries_.size() == kMaxEntries) {
      entries_.erase(std::ranges::min_element(entries_, {}, &Entry::last));
    }
    entries_.push_back({.peer = peer, .user = std::string(user)});
    entry = std::prev(entries_.end());
  }
  ++entry->failures;
  entry->last = now;
  if (entry->failures < kFreeFailures) return;
  const uint32_t doublings = std::min<uint32_t>(entry->failures - kFreeFailures, 8);
  entry->until = now + std::min<io::Duration>(kLongestWait, kFirstWait * (1 << doublings));
}

void LoginBackoff::succeeded(const io::Endpoint& peer, std::string_view user) {
  if (const auto entry = find(peer, user); entry != entries_.end()) entries_.erase(entry);
}

}  // namespace holdfast::target
