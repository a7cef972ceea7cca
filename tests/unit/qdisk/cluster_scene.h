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
inline constexpr Uuid kOtherWitness = {8};

class ClusterScene {
 public:
  struct Node {
    std::unique_ptr<Membership> core;  // null: down
    AcceptorState durable;
    Incarnation incarnation = 1;
    bool remembers = true;
    bool sees_witness = true;
    Uuid lun{};  // that it uses as witness
    bool answers_fences = true;
    bool stopped = false;  // of its own will
    uint64_t life = 0;     // an event of an earlier life is lost
    io::Instant paused_until{};
    int fences = 0;  // asked of it
  };

  ClusterScene(int count, QuorumMode mode, uint64_t seed = 1, Timers timers = {})
      : random_(seed), timers_(timers), nodes_(static_cast<size_t>(count)) {
    policy_.mode = mode;
    for (NodeId node = 0; node < count; ++node) policy_.configured.add(node);
    founded_ = found(count, mode);
    decided_[founded_.epoch] = {founded_, now_};
    luns_[kWitnessUuid].decided = founded_;
    luns_[kOtherWitness];
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
    if (new_life || node.stopped || !node.remembers) ++node.incarnation;
    node.stopped = false;
    const MembershipSettings settings{
        .self = id, .incarnation = node.incarnation, .timers = timers_, .policy = policy_};
    node.core =
        std::make_unique<Membership>(settings, node.durable, node.remembers, 0, random_, now_);
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
  // No heartbeat reaches it; everything else does.
  void deafen(NodeId id) { deaf_.add(id); }
  void cut_both(NodeId a, NodeId b, bool is_cut = true) {
    cut(a, b, is_cut);
    cut(b, a, is_cut);
  }
  void heal() {
    for (auto& row : cut_) row.fill(false);
    loss_percent_ = late_percent_ = 0;
    for (NodeId id = 0; id < nodes_.size(); ++id) see_witness(id, true);
  }
  void see_witness(NodeId id, bool sees) {
    nodes_[id].sees_witness = sees;
    tell_witness(id);
  }
  void lose_messages(uint64_t percent) { loss_percent_ = percent; }
  // So many of them come up to 20 s late.
  void delay_messages(uint64_t percent) { late_percent_ = percent; }
  // It does nothing for so long, and then everything that was to be done meanwhile.
  void pause(NodeId id, io::Duration time) { nodes_[id].paused_until = now_ + time; }
  void stop(NodeId id) {
    nodes_[id].stopped = true;
    nodes_[id].core->stop();
  }
  void force(NodeId id) { take(id, core(id).force(now_)); }
  void set_policy(const VoterPolicy& policy) {
    policy_ = policy;
    for (const Node& node : nodes_) {
      if (node.core) node.core->set_policy(policy);
    }
  }

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
  void read_decisions_first(bool first) { decisions_first_ = first; }
  size_t epochs() const { return decided_.size(); }
  const Decision& newest() const { return decided_.rbegin()->second.value; }
  void handle(NodeId id, Effects effects) { take(id, std::move(effects)); }

 private:
  struct Decided {
    Decision value;
    io::Instant at;
  };
  struct Lun {
    Decision decided;
    std::map<NodeId, Heartbeat> heartbeats;
    std::map<NodeId, BallotBlock> blocks;
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
  // Only if that life is still there; what comes over a network comes to the next one, too.
  void at_node(NodeId id, io::Duration delay, std::function<void(Membership&)> action) {
    at_life(id, nodes_[id].life, delay, std::move(action));
  }
  void at_life(NodeId id, std::optional<uint64_t> life, io::Duration delay,
               std::function<void(Membership&)> action) {
    after(delay, [this, id, life, action = std::move(action)]() mutable {
      const Node& node = nodes_[id];
      if (!node.core || (life && node.life != *life)) return;
      if (now_ < node.paused_until) {
        return at_life(id, life, node.paused_until - now_, std::move(action));
      }
      action(*node.core);
    });
  }

  void tick(NodeId id, uint64_t life) {
    take(id, core(id).on_tick(now_));
    if (!nodes_[id].core || nodes_[id].life != life) return;
    at_node(id, core(id).tick_length(), [this, id, life](Membership&) { tick(id, life); });
  }

  // A node uses the LUN that it knows to be the witness.
  void tell_witness(NodeId id) {
    Node& node = nodes_[id];
    if (!node.core) return;
    const Uuid lun = node.core->decision().witness;
    const bool uses = node.sees_witness && luns_.contains(lun);
    node.core->use_witness(uses ? std::optional(lun) : std::nullopt);
    node.lun = lun;
  }

  void send(NodeId from, NodeId to, std::function<void(Membership&)> deliver) {
    if (to >= nodes_.size() || cut_[from][to] || random_.below(100) < loss_percent_) return;
    if (nodes_[to].core == nullptr) return;
    const bool late = late_percent_ != 0 && random_.below(100) < late_percent_;
    const io::Duration delay = late ? milliseconds(random_.below(20'000)) : short_time();
    at_life(to, std::nullopt, delay, std::move(deliver));
  }

  void take(NodeId id, Effects effects) {
    Node& node = nodes_[id];
    if (effects.persist) {
      node.durable = node.core->acceptor_state();
      node.remembers = node.core->remembers();
    }
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
        if (to == id || deaf_.has(to)) continue;
        for (size_t network = 0; network < kMaxNetworks; ++network) {
          send(id, to, [this, to, network, sent = *effects.heartbeat](Membership& core) {
            take(to, core.on_heartbeat(network, sent, now_));
          });
        }
      }
    }
    if (effects.witness) write_witness(id, node.lun, *effects.witness, 0);
    if (effects.fence_devices) {
      ++node.fences;
      if (node.answers_fences) {
        at_node(id, 10 * short_time(), [epoch = effects.fence_devices->epoch](Membership& core) {
          core.on_devices_fenced(epoch, false);
        });
      }
    }
    if (effects.decided && !effects.evicted) {
      at_node(id, short_time(), [this, id](Membership& core) {
        core.on_quiesced(core.decision().epoch);
        tell_witness(id);
      });
    }
    if (effects.evicted) {
      crash(id);
      after(milliseconds(500), [this, id] {
        if (!nodes_[id].core) start(id, true);
      });
    }
  }

  // One write after the other, each some time after the one before, then the readings.
  void write_witness(NodeId id, Uuid uuid, WitnessTask task, int step) {
    const uint64_t life = nodes_[id].life;
    after(short_time(), [this, id, uuid, life, step, task = std::move(task)]() mutable {
      if (nodes_[id].life != life || !nodes_[id].core) return;  // its old writes have been ended
      if (!nodes_[id].sees_witness) {
        at_node(id, timers_.disk_io_to,
                [this, id](Membership& core) { take(id, core.on_witness({.ok = false}, now_)); });
        return;
      }
      Lun& lun = luns_[uuid];
      if (step == 0 && task.decided.epoch > lun.decided.epoch) lun.decided = task.decided;
      if (step == 1) lun.heartbeats[id] = task.heartbeat;
      if (step == 2 && task.store) lun.blocks[id] = *task.store;
      if (step < 2) return write_witness(id, uuid, std::move(task), step + 1);
      read_witness(id, uuid, {.ok = true}, 0);
    });
  }

  // The blocks first, or the decisions: between the two readings others may write.
  void read_witness(NodeId id, Uuid uuid, WitnessResult result, int step) {
    const bool blocks = (step == 0) != decisions_first_;
    const Lun& lun = luns_[uuid];
    if (blocks) {
      for (const auto& [node, block] : lun.blocks) result.blocks.push_back({node, block});
    } else {
      for (const auto& [node, heartbeat] : lun.heartbeats) result.heartbeats.push_back(heartbeat);
      result.decided = lun.decided;
    }
    at_node(id, short_time(), [=, this](Membership& core) {
      if (step == 0) return read_witness(id, uuid, result, 1);
      take(id, core.on_witness(result, now_));
    });
  }

  void note_decided(const Decision& decision) {
    const auto [at, is_new] = decided_.try_emplace(decision.epoch, Decided{decision, now_});
    if (!is_new && at->second.value != decision) {
      breach_ = "two values for epoch " + std::to_string(count_of(decision.epoch));
    }
  }

  // Leases of a generation do not know of the next, which was forced.
  void check() {
    for (NodeId id = 0; id < nodes_.size(); ++id) {
      const Node& node = nodes_[id];
      if (!node.core || !node.core->is_member()) continue;
      for (auto each = decided_.upper_bound(node.core->decision().epoch); each != decided_.end();
           ++each) {
        const auto& [value, at] = each->second;
        if (value.epoch >> kForcedByShift != node.core->decision().epoch >> kForcedByShift) break;
        if (value.has_member(id, node.incarnation)) continue;
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
  NodeSet deaf_;
  uint64_t loss_percent_ = 0;
  uint64_t late_percent_ = 0;
  bool decisions_first_ = false;
  std::map<Uuid, Lun> luns_;
  std::map<Epoch, Decided> decided_;
  std::string breach_;
};

}  // namespace holdfast::qdisk
