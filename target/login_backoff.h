#pragma once
// Slows the guessing of CHAP secrets: an account that failed several times from one address is not
// tried from there again for a while. Keyed by both, so that one host with a wrong secret keeps
// neither another host nor another account of the same host out. Pure: the time is given.
// Owner: Shard; an attacker with several connections so has one such table per thread.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/loop.h"
#include "common/io/network.h"

namespace holdfast::target {

class LoginBackoff {
 public:
  // A mistyped secret or two has no consequence.
  static constexpr uint32_t kFreeFailures = 3;
  static constexpr io::Duration kFirstWait = std::chrono::seconds(1);  // then doubled
  static constexpr io::Duration kLongestWait = std::chrono::seconds(8);
  static constexpr io::Duration kMemory = std::chrono::seconds(60);  // then all is forgotten
  // Only accounts that exist are noted, from addresses that the access list lets in. Beyond this
  // many the one longest untouched is forgotten.
  static constexpr size_t kMaxEntries = 1024;

  // True: refuse a login of this account from this address, whatever it proves.
  bool waits(const io::Endpoint& peer, std::string_view user, io::Instant now);
  void failed(const io::Endpoint& peer, std::string_view user, io::Instant now);
  void succeeded(const io::Endpoint& peer, std::string_view user);
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    io::Endpoint peer;  // its address counts, not its port
    std::string user;
    uint32_t failures = 0;
    io::Instant last{};
    io::Instant until{};
  };
  std::vector<Entry>::iterator find(const io::Endpoint& peer, std::string_view user);

  std::vector<Entry> entries_;
};

}  // namespace holdfast::target
