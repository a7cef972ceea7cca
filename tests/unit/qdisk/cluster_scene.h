#pragma once
// Some nodes' memberships, a network and a witness between them, in virtual time: for tests that
// say what happens in words. It delivers everything late and in any order, and checks after each
// event what must never be: two values for an epoch, a lease or a confirmation beyond an eviction.

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "qdisk/membership.h"

namespace holdfast::qdisk {

using std::chrono::milliseconds;

inline constexpr Uuid kWitnessUuid = {7};

class ClusterScene {
 public:
  struct Node {
    std::unique_ptr<Membership> core;  // null: down
    AcceptorState durable;
    Incarnation incarnation = 1;
    bool remembers = true;
    bool sees_witness = true;
    bool answers_fences = true;
    uint64_t life = 0;  // an event of an earlier life is lost
    int fences = 0;     // asked of it
  };

  ClusterScene(int count, QuorumMode mode, uint64_t seed = 1, Timers timers = {})
      : random_(seed), timers_(timers), nodes_(static_cast<size_t>(count)) {
    policy_.mode = mode;
    for (NodeId node = 0; node < count; ++node) policy_.configured.add(node);
    founded_ = found(count, mode);
    decided_[founded_.epoch] = {founded_, now_};
    witness_decided_ = founded_;
    for (auto& row : cut_) row.fill(false);
    for (NodeId node = 0; node < count; ++node) {
      nodes_[node].durable.decided = founded_;
      start(node);
    }
  }

  Node& node(NodeId id) { return nodes_[id]; }
  Membership& core(NodeId id) { return *nodes_[id].core; }
  io::Instant now() const { return now_; }
  VoterPolicy& policy() { return policy_; }
  base::SeededRandom& random() { return random_; }
  size_t size() const { return nodes_.size(); }

  void run(io::Duration time) {
    const io::Instant end = now_ + time;
    while (!events_.empty() && events_.begin()->first.first <= end) {
      auto event = events_.extract(events_.begin());
      now_ = event.key().first;
      event.mapped()();
      check();
    }
    now_ = end;
  }
  // False: it has not come to pass in time.
  bool run_until(const std::function<bool()>& condition, io::Duration limit) {
    const io::Instant end = now_ + limit;
    while (!condition()) {
      if (now_ >= end) return false;
      run(milliseconds(10));
    }
    return true;
  }

  // Everything that was not durable is lost.
  void crash(NodeId id) {
    nodes_[id].core.reset();
    ++nodes_[id].life;
  }
  // As a new life, unless only the daemon was restarted.
  void start(NodeId id, bool new_life = false) {
    Node& node = nodes_[id];
    if (node.core) crash(id);
    if (new_life) ++node.incarnation;
    const MembershipSettings settings{
        .self = id, .incarnation = node.incarnation, .timers = timers_, .policy = policy_};
    node.core = std::make_unique<Membership>(settings, node.durable, node.remembers, 0, random_, now_);
    node.core->set_volumes_ok(0xffff);
    tell_witness(id);
    tick(id, node.life);
  }
  void lose_state(NodeId id) {
    nodes_[id].durable = {};
    nodes_[id].remembers = false;
  }
  // What `from` sends to `to` is lost, on all networks.
  void cut(NodeId from, NodeId to, bool is_cut = true) { cut_[from][to] = is_cut; }
  void cut_both(NodeId a, NodeId b, bool is_cut = true) {
    cut(a, b, is_cut);
    cut(b, a, is_cut);
  }
  void heal() {
    for (auto& row : cut_) row.fill(false);
    loss_percent_ = 0;
    for (NodeId id = 0; id < nodes_.size(); ++id) see_witness(id, true);
  }
  void see_witness(NodeId id, bool sees) {
    nodes_[id].sees_witness = sees;
    tell_witness(id);
  }
  void lose_messages(uint64_t percent) { loss_percent_ = percent; }

  std::vector<NodeId> leased() const {
    std::vector<NodeId> out;
    for (NodeId id = 0; id < nodes_.size(); ++id) {
      if (nodes_[id].core && nodes_[id].core->lease_valid(now_)) out.push_back(id);
    }
    return out;
  }
  bool agree() const {
    Epoch newest = 0;
    for (const Node& node : nodes_) {
      if (node.core) newest = std::max(newest, node.core->decision().epoch);
    }
    return std::ranges::all_of(nodes_, [&](const Node& node) {
      return node.core && node.core->decision().epoch == newest;
    });
  }
  const std::string& breach() const { return breach_; }
  size_t epochs() const { return decided_.size(); }
  const Decision& newest() const { return decided_.rbegin()->second.value; }
  void handle(NodeId id, Effects effects) { take(id, std::move(effects)); }

 private:
  struct Decided {
    Decision value;
    io::Instant at;
  };

  Decision found(int count, QuorumMode mode) {
    Decision first{.epoch = Epoch{1} << kGenerationShift | 1};
    if (mode == QuorumMode::node_and_disk_majority) first.witness = kWitnessUuid;
    for (NodeId node = 0; node < count; ++node) first.incarnations[node] = 1;
    choose_voters(first, first, policy_, true);
    return first;
  }

