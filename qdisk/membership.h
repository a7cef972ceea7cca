#pragma once
// One node's part in the membership: events in, effects out. No descriptor, clock or thread; the
// daemon and the simulator drive it. docs/qdisk-protocol.md has the rules and the argument.

#include <optional>
#include <variant>
#include <vector>

#include "common/base/random.h"
#include "common/base/result.h"
#include "qdisk/acceptor.h"
#include "qdisk/arbitration.h"
#include "qdisk/lease.h"
#include "qdisk/plan.h"
#include "qdisk/proposer.h"
#include "qdisk/view.h"

namespace holdfast::qdisk {

struct MembershipSettings {
  NodeId self = 0;
  Incarnation incarnation = 1;
  Timers timers{};
  VoterPolicy policy{};
  uint64_t reservation_key = 0;  // for the others to see
  bool has_users = false;        // others of this host have acted by the lease before this start
};

// For the witness LUN, one at a time: writes what is there, in this order, each durable before the
// next, then reads all heartbeats, decisions and ballot blocks, in any order: a block beyond the
// next epoch shows that a decision has been missed.
struct WitnessTask {
  Decision decided;  // unless the witness is known to hold it or a later one
  Heartbeat heartbeat;
  std::optional<BallotBlock> store;
};

struct WitnessResult {
  bool ok = false;  // everything was done; else nothing is known but that it is over
  std::vector<Heartbeat> heartbeats;
  Decision decided;
  std::vector<NodeBlock> blocks;
  // A record is damaged that may have held a block or a later decision: the witness promises
  // nothing this time.
  bool unreadable = false;
};

// That nothing can land any more, on any device of the cluster, of whoever is no member as of the
// epoch.
struct FenceOrder {
  Epoch epoch = 0;
  std::vector<Life> lives;  // who has left since the last fence
  // ... and others, of whom this node does not know, until this epoch; 0: none.
  Epoch unknown_until = 0;
  // Who wants to join: their keys stay, unless they are among the lives. Where some are unknown,
  // they are removed once.
  std::vector<Life> joining;
  bool operator==(const FenceOrder&) const = default;
};

struct Envelope {
  NodeId to = kNoNode;
  std::variant<Request, Reply> body;
};

// In this order: what must be durable first, then everything that leaves the node.
struct Effects {
  bool persist = false;  // acceptor_state(): before anything below is done
  std::vector<Envelope> messages;
  std::optional<Heartbeat> heartbeat;  // to all configured nodes, over every network
  std::optional<WitnessTask> witness;  // answer with on_witness(), whatever comes of it
  bool decided = false;                // decision() is another one
  // No further effect comes from this life: it must end everything it does, and a new one may join.
  bool evicted = false;
  // Answer with on_devices_fenced(). Asked of one member at a time, as far as it can be known.
  std::optional<FenceOrder> fence_devices;
};

// The right of a coordinator: whoever receives it refuses one that is older than it has seen.
struct Token {
  Epoch epoch = 0;
  uint32_t term = 0;
  auto operator<=>(const Token&) const = default;
};

// What is known of a life that is no member any more.
struct Departure {
  Epoch epoch = 0;  // in which it was none any more, or a later one
  io::Instant
      stops_at{};  // from then on it has stopped what it ran, if clock and watchdog are right
  // That bounds it: as the node said last. none: it had none, or it is not known, and nothing does.
  WatchdogKind watchdog = WatchdogKind::none;
  bool stopped = false;  // it says so itself, lives anew, or its host has been switched off
  bool fenced = false;   // nothing of it can land any more;
  bool timed = false;    // but only since enough time has gone by
};

class Membership {
 public:
  // `remembers`: the state is what this node last made durable. Not where it has lost it, or
  // begins.
  // `fenced`: as it last was durable, or 0; it may lag behind.
  Membership(const MembershipSettings& settings, const AcceptorState& state, bool remembers,
             Epoch fenced, base::Random& random, io::Instant now);

