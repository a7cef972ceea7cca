#pragma once
// What every shard knows of the node: immutable values that the control loop publishes whole, so
// that the data path reads them without a lock.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/io/backing.h"
#include "common/io/network.h"
#include "common/scsi/alua.h"
#include "common/scsi/lun_description.h"
#include "common/scsi/mode_pages.h"
#include "target/config.h"
#include "target/reservations.h"

namespace holdfast::target {

// A logical unit for the life of the process; never reused.
using UnitId = uint32_t;
// A connection and its session (one connection per session): shard number in the high 16 bits.
using SessionId = uint64_t;

struct PortalGroupView {
  uint16_t tag = 0;
  std::vector<io::Endpoint> portals;
  scsi::AluaState alua = scsi::AluaState::active_optimized;
  bool alua_changed = false;  // by the administrator, since the process began
};

struct TargetView {
  std::string name;
  std::vector<uint16_t> portal_groups;  // the tag is also the relative target port identifier
  std::map<uint16_t, UnitId> luns;
  std::vector<InitiatorConfig> initiators;
};

struct NodeMap {
  std::vector<PortalGroupView> portal_groups;
  std::vector<TargetView> targets;
  DiscoveryConfig discovery;
  bool chap_allow_md5 = true;
  bool chap_allow_sha1 = true;

  const TargetView* find_target(std::string_view name) const;
  const PortalGroupView* find_portal_group(uint16_t tag) const;
};

// Of a removable unit; one object for all shards, which touch it without a lock.
struct MediumState {
  std::atomic<bool> ejected{false};
  std::atomic<uint32_t> loads{0};  // how often it was loaded; a nexus that knows less is told 28/00
  std::atomic<uint32_t> preventions{
      0};  // nexuses that forbid ejecting (PREVENT ALLOW MEDIUM REMOVAL)
};

// One logical unit as all nexuses see it.
struct UnitState {
  UnitId id = 0;
  scsi::LunDescription description;
  scsi::ModeState mode;
  Reservations reservations;
  std::shared_ptr<io::Backing> backing;  // null: not opened and locked yet (02/04/01)
  std::shared_ptr<MediumState> medium;   // removable units only
  bool write_through = false;            // every write is made durable before its status
};

}  // namespace holdfast::target
