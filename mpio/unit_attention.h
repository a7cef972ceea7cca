#pragma once
// What a unit attention asks of the device, besides repeating the command that met it (retry.h).
// SPC-4 annex E names the codes. docs/mpio.md, "Unit attentions".

#include <array>
#include <cstdint>
#include <optional>

#include "common/io/loop.h"
#include "mpio/limits.h"

namespace holdfast::mpio {

enum class Attention : uint8_t {
  reset,           // 29/00 to 04, 07: power on, reset, nexus loss
  medium,          // 28/00
  mode,            // 2A/01
  reservations,    // 2A/03 to 05
  access_state,    // 2A/06, 07
  capacity,        // 2A/09
  units,           // 3F/0E
  identity,        // 3F/03 and what else of 3F concerns this unit
  thin_threshold,  // 38/07
  cleared,         // 2F/00: commands cleared by another initiator
  other,
};
inline constexpr size_t kAttentions = 11;

Attention classify_attention(uint8_t asc, uint8_t ascq);

enum class AttentionTask : uint16_t {
  verify_registration = 1 << 0,  // READ KEYS: is this node's key still there?
  report_cache_lost = 1 << 1,    // what was not flushed may be gone
  read_mode = 1 << 2,            // caching page
  read_access = 1 << 3,          // REPORT TARGET PORT GROUPS, once per target
  read_capacity = 1 << 4,
  rescan = 1 << 5,   // REPORT LUNS
  reprobe = 1 << 6,  // INQUIRY, VPD 83
  report_preempted = 1 << 7,
  ask_for_commands = 1 << 8,  // some may have been ended without an answer (TAS=0)
};

class AttentionTasks {
 public:
  constexpr void add(AttentionTask task) {
    bits_ = static_cast<uint16_t>(bits_ | static_cast<uint16_t>(task));
  }
  constexpr bool has(AttentionTask task) const {
    return (bits_ & static_cast<uint16_t>(task)) != 0;
  }
  constexpr bool none() const { return bits_ == 0; }
  bool operator==(const AttentionTasks&) const = default;

 private:
  uint16_t bits_ = 0;
};

// `caused_by_us`: the first of a session after our login, or after our reset. `write_cache`: WCE.
AttentionTasks tasks_of(Attention attention, bool caused_by_us, bool write_cache);

// A unit attention comes once per nexus: of a device's N paths, one does the work. One per device.
class AttentionFilter {
 public:
  // True: not seen of late. A reset of ours does not hide one that is not ours.
  bool first(Attention attention, bool caused_by_us, io::Instant now);

 private:
  std::array<std::array<std::optional<io::Instant>, 2>, kAttentions> seen_{};
};

}  // namespace holdfast::mpio
