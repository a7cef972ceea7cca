#pragma once
// The control loop's half of the target: sessions' identities, the order of everything that
// concerns all shards, the configuration. docs/architecture.md.

#include <optional>
#include <string>
#include <vector>

#include "target/node_change.h"
#include "target/node_control.h"
#include "target/node_link.h"
#include "target/node_plans.h"
#include "target/node_start.h"
#include "target/node_state.h"
#include "target/unit_operations.h"

namespace holdfast::target {

// A stop ends within 5 s; the process needs the rest of them.
inline constexpr io::Duration kShutdownWait = std::chrono::seconds(4);

// Owner: main (or a test). It is made before the shards, which take it as their NodeLink, and
// outlives them. start(), shutdown() and the destructor belong to the control loop's thread, and at
// the destructor nothing runs any more; the NodeLink and NodeControl calls may come from any
// thread.
class TargetNode final : public NodeLink, public NodeControl {
 public:
  template <class T>
  using Reply = NodeLink::Reply<T>;

  explicit TargetNode(const NodeServices& services);
  TargetNode(const TargetNode&) = delete;
  TargetNode& operator=(const TargetNode&) = delete;
  ~TargetNode() override;

  // Opens and locks the disks, publishes them, then listens. Replies when the portals listen, or
  // with what is wrong, and then nothing was started. `shards` has at least one entry; entry 0 runs
  // on the control loop.
  void start(Config config, std::vector<ShardHandle> shards, Reply<Outcome> reply);
  // Stops listening, ends all sessions and waits for their commands, at most kShutdownWait. True:
  // nothing is pending any more, all may be destroyed; else the process can only exit. NodeLink and
  // NodeControl calls that still wait, or arrive later, are not answered.
  void shutdown(Reply<bool> reply);

  // NodeLink
  void admit(AdmitRequest request, Reply<AdmitReply> reply) override;
  void session_gone(SessionId session) override;
  void pr_out(PrOutCall call, Reply<PrOutReply> reply) override;
  void reset(ResetCall call, Reply<bool> reply) override;
  void acquire_exclusive(uint32_t shard, UnitId unit, BlockRange range,
                         Reply<ExclusiveId> reply) override;
  void release_exclusive(UnitId unit, ExclusiveId id) override;
  void mode_select(uint32_t shard, UnitId unit, scsi::ModeChanges changes, NexusId nexus,
                   Reply<scsi::Status> reply) override;

  // NodeControl
  void status(Reply<NodeStatus> reply) override;
  void apply(Config config, bool force, Reply<Outcome> reply) override;
  void disk_create(DiskConfig disk, Reply<Outcome> reply) override;
  void disk_resize(std::string name, uint64_t size_bytes, Reply<Outcome> reply) override;
  void disk_remove(std::string name, Reply<Outcome> reply) override;
  void session_drop(uint64_t id, Reply<Outcome> reply) override;
  void session_request_logout(uint64_t id, Reply<Outcome> reply) override;
  void set_alua(uint16_t portal_group_tag, std::string state, Reply<Outcome> reply) override;

 private:
  struct WaitingApply {
    Config config;
    bool force;
    Reply<Outcome> reply;
  };

  template <class Work>
  void run(Work work);  // on the control loop, unless the node stops
  // One change at a time; `plan` is called when it is this one's turn to look at the state.
  void change(std::move_only_function<Planned()> plan, Reply<Outcome> reply);
  void begin_change(Planned planned, Reply<Outcome> reply);
  void begin_waiting_apply();
  void store_alua(uint16_t tag, const std::string& state, Reply<Outcome> reply);
  void publish_alua(uint16_t tag, scsi::AluaState state, Reply<Outcome> reply);

  NodeState state_;
  UnitOperations operations_;
  NodeStart start_;
  NodeChange change_;
  bool started_ = false;
  // The last file read must be what is in force in the end, so that it waits for its turn.
  std::optional<WaitingApply> waiting_apply_;
};

}  // namespace holdfast::target
