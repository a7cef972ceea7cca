#pragma once
// One shard's view of a logical unit: its device, the commands active on it, the write gate that
// COMPARE AND WRITE closes, and the nexuses of this shard. Owner: Shard; thread: the shard's.

#include <boost/intrusive/list.hpp>
#include <deque>
#include <memory>
#include <vector>

#include "target/node_map.h"
#include "target/shard_control.h"
#include "target/task.h"
#include "target/unit_attention.h"

namespace holdfast::target {

// One nexus on one logical unit (I_T_L). Owner: Session.
struct NexusUnit {
  Session* session = nullptr;
  LogicalUnit* unit = nullptr;
  uint16_t lun = 0;
  NexusRights rights;
  AttentionQueue attentions;
  uint32_t commands = 0;
  uint64_t buffer_bytes = 0;        // held by its commands that have not ended
  MediumState* prevents = nullptr;  // the medium whose removal this nexus forbids
  void set_prevention(MediumState& medium, bool prevent);
  uint32_t loads_seen = 0;  // of MediumState::loads
  void note_loads(const MediumState& medium);
  boost::intrusive::list_member_hook<> hook;  // LogicalUnit::nexuses
};

class LogicalUnit {
 public:
  LogicalUnit(Shard& shard, std::shared_ptr<const UnitState> state);
  LogicalUnit(const LogicalUnit&) = delete;
  LogicalUnit& operator=(const LogicalUnit&) = delete;
  ~LogicalUnit();

  UnitId id() const { return state_->id; }
  const UnitState& state() const { return *state_; }
  bool ready() const { return attachment_ != nullptr; }
  io::BlockDevice* device() { return attachment_->device.get(); }  // when ready()
  // Keeps the device's mapped memory beyond the unit's removal.
  std::shared_ptr<const void> attachment() const { return attachment_; }
  uint32_t block_size() const { return state_->description.block_size; }

  void publish(std::shared_ptr<const UnitState> state);
  // New commands are answered as if there were no such LUN.
  void begin_removal() { removing_ = true; }
  bool removing() const { return removing_; }

  void add(NexusUnit& nexus_unit);
  void remove(NexusUnit& nexus_unit);
  void update_rights(NexusUnit& nexus_unit);
  void raise(const AttentionRequest& request);
  // PREEMPT AND ABORT also lets the medium go (SPC-4 5.13).
  void end_prevention(const std::vector<NexusId>& nexuses);

  // A command became active or ended.
  void enter(Task& task);
  void leave(Task& task);
  bool has_active() const { return !active_.empty(); }
  template <class Visitor>
  void for_each_active(Visitor&& visit) {
    for (auto at = active_.begin(); at != active_.end();) visit(*at++);
  }

  // Reads and writes: so many are with the device at a time, the others wait here in order. Only
  // what waits for the device counts, never what waits for an initiator.
  void read(Chunk& chunk, Chunk::Step step, uint64_t offset, base::MutableBytes into);
  void request_ended(Chunk& chunk);

  // Writes of every kind pass the gate; one that overlaps a closed range waits there.
  void write(Chunk& chunk, uint64_t offset, base::Bytes bytes, bool durable);
  void discard(Chunk& chunk, uint64_t offset, uint64_t length);
  void write_zeroes(Chunk& chunk, uint64_t offset, uint64_t length);
  void flush(Chunk& chunk);
  // The request ended (whatever its result), or was given up while it was held.
  void write_ended(Chunk& chunk);

  void close_gate(ExclusiveId id, BlockRange range, ShardControl::Done done);
  void open_gate(ExclusiveId id);
  // The holder of the exclusive range passes its own gate.
  bool gate_blocks(const Chunk& chunk) const;

  uint64_t buffer_bytes = 0;  // of requests that are with the device
  LunCounters counters;

 private:
  struct Gate {
    ExclusiveId id;
    BlockRange range;
    ShardControl::Done done;  // empty once called
  };
  enum class Kind : uint8_t { read, write, discard, zeroes, flush };
  struct Request {
    Chunk* chunk;
    Kind kind;
    Chunk::Step step;
    uint64_t offset;
    uint8_t* bytes;  // read: into; write: only read
    uint64_t length;
    bool durable;
  };

  void submit(const Request& request);
  static bool writes(const Request& request);
  void start(const Request& request);
  bool still_wanted(const Request& request);
  void settle_gates();

  using ActiveList =
      boost::intrusive::list<Task, boost::intrusive::member_hook<Task, TaskHook, &Task::unit_hook>>;
  using ChunkList = boost::intrusive::list<
      Chunk, boost::intrusive::member_hook<Chunk, boost::intrusive::list_member_hook<>,
                                           &Chunk::unit_hook>>;
  using NexusList = boost::intrusive::list<
      NexusUnit, boost::intrusive::member_hook<NexusUnit, boost::intrusive::list_member_hook<>,
                                               &NexusUnit::hook>>;

  Shard& shard_;
  std::shared_ptr<const UnitState> state_;
  struct Attachment {
    std::shared_ptr<io::Backing> backing;
    std::unique_ptr<io::BlockDevice> device;  // goes before its backing
  };
  std::shared_ptr<Attachment> attachment_;  // null: not ready
  ActiveList active_;
  NexusList nexuses_;
  bool removing_ = false;
  uint32_t in_flight_ = 0;
  std::deque<Request> queued_;
  ChunkList writing_;
  std::vector<Gate> gates_;  // empty except while exclusive commands run
  std::vector<Request> held_;
};

}  // namespace holdfast::target
