#pragma once
// What a shard asks of the control loop. TargetNode implements it. Every call may be made from any
// shard's thread; replies are posted to that shard's loop, exactly once, unless the shard was shut
// down. Control paths only: calls allocate.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/iscsi/pdu.h"
#include "common/iscsi/status.h"
#include "common/scsi/mode_pages.h"
#include "common/scsi/sense.h"
#include "common/scsi/status.h"
#include "target/node_map.h"

namespace holdfast::target {

struct AdmitRequest {
  SessionId session = 0;
  uint32_t shard = 0;
  bool discovery = false;
  NexusId nexus;
  io::Endpoint portal;  // the address it came to
  io::Endpoint peer;
};
struct AdmitReply {
  iscsi::LoginStatus status = iscsi::LoginStatus::success;
  uint16_t tsih = 0;
  bool reinstated = false;  // an older session of this nexus was ended: 29/07 instead of 29/00
  const char* reason = "";  // of a refusal, for the log: static text
};

struct PrOutCall {
  uint32_t shard = 0;
  UnitId unit = 0;
  NexusId nexus;
  SessionId session = 0;
  uint64_t task = 0;  // its serial number: PREEMPT AND ABORT of oneself spares it
  uint8_t service_action = 0;
  uint8_t scope = 0;
  uint8_t type = 0;
  std::vector<uint8_t> parameter_list;
};
struct PrOutReply {
  scsi::Status status{};
  scsi::Sense sense{};  // with CHECK CONDITION
};

struct ResetCall {
  uint32_t shard = 0;
  iscsi::TaskFunction function{};  // clear_task_set, logical_unit_reset, target_{warm,cold}_reset
  UnitId unit = 0;                 // the first two
  std::string target;              // the last two: all units of this target
  SessionId session = 0;
};

struct BlockRange {
  uint64_t lba = 0;
  uint64_t blocks = 0;
  bool overlaps(const BlockRange& other) const {
    return lba < other.lba + other.blocks && other.lba < lba + blocks;
  }
};
using ExclusiveId = uint64_t;

class NodeLink {
 public:
  template <class T>
  using Reply = std::move_only_function<void(T) noexcept>;

  virtual ~NodeLink() = default;

  // The initiator's identity is established. An older session of the same nexus is dead from now
  // on; the reply comes when its commands have ended, or with out_of_resources after the drain
  // deadline. Logins that reinstate nothing are answered at once, whatever any backing does.
  virtual void admit(AdmitRequest request, Reply<AdmitReply> reply) = 0;
  // Every command of the session has ended and its socket is closed. Also ends a pending admit.
  virtual void session_gone(SessionId session) = 0;

  // The reply comes when the change is durable (APTPL), known to every shard, and, for PREEMPT AND
  // ABORT, when the aborted commands have ended. If they do not within the drain deadline:
  // CHECK CONDITION, INTERNAL TARGET FAILURE: the registrations are gone, a write may still land.
  virtual void pr_out(PrOutCall call, Reply<PrOutReply> reply) = 0;

  // True: done, all affected commands have ended. False: not within the drain deadline.
  virtual void reset(ResetCall call, Reply<bool> reply) = 0;

  // COMPARE AND WRITE, ORWRITE: while held, no other write of any shard touches the range. Given
  // out in the order asked for.
  virtual void acquire_exclusive(uint32_t shard, UnitId unit, BlockRange range,
                                 Reply<ExclusiveId> reply) = 0;
  virtual void release_exclusive(UnitId unit, ExclusiveId id) = 0;

  // MODE SELECT: publishes the change and raises 2A/01 on all other nexuses, then replies.
  virtual void mode_select(uint32_t shard, UnitId unit, scsi::ModeChanges changes, NexusId nexus,
                           Reply<scsi::Status> reply) = 0;
};

}  // namespace holdfast::target
