#pragma once
// What concerns one logical unit on all shards: exclusive ranges, resets, mode parameters.

#include "target/node_link.h"
#include "target/node_state.h"

namespace holdfast::target {

// Owner: TargetNode. Thread: the control loop's.
class UnitOperations {
 public:
  explicit UnitOperations(NodeState& node) : node_(node) {}

  void pr_out(PrOutCall call, NodeLink::Reply<PrOutReply> reply);
  void reset(ResetCall call, NodeLink::Reply<bool> reply);
  void acquire_exclusive(uint32_t shard, UnitId unit, BlockRange range,
                         NodeLink::Reply<ExclusiveId> reply);
  void release_exclusive(UnitId unit, ExclusiveId id);
  void mode_select(uint32_t shard, UnitId unit, const scsi::ModeChanges& changes,
                   const NexusId& nexus, NodeLink::Reply<scsi::Status> reply);
  // Whoever still waits for a range of it gets it: nothing is left to collide with.
  void on_unit_removed(UnitId unit);

 private:
  struct Grant {
    uint32_t shard = 0;
    UnitId unit = 0;
    NodeLink::Reply<ExclusiveId> reply;
  };
  std::vector<Unit*> affected_by(const ResetCall& call);
  void close_gates(UnitId unit, ExclusiveId id);
  void grant(ExclusiveId id);

  NodeState& node_;
  ExclusiveId last_exclusive_ = 0;
  std::map<ExclusiveId, Grant> grants_;  // those that wait
};

}  // namespace holdfast::target
