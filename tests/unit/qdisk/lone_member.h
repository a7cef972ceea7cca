#pragma once
// One membership among nodes that are only said to be there: their heartbeats come each second over
// one network, and what they answer is up to the test. Times are those of the standard set.

#include <map>
#include <optional>

#include "common/base/random.h"
#include "qdisk/membership.h"

namespace holdfast::qdisk {

class LoneMember {
 public:
  static constexpr Uuid kLun = {7};

  // Of `count` nodes that are all members in their first life.
  explicit LoneMember(NodeId self, int count = 3, QuorumMode mode = QuorumMode::node_majority)
      : settings_{.self = self} {
    settings_.policy = {.mode = mode, .configured = NodeSet((uint64_t{1} << count) - 1)};
    decision.epoch = 5;
    if (mode == QuorumMode::node_and_disk_majority) decision.witness = kLun;
    for (NodeId node = 0; node < count; ++node) decision.incarnations[node] = 1;
    choose_voters(decision, decision, settings_.policy, true);
  }

  Decision decision;
  MembershipSettings& settings() { return settings_; }
  void start(bool remembers = true) {
    core_.emplace(settings_, AcceptorState{.decided = decision}, remembers, 0, random_, now_);
    core_->set_volumes_ok(0xffff);
  }
  Membership& core() { return *core_; }
  io::Instant now() const { return now_; }

  // From now on it is heard; what it says can be changed.
  Heartbeat& hear(NodeId node, NodeState state = NodeState::member, Incarnation incarnation = 1) {
    heard_.add(node);
    Heartbeat& heartbeat = said_[node];
    heartbeat = {.node = node,
                 .state = state,
                 .incarnation = incarnation,
                 .epoch = decision.epoch,
                 .quiesced = decision.epoch,
                 .volumes_ok = 0xffff};
    heartbeat.heard_net[0] = settings_.policy.configured;
    return heartbeat;
  }
  void silence(NodeId node) { heard_.remove(node); }
  Heartbeat& said(NodeId node) { return said_[node]; }
  // The witness: answers at once, or its I/O fails. Who writes there, too, what it said last.
  bool witness_answers = true;
  NodeSet on_disk;

  // When its first ballot leaves, from now on.
  std::optional<Milliseconds> proposes_within(Milliseconds limit) {
    const io::Instant begin = now_;
    while (now_ - begin <= limit) {
      if (step()) return std::chrono::duration_cast<Milliseconds>(now_ - begin);
      now_ += core_->tick_length();
    }
    return std::nullopt;
  }
  void run(Milliseconds time) {
    for (const io::Instant end = now_ + time; now_ < end; now_ += core_->tick_length()) step();
  }
  // What that ballot wishes: every voter answers it.
  std::optional<Decision> wish() {
    for (const NodeId voter : core_->decision().voters) {
      if (voter == settings_.self || !ballot_) continue;
      const Reply reply{.incarnation = settings_.incarnation,
                        .decided = core_->decision(),
                        .blocks = {{.node = settings_.self, .block = *ballot_}}};
      take(core_->on_reply(voter, reply, now_));
      if (ballot_->bal != 0) return ballot_->value;
    }
    return std::nullopt;
  }

 private:
  bool step() {
    bool proposed = false;
    if (now_ >= next_second_) {
      next_second_ = now_ + std::chrono::seconds(1);
      ++sequence_;
      for (const NodeId node : heard_) {
        said_[node].sequence = sequence_;
        proposed |= take(core_->on_heartbeat(0, said_[node], now_));
      }
    }
    return take(core_->on_tick(now_)) || proposed;
  }

  // True: a ballot leaves.
  bool take(const Effects& effects) {
    bool proposed = false;
    for (const Envelope& envelope : effects.messages) {
      const Request* request = std::get_if<Request>(&envelope.body);
      if (request == nullptr || !request->store) continue;
      ballot_ = request->store;
      proposed = true;
    }
    if (!effects.witness) return proposed;
    WitnessResult result{.ok = witness_answers, .decided = core_->decision()};
    for (const NodeId node : on_disk) {
      said_[node].sequence = ++sequence_;
      result.heartbeats.push_back(said_[node]);
    }
    return take(core_->on_witness(result, now_)) || proposed;
  }

  MembershipSettings settings_;
  base::SeededRandom random_{1};
  std::optional<Membership> core_;
  io::Instant now_{std::chrono::seconds(1000)};
  io::Instant next_second_ = now_;
  uint64_t sequence_ = 0;
  NodeSet heard_;
  std::map<NodeId, Heartbeat> said_;
  std::optional<BallotBlock> ballot_;
};

}  // namespace holdfast::qdisk
