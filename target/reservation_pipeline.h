#pragma once
// PERSISTENT RESERVE OUT, step by step as reservations.h demands, one at a time per logical unit.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "target/node_link.h"
#include "target/shards.h"
#include "target/state_store.h"

namespace holdfast::target {

struct Unit;
class Units;

// Until a change that may be stored or not is stored again.
inline constexpr io::Duration kDoubtRetry = std::chrono::milliseconds(200);

// Waiting behind another one of the same unit; more get BUSY.
inline constexpr size_t kMaxWaitingPrOut = 256;

// Owner: NodeState. Thread: the control loop's.
class ReservationPipeline {
 public:
  using Reply = NodeLink::Reply<PrOutReply>;

  ReservationPipeline(io::Loop& loop, Shards& shards, Units& units, StateStore& store)
      : loop_(loop), shards_(shards), units_(units), store_(store) {}
  ReservationPipeline(const ReservationPipeline&) = delete;
  ReservationPipeline& operator=(const ReservationPipeline&) = delete;
  ~ReservationPipeline() { stop(); }

  // Each command waits at most so long for its turn (then BUSY), for the store and for the drain
  // (then INTERNAL TARGET FAILURE).
  void set_deadline(io::Duration deadline) { deadline_ = deadline; }
  void submit(PrOutCall call, std::vector<uint16_t> portal_group_tags, Reply reply);
  // Those that wait for their turn and are aborted: never carried out. Without this, whoever waits
  // for the aborted commands' end would wait for this queue. Call it after the shards were told of
  // the abort: they answer for a command that is aborted, not this.
  void abort_waiting(const std::function<bool(const PrOutCall&)>& aborted);
  // No reply comes any more.
  void stop();

  // What the store has of each disk, kept here so that a disk that comes back finds it.
  void remember(const DiskIdentity& identity, std::vector<uint8_t> encoded) {
    durable_[identity] = std::move(encoded);
  }
  // As after a power loss; an error when they are damaged.
  base::Result<Reservations> restore(const DiskIdentity& identity) const;

 private:
  struct Operation {
    Operation(ReservationPipeline& all, PrOutCall request, std::vector<uint16_t> tags, Reply answer)
        : pipeline(all),
          call(std::move(request)),
          portal_group_tags(std::move(tags)),
          reply(std::move(answer)) {}
    void on_deadline() noexcept { pipeline.on_deadline(*this); }
    void on_save_again() noexcept { pipeline.on_save_again(*this); }

    ReservationPipeline& pipeline;
    PrOutCall call;
    std::vector<uint16_t> portal_group_tags;
    Reply reply;  // empty: answered
    bool begun = false;
    Reservations next;
    PrOutcome outcome;
    io::TimerOf<Operation, &Operation::on_deadline> timer{*this};
    io::TimerOf<Operation, &Operation::on_save_again> again{*this};
  };
  using Queue = std::deque<std::unique_ptr<Operation>>;  // the first one is being carried out

  void advance(UnitId id);
  bool begin(Operation& operation, Unit& unit);
  void save(Operation& operation, Unit& unit);
  void on_saved(UnitId id, std::vector<uint8_t> encoded, base::Result<> result);
  void publish(Operation& operation, Unit& unit);
  void on_save_again(Operation& operation);
  void on_published(UnitId id, bool all);
  void finish_first(UnitId id);
  void on_deadline(Operation& operation);
  void answer(Operation& operation, PrOutReply reply);

  io::Loop& loop_;
  Shards& shards_;
  Units& units_;
  StateStore& store_;
  io::Duration deadline_ = std::chrono::seconds(10);
  std::map<UnitId, Queue> queues_;
  std::map<DiskIdentity, std::vector<uint8_t>> durable_;
};

// Per shard, in this order: the new state, the unit attentions, the end of the aborted commands.
Shards::Ask make_reservation_step(std::shared_ptr<const UnitState> state, const PrOutCall& call,
                                  const PrOutcome& outcome);

}  // namespace holdfast::target