  void after(io::Duration delay, std::function<void()> action) {
    events_.emplace(std::pair(now_ + delay, ++events_made_), std::move(action));
  }
  io::Duration short_time() { return std::chrono::microseconds(200 + random_.below(20'000)); }
  // Only if that life is still there.
  void at_node(NodeId id, io::Duration delay, std::function<void(Membership&)> action) {
    const uint64_t life = nodes_[id].life;
    after(delay, [this, id, life, action = std::move(action)] {
      if (nodes_[id].core && nodes_[id].life == life) action(*nodes_[id].core);
    });
  }

  void tick(NodeId id, uint64_t life) {
    if (!nodes_[id].core || nodes_[id].life != life) return;
    take(id, core(id).on_tick(now_));
    if (!nodes_[id].core || nodes_[id].life != life) return;
    after(core(id).tick_length(), [this, id, life] { tick(id, life); });
  }

  void tell_witness(NodeId id) {
    if (!nodes_[id].core) return;
    nodes_[id].core->use_witness(nodes_[id].sees_witness &&
                                         policy_.mode == QuorumMode::node_and_disk_majority
                                     ? std::optional(kWitnessUuid)
                                     : std::nullopt);
  }

  void send(NodeId from, NodeId to, std::function<void(Membership&)> deliver) {
    if (to >= nodes_.size() || cut_[from][to] || random_.below(100) < loss_percent_) return;
    if (nodes_[to].core == nullptr) return;
    at_node(to, short_time(), std::move(deliver));
  }

  void take(NodeId id, Effects effects) {
    Node& node = nodes_[id];
    if (effects.persist) node.durable = node.core->acceptor_state();
    if (effects.decided) note_decided(node.core->decision());
    for (const Envelope& envelope : effects.messages) {
      send(id, envelope.to, [this, id, to = envelope.to, body = envelope.body](Membership& core) {
        take(to, std::holds_alternative<Request>(body)
                     ? core.on_request(std::get<Request>(body), now_)
                     : core.on_reply(id, std::get<Reply>(body), now_));
      });
    }
    if (effects.heartbeat) {
      for (NodeId to = 0; to < nodes_.size(); ++to) {
        if (to == id) continue;
        for (size_t network = 0; network < kMaxNetworks; ++network) {
          send(id, to, [this, to, network, sent = *effects.heartbeat](Membership& core) {
            take(to, core.on_heartbeat(network, sent, now_));
          });
        }
      }
    }
    if (effects.witness) write_witness(id, *effects.witness, 0);
    if (effects.fence_devices) {
      ++node.fences;
      if (node.answers_fences) {
        at_node(id, 10 * short_time(), [epoch = effects.fence_devices->epoch](Membership& core) {
          core.on_devices_fenced(epoch, false);
        });
      }
    }
    if (effects.decided && !effects.evicted) {
      at_node(id, short_time(), [](Membership& core) { core.on_quiesced(core.decision().epoch); });
    }
    if (effects.evicted) {
      crash(id);
      after(milliseconds(500), [this, id] {
        if (!nodes_[id].core) start(id, true);
      });
    }
  }

  // One write after the other, each some time after the one before, then the reading.
  void write_witness(NodeId id, WitnessTask task, int step) {
    const uint64_t life = nodes_[id].life;
    after(short_time(), [this, id, life, step, task = std::move(task)]() mutable {
      if (nodes_[id].life != life || !nodes_[id].core) return;  // its old writes have been ended
      if (!nodes_[id].sees_witness) {
        at_node(id, timers_.disk_io_to,
                [this, id](Membership& core) { take(id, core.on_witness({.ok = false}, now_)); });
        return;
      }
      if (step == 0 && task.decided.epoch > witness_decided_.epoch) witness_decided_ = task.decided;
      if (step == 1) witness_heartbeats_[id] = task.heartbeat;
      if (step == 2 && task.store) witness_blocks_[id] = *task.store;
      if (step < 3) return write_witness(id, std::move(task), step + 1);
      WitnessResult result{.ok = true, .decided = witness_decided_};
      for (const auto& [node, heartbeat] : witness_heartbeats_) {
        result.heartbeats.push_back(heartbeat);
      }
      for (const auto& [node, block] : witness_blocks_) result.blocks.push_back({node, block});
      at_node(id, short_time(), [this, id, result = std::move(result)](Membership& core) {
        take(id, core.on_witness(result, now_));
      });
    });
  }

  void note_decided(const Decision& decision) {
    const auto [at, is_new] = decided_.try_emplace(decision.epoch, Decided{decision, now_});
    if (!is_new && at->second.value != decision) {
      breach_ = "two values for epoch " + std::to_string(count_of(decision.epoch));
    }
  }

  void check() {
    for (NodeId id = 0; id < nodes_.size(); ++id) {
      const Node& node = nodes_[id];
      if (!node.core || !node.core->is_member()) continue;
      for (auto each = decided_.upper_bound(node.core->decision().epoch); each != decided_.end();
           ++each) {
        const auto& [value, at] = each->second;
        if (value.forced || value.has_member(id, node.incarnation)) continue;
        const auto until = node.core->lease_until();
        const auto confirmed = node.core->confirmed_at();
        if (until && *until > at + timers_.lease) breach_ = "a lease beyond an eviction";
        if (confirmed && *confirmed > at) breach_ = "confirmed after an eviction";
      }
    }
  }

  base::SeededRandom random_;
  Timers timers_;
  VoterPolicy policy_;
  Decision founded_;
  std::vector<Node> nodes_;
  io::Instant now_{std::chrono::seconds(1000)};
  std::map<std::pair<io::Instant, uint64_t>, std::function<void()>> events_;
  uint64_t events_made_ = 0;
  std::array<std::array<bool, kMaxNodes>, kMaxNodes> cut_{};
  uint64_t loss_percent_ = 0;
  Decision witness_decided_;
  std::map<NodeId, Heartbeat> witness_heartbeats_;
  std::map<NodeId, BallotBlock> witness_blocks_;
  std::map<Epoch, Decided> decided_;
  std::string breach_;
};

}  // namespace holdfast::qdisk