  // Each takes the time at which the event came. Call on_tick() every tick_length() at the latest.
  Effects on_tick(io::Instant now);
  Effects on_heartbeat(size_t network, const Heartbeat& heartbeat, io::Instant now);
  Effects on_request(const Request& request, io::Instant now);
  Effects on_reply(NodeId from, const Reply& reply, io::Instant now);
  Effects on_witness(const WitnessResult& result, io::Instant now);
  io::Duration tick_length() const;

  // The witness may be used: it is the LUN that the decision names, this life is registered at it,
  // and whatever earlier lives of this node had under way there has been ended (an old write to our
  // own block would undo a newer one). None: it may not be.
  void use_witness(std::optional<Uuid> witness);
  void set_volumes_ok(uint16_t volumes) { volumes_ok_ = volumes; }
  void set_watchdog(WatchdogKind watchdog) { watchdog_ = watchdog; }
  void set_policy(const VoterPolicy& policy) { settings_.policy = policy; }
  // One at a time, proposed by this node as soon as it can. Errc::busy: another waits. To move a
  // volume is asked of its coordinator, after it has ended what it did.
  base::Result<> ask(const Change& change);
  const std::optional<Change>& asked() const { return change_; }
  void forget_change() { change_.reset(); }
  // Of its own will: the others need not wait for anything. Its lease ends with it, and so does
  // this life: what is started later, also within the same boot, is a new incarnation.
  void stop() { stopped_ = true; }
  // What non-members as of this epoch had asked of this node is dropped and has ended.
  void on_quiesced(Epoch epoch);
  // What the members' devices hold of non-members as of this epoch has ended. `timed`: only because
  // enough time has gone by.
  void on_devices_fenced(Epoch epoch, bool timed);
  // The host of this life, which is no member any more, has been switched off: nothing runs there.
  void on_switched_off(const Life& life, io::Instant now);
  // An operator's word instead of a majority: this node alone is the cluster, in a new generation.
  // Nothing happens where no decision is known, nor in a life that was evicted.
  Effects force(io::Instant now);

  const Decision& decision() const { return acceptor_.decided(); }
  const AcceptorState& acceptor_state() const { return acceptor_.state(); }
  // To be made durable together with acceptor_state(): a life that remembers nothing and has learnt
  // a decision still does not know what it had promised.
  bool remembers() const { return acceptor_.remembers(); }
  bool is_member() const { return decision().has_member(settings_.self, settings_.incarnation); }
  bool evicted() const { return evicted_; }
  bool lease_valid(io::Instant now) const { return is_member() && !stopped_ && lease_.valid(now); }
  std::optional<io::Instant> lease_until() const { return lease_.until(); }
  Answers vouching(io::Instant now) const { return lease_.vouching(now); }
  const View& view() const { return view_; }
  // Somebody holds another value of an epoch than this node does: two clusters were made under one
  // uuid, or a state was put back from elsewhere. What it says is not taken.
  bool contradicted() const { return contradicted_; }
  // When this node has learnt the present decision.
  io::Instant learnt_at() const { return learnt_at_; }
  // Members that are heard as the life that is a member, and this node if it is one.
  NodeSet live_members(io::Instant now) const;
  // It has been read lately.
  bool reaches_witness(io::Instant now) const;
  // The watchdog may be petted, and something be started that must end with the lease. Not in the
  // lease's last D - K: who looks at the lease and pets a little later, after a pause, must still
  // be stopped by L + K + D.
  bool lease_ample(io::Instant now) const {
    return lease_valid(now + settings_.timers.watchdog - settings_.timers.kill);
  }
  // A path that was registered before this moment may carry data I/O ("verify after register").
  std::optional<io::Instant> confirmed_at() const;
  // The newest epoch of which nothing of non-members can land any more.
  Epoch fenced() const { return fenced_; }
  bool fenced_timed() const { return fenced_timed_; }
  // From then on every evicted life has stopped what it ran, if its clock and watchdog are right.
  io::Instant evicted_stopped_at() const { return evicted_stopped_at_; }
  // The life of the node that is a member, else the last one that was; incarnation 0: not known.
  Life life_of(NodeId node) const;
  // Of a life that is no member.
  Departure departure_of(const Life& life) const;
  // Nothing: this node may not do anything as the volume's coordinator.
  std::optional<Token> token(size_t volume, io::Instant now) const;
  Heartbeat heartbeat(io::Instant now) const;

