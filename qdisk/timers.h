#pragma once
// The times of a cluster: one set for all nodes, in the witness's superblock and the configuration.
// Safety of what double-running virtual machines could do depends on them (never the safety of
// data): docs/qdisk-protocol.md, "Times".

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace holdfast::qdisk {

using Milliseconds = std::chrono::milliseconds;

struct Timers {
  Milliseconds hb_net{1'000};      // a heartbeat over every network
  Milliseconds net_dead{10'000};   // none for so long: the network between two nodes is down
  Milliseconds hb_disk{2'000};     // a heartbeat on the witness
  Milliseconds disk_io_to{4'000};  // an I/O to the witness has failed
  Milliseconds lease{15'000};      // L: from before the send of an acknowledged renewal
  Milliseconds kill{3'000};        // K: to stop everything once the lease has ended
  Milliseconds watchdog{10'000};   // D: the watchdog fires so long after its last pet
  Milliseconds takeover{30'000};   // T: from the decision on; then an evicted node has stopped
  Milliseconds margin{1'000};      // e
  bool operator==(const Timers&) const = default;
};

enum class TimerProfile : uint8_t { standard, lan_fast };

Timers timers_of(TimerProfile profile);

// What is wrong with them, each with the figures that show it; empty: nothing. A set with an entry
// is refused, not warned of.
std::vector<std::string> violations(const Timers& timers);

}  // namespace holdfast::qdisk
