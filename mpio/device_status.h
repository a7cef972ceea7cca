#pragma once
// What the command line and the metrics see of one device: plain data, taken on the device's loop
// in one moment, read anywhere.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace holdfast::mpio {

struct PathStatus {
  std::string name, state, alua, portal, source, why;
  std::string tier;  // the group that the policy has it in
  uint8_t rank = 0;  // of that group; 0 is the best
  uint64_t since_ms = 0;
  bool carries_io = false;
  bool disabled = false;  // by the administrator
  std::optional<uint16_t> portal_group_tag;
  std::string isid;  // twelve hex digits
  uint32_t in_flight = 0, limit = 0;
  uint64_t latency_us = 0;  // smoothed, of small requests; 0: not measured
  uint32_t weight_permille = 0;
  uint64_t reads = 0, writes = 0, bytes_read = 0, bytes_written = 0;
  uint64_t errors = 0, given_back = 0, sessions = 0, failures = 0;
  uint32_t rtt_us = 0, retransmits = 0, mtu = 0, mss = 0;
  struct Step {
    uint64_t ago_ms = 0;
    std::string from, to, why;
  };
  std::vector<Step> history;  // the latest first
};

struct FenceStatus {
  std::string path;
  bool earlier_process = false;  // which was killed
  std::string step, proof;
  std::string failure;  // why the last step that failed did; empty: none has
  uint64_t since_ms = 0;
};

struct LastFence {
  std::string path, proof;
  uint64_t took_ms = 0;
};

struct EffectiveValue {
  std::string key, value;
  std::string origin;  // "default", "FILE:LINE", "runtime"
};

struct ExportStatus {
  std::string socket, state;
  uint32_t clients = 0;
};

struct DeviceStatus {
  std::string name, target, wwid, vendor, product, revision;
  uint16_t lun = 0;
  bool known = false;
  uint64_t size_bytes = 0;
  uint32_t block_size = 0;
  bool read_only = false;
  std::string policy, profile;
  std::vector<EffectiveValue> effective;
  std::vector<PathStatus> paths;
  std::vector<FenceStatus> fences;
  std::optional<LastFence> last_fence;  // the last one that was cleared
  std::vector<ExportStatus> exports;
  uint64_t waiting = 0, executing = 0;
  std::optional<uint64_t> without_path_ms;
  uint64_t ghosts = 0, oldest_ghost_ms = 0;
  uint64_t requests = 0, failed = 0, retries = 0, reissued_writes = 0, failovers = 0;
  uint64_t fences_begun = 0, fences_by_time = 0, fences_by_preempt = 0, path_losses = 0,
           ghost_waits = 0;
  // What is known of the target: "yes", "no", "unknown".
  std::string drains_on_reinstatement, unit_reset_waits, preempt_drains;
  bool session_keys = false;
  std::optional<bool> reserved;  // for sessions with keys of their own, when last looked for
  std::string target_note;       // of the table; empty: it is not in it
  bool target_tested = false;
  bool stale = false;  // its loop did not answer in time: this is how it was before
};

nlohmann::json to_json(const DeviceStatus& status);

// `path explain`: in words, one sentence each.
std::vector<std::string> explain(const DeviceStatus& status);
// What deserves an administrator's attention; a part of explain().
std::vector<std::string> warnings(const DeviceStatus& status);

}  // namespace holdfast::mpio