 private:
  // What should be, and who should say so: membership_plan.cc.
  struct Proposal {
    Decision wish;
    io::Duration delay;  // this node's turn comes so long after the need has come up
  };
  std::optional<Proposal> proposal(io::Instant now) const;
  std::optional<Proposal> founding(io::Instant now) const;
  Situation situation(io::Instant now) const;
  NodeSet leaving(io::Instant now) const;
  NodeSet staying(io::Instant now, NodeSet live, int& rank) const;
  std::array<Candidate, kMaxNodes> weights(io::Instant now) const;
  Incarnation incarnation_of(NodeId node, io::Instant now) const;
  bool witness_usable(io::Instant now) const;
  io::Duration turn_of(NodeSet proposers) const;

  bool contradicts(const Decision& decision);
  void learn(const Decision& decision, io::Instant now, Effects& effects);
  void note_leaving(const Decision& before, io::Instant now);
  void note_blocks(const std::vector<NodeBlock>& blocks);
  void set_fenced(Epoch epoch, bool timed);
  NodeId fencer_of(NodeSet live, io::Instant now) const;
  FenceOrder fence_order(io::Instant now) const;
  void look_at_fences(io::Instant now, Effects& effects);
  void consider(io::Instant now, Effects& effects);
  void begin_ballot(const Decision& wish, io::Instant now, Effects& effects);
  void take_reply(NodeId acceptor, const Reply& reply, io::Instant now, Effects& effects);
  void after_step(uint64_t step, io::Instant now, Effects& effects);
  void send_block(io::Instant now, Effects& effects);
  void renew(io::Instant now, Effects& effects);
  void ask_witness(io::Instant now, Effects& effects);
  void ask_self(io::Instant now, Effects& effects);
  Request request(io::Instant now) const;
  bool witness_counts() const;
  void next_sequence(io::Instant now);

  MembershipSettings settings_;
  base::Random& random_;
  Acceptor acceptor_;
  Proposer proposer_;
  Lease lease_;
  View view_;
  // Since then this node hears what there is to hear: not before its start, nor while it was
  // stopped. Silence counts from here.
  io::Instant listening_since_;
  io::Instant ticked_at_;

  uint64_t sequence_ = 0;  // of heartbeats
  io::Instant next_heartbeat_{};
  io::Instant next_renewal_{};
  io::Instant next_send_{};  // of the ballot's block, again

  std::optional<Uuid> witness_;
  std::optional<io::Instant> witness_busy_since_;
  bool witness_changed_ = false;  // since the task under way began
  io::Instant next_witness_{};
  std::optional<io::Instant> witness_ok_at_;
  bool witness_needed_ = false;  // for the ballot's block, whose time to be sent has come

  uint16_t volumes_ok_ = 0;
  WatchdogKind watchdog_ = WatchdogKind::none;
  bool contradicted_ = false;
  bool stopped_ = false;
  bool evicted_ = false;
  std::optional<Change> change_;

  // The members that a proposal would have, and since when: a need must last.
  std::array<Incarnation, kMaxNodes> wanted_{};
  std::optional<io::Instant> wanted_since_;
  io::Instant not_before_{};  // after a lost ballot
  int lost_ballots_ = 0;
  // A block of the next epoch that somebody proposed and nobody has finished.
  bool unfinished_ = false;

  io::Instant learnt_at_{};
  Epoch quiesced_ = 0;
  std::vector<Life> unfenced_;  // have left since fenced_
  Epoch unfenced_unknown_ = 0;
  Epoch fence_asked_ = 0;
  Epoch devices_fenced_ = 0;
  bool devices_timed_ = false;
  Epoch fenced_ = 0;
  bool fenced_timed_ = false;
  io::Instant evicted_stopped_at_{};
  // The last life of each node that was seen to leave; incarnation 0: none.
  std::array<std::pair<Incarnation, Departure>, kMaxNodes> left_{};
  std::array<Epoch, kMaxVolumes> term_began_{};
};

}  // namespace holdfast::qdisk
