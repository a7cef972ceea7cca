#pragma once
// What has happened between two looks at the status, for the log and `holdfast quorum events`: each
// kind has a number that stays, and a text. docs/operations.md, "Events", lists them.

#include <deque>
#include <string>
#include <vector>

#include "common/io/loop.h"
#include "qdisk/quorum_status.h"

namespace holdfast::qdisk {

enum class EventId : uint16_t {
  quorum = 1001,
  no_quorum = 1002,
  forced = 1003,
  one_failure_stops = 1004,
  no_failure_stops = 1005,
  joined = 1101,
  left = 1102,
  new_life = 1103,
  network_up = 1201,
  network_down = 1202,
  witness_usable = 1301,
  witness_unusable = 1302,
  witness_replaced = 1303,
  volume_usable = 1401,
  volume_unusable = 1402,
  coordinator = 1403,
  fence_begun = 1501,
  fenced = 1502,
  fenced_timed = 1503,
  watchdog_runs = 1601,
  watchdog_ended = 1602,
  problem = 1701,
};

enum class Severity : uint8_t { info, warning, error };
const char* to_string(Severity severity);

struct Event {
  EventId id = EventId::quorum;
  Severity severity = Severity::info;
  std::string text;  // one sentence
  bool operator==(const Event&) const = default;
};

// Pure. In the order in which they explain each other.
std::vector<Event> events_between(const QuorumStatus& before, const QuorumStatus& after);

// The newest, in memory; all go to the log. Owner: Control.
class EventLog {
 public:
  static constexpr size_t kMax = 500;
  struct Entry {
    uint64_t sequence = 0;  // from 1 on since the daemon began
    io::Instant at{};
    Event event;
  };

  void look(const QuorumStatus& status, io::Instant now);
  const std::deque<Entry>& entries() const { return entries_; }

 private:
  std::optional<QuorumStatus> before_;
  uint64_t sequence_ = 0;
  std::deque<Entry> entries_;
};

}  // namespace holdfast::qdisk
