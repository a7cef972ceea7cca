#pragma once
// What the control socket, the metrics page and signals may ask of the running target. TargetNode
// implements it; the edge (control_server, metrics_server) knows only this.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "target/config.h"

namespace holdfast::target {

struct LatencyHistogram {
  // Bucket i counts commands that took < 2^i microseconds (and at least 2^(i-1)).
  static constexpr size_t kBuckets = 26;
  uint64_t buckets[kBuckets] = {};
  uint64_t sum_us = 0;
  uint64_t count = 0;
};

struct LunCounters {
  uint64_t reads = 0, writes = 0, other_commands = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t check_conditions = 0, reservation_conflicts = 0, aborted = 0, medium_errors = 0;
  LatencyHistogram read_latency, write_latency;
};

struct RegistrantStatus {
  std::string initiator_name;
  uint64_t isid = 0;
  uint16_t portal_group_tag = 0;
  uint64_t key = 0;
  bool holder = false;
};

struct ReservationStatus {
  uint32_t generation = 0;
  uint8_t type = 0;  // SPC type code; 0: no reservation
  bool aptpl = false;
  std::vector<RegistrantStatus> registrants{};
};

struct DiskStatus {
  DiskConfig config;
  std::string state;   // "ready", "opening[: <why>]", "failed: <why>"
  std::string origin;  // "file" (configuration) or "cli" (disk create)
  std::string uuid;    // identity, as VPD 83 and 80 show it
  uint64_t size_bytes = 0;
  struct Mapping {
    std::string target;
    uint16_t lun = 0;
  };
  std::vector<Mapping> mapped{};
  ReservationStatus reservation{};
  LunCounters counters{};
};

struct SessionStatus {
  uint64_t id = 0;  // unique for the life of the process; `session drop` takes it
  std::string initiator_name, target_name;  // target_name empty: discovery
  uint64_t isid = 0;
  uint16_t tsih = 0;
  uint16_t portal_group_tag = 0;
  std::string peer, portal;  // address:port
  std::string user;          // CHAP user; empty: none
  uint32_t thread = 0;
  uint64_t age_ms = 0;
  uint32_t commands_in_flight = 0;
  bool header_digest = false, data_digest = false;
  std::string state;  // "logged in", "draining"
};

struct PortalStatus {
  std::string address;
  uint16_t portal_group_tag = 0;
  std::string state;  // "listening", "failed: <why>"
};

struct AluaStatus {
  uint16_t portal_group_tag = 0;
  std::string state;  // "active/optimized", "active/non-optimized", "standby", "unavailable",
                      // "transitioning"
};

struct NodeStatus {
  std::string version;
  uint64_t uptime_ms = 0;
  uint32_t threads = 0;
  std::vector<PortalStatus> portals;
  std::vector<AluaStatus> alua;
  std::vector<DiskStatus> disks;
  std::vector<TargetConfig> targets;  // secrets blanked
  std::vector<SessionStatus> sessions;
  uint64_t connections_total = 0, connections_refused = 0, logins_failed = 0, pdus_rejected = 0;
  uint64_t buffer_bytes_used = 0, buffer_bytes_total = 0;
};

// Every call may be made from any thread; the reply arrives on the control loop's thread exactly
// once, within the drain deadline plus a second; that of an apply that waits, so long after its
// turn has come.
class NodeControl {
 public:
  template <class T>
  using Reply = std::move_only_function<void(T) noexcept>;
  // Ok: what was done, one sentence a line. Error: why not and what to do; nothing was changed.
  using Outcome = std::expected<std::vector<std::string>, std::vector<std::string>>;

  virtual ~NodeControl() = default;
  virtual void status(Reply<NodeStatus> reply) = 0;
  // Waits for a change that is under way, and for the start; of several that wait only the last is
  // made. `force`: it may take away every target.
  virtual void apply(Config config, bool force, Reply<Outcome> reply) = 0;
  virtual void disk_create(DiskConfig disk, Reply<Outcome> reply) = 0;  // remembered in state_dir
  virtual void disk_resize(std::string name, uint64_t size_bytes, Reply<Outcome> reply) = 0;
  virtual void disk_remove(std::string name, Reply<Outcome> reply) = 0;  // data is kept
  virtual void session_drop(uint64_t id, Reply<Outcome> reply) = 0;
  virtual void session_request_logout(uint64_t id, Reply<Outcome> reply) = 0;  // async event 1
  virtual void set_alua(uint16_t portal_group_tag, std::string state, Reply<Outcome> reply) = 0;
};

}  // namespace holdfast::target
