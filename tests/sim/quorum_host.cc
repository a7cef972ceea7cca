#include "tests/sim/quorum_host.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "qdisk/reservation_key.h"

namespace holdfast::sim {

using namespace std::chrono_literals;
using qdisk::Decision;
using qdisk::NodeId;
using qdisk::Token;

// --- what runs on a host ---

class HostStack final : public qdisk::NodeListener,
                        public qdisk::Transport,
                        public qdisk::StateStore {
 public:
  HostStack(QuorumHost& host, SimLoop& loop)
      : host_(host),
        cluster_(host.cluster_),
        loop_(loop),
        witness_(cluster_.witness, loop, nexus(0), lun_sabotage()),
        volume_(cluster_.volume, loop, nexus(1), lun_sabotage()),
        data_(cluster_.volume, loop, nexus(2), lun_sabotage()),
        random_(cluster_.world.fork_random()) {}

  void start() {
    const qdisk::NodeOptions options{.membership = {.self = host_.id_,
                                                    .incarnation = host_.incarnation_,
                                                    .timers = cluster_.timers,
                                                    .policy = cluster_.policy,
                                                    .reservation_key = key()},
                                     .cluster = cluster_.uuid,
                                     .record = host_.stored_,
                                     .fence_hold = 7s,
                                     .after_eviction = host_.stored_.ended,
                                     .earlier_life = host_.incarnation_ > 1 && host_.new_life_};
    node_ = qdisk::Node::create({loop_, random_, *this, *this, *this}, options,
                                {{.name = "witness", .device = &witness_, .volume = {}},
                                 {.name = "volume", .device = &volume_, .volume = 0}})
                .value();
    known_ = host_.stored_.acceptor.decided;
    node_->start();
    loop_.start(timer_, 1ms);
  }

  // --- Transport ---
  void set_receiver(Receiver* receiver) override { receiver_ = receiver; }
  void broadcast(const qdisk::Heartbeat& heartbeat) override {
    for (NodeId to = 0; to < QuorumNet::kHosts; ++to) {
      for (size_t network = 0; network < qdisk::kMaxNetworks; ++network) {
        carry(network, to, [network, heartbeat](Receiver& receiver) {
          receiver.on_heartbeat(network, heartbeat);
        });
      }
    }
  }
  void send(NodeId to, const qdisk::Request& request) override {
    carry_any(to, [request](Receiver& receiver) { receiver.on_request(request); });
  }
  void send(NodeId to, const qdisk::Reply& reply) override {
    carry_any(to, [this, from = host_.id_, to, reply](Receiver& receiver) {
      qdisk::Reply late = reply;
      HostStack* stack = cluster_.net.hosts[to]->stack_.get();
      if (cluster_.sabotage.late_lease && stack != nullptr) late.sent_at = stack->loop_.now();
      receiver.on_reply(from, late);
    });
  }

  // --- StateStore ---
  void save(const qdisk::NodeRecord& record, Done done) override {
    auto shared = std::make_shared<Done>(std::move(done));
    cluster_.world.after(cluster_.world.between(100us, 10ms), [this, record, shared] {
      if (!loop_.alive()) {
        // It may have become durable just before the end.
        if (cluster_.world.chance(500'000)) host_.stored_ = record;
        return SimProcess::bury(shared);
      }
      host_.stored_ = record;
      loop_.post([shared]() noexcept { (*shared)({}); });
    });
  }

  // --- NodeListener ---
  void on_decision(const Decision& decision) override {
    known_ = decision;
    cluster_.judge.decided(decision);
    cluster_.world.trace("node {}: epoch {} members {:x}", host_.id_,
                         qdisk::count_of(decision.epoch), decision.members().bits());
    if (decision.volumes[0].coordinator != host_.id_) last_token_ = {};
    // A coordinator that hands over has ended it before.
    if (decision.volumes[0].coordinator != host_.id_ && !cluster_.kills_hang) host_.end_vm();
    node_->quiesced(decision.epoch);
  }
  void on_evicted() override {
    cluster_.world.trace("node {}: evicted", host_.id_);
    evicted_ = true;
    // Then the watchdog, which nobody pets any more, ends it.
    if (cluster_.kills_hang && host_.vm_runs_) return;
    host_.end_vm();
    // In this turn the node is still in use.
    cluster_.world.after(500ms, [host = &host_, self = this] {
      if (host->stack_.get() == self) {
        host->kill();
        host->start(true);
      }
    });
  }

  bool node_ready() const { return node_ != nullptr; }
  qdisk::Node& node() { return *node_; }
  const qdisk::Node& node() const { return *node_; }
  SharedLunDevice& witness() { return witness_; }
  SharedLunDevice& volume() { return volume_; }
  SharedLunDevice& data() { return data_; }
  bool evicted() const { return evicted_; }
  const Decision& known() const { return known_; }
  Duration last_write() const { return last_write_; }
  // What cannot be ended is not handed over.
  void hand_over(NodeId to) {
    if (cluster_.kills_hang && host_.vm_runs_) return;
    handing_to_ = to;
    host_.end_vm();
  }

 private:
  // Of this life, and one daemon each.
  uint64_t nexus(uint64_t role) const {
    return uint64_t{host_.id_} << 40 | uint64_t{host_.incarnation_} << 8 | role;
  }
  uint64_t key() const {
    return qdisk::reservation_key(cluster_.uuid, {host_.id_, host_.incarnation_});
  }

  LunSabotage lun_sabotage() const {
    LunSabotage sabotage = cluster_.sabotage.lun;
    if (!cluster_.sabotage.spare_own_lives) return sabotage;
    sabotage.hidden = [cluster = cluster_.uuid,
                       self = qdisk::Life{host_.id_, host_.incarnation_}](uint64_t key) {
      const auto life = qdisk::life_of(key, cluster);
      return life && life->node == self.node && life->incarnation < self.incarnation;
    };
    return sabotage;
  }

  void carry(size_t network, NodeId to, std::function<void(Receiver&)> deliver) {
    QuorumNet& net = cluster_.net;
    SimWorld& world = cluster_.world;
    if (to == host_.id_ || net.hosts[to] == nullptr || net.cut[network][host_.id_][to]) return;
    if (world.chance(net.loss_per_million)) return;
    const int copies = world.chance(net.double_per_million) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      const Duration most = world.chance(net.slow_per_million) ? net.slow_max : net.delay_max;
      world.after(world.between(50us, most), [this, to, deliver] {
        HostStack* stack = cluster_.net.hosts[to]->stack_.get();
        if (stack == nullptr) return;
        stack->loop_.post([stack, deliver]() noexcept {
          if (stack->receiver_ != nullptr) deliver(*stack->receiver_);
        });
      });
    }
  }
  // The first network that is up, as a connection would find it.
  void carry_any(NodeId to, std::function<void(Receiver&)> deliver) {
    for (size_t network = 0; network < qdisk::kMaxNetworks; ++network) {
      if (cluster_.net.cut[network][host_.id_][to]) continue;
      return carry(network, to, std::move(deliver));
    }
  }

  void on_timer() noexcept {
    loop_.start(timer_, 20ms);
    if (evicted_) return write();
    const bool lease = node_->lease_valid();
    tell_lease();
    const bool ample = node_->membership().lease_ample(loop_.now());
    if (ample || cluster_.sabotage.pet_blindly) host_.watchdog_petted();
    if (!lease && !cluster_.kills_hang) host_.end_vm();
    preempt_early();
    tend_data();
    write();
    tend_vm();
  }

  void preempt_early() {
    if (!cluster_.sabotage.early_preempt || preempting_ || !node_->lease_valid()) return;
    const auto& membership = node_->membership();
    const Decision& decision = membership.decision();
    for (const NodeId node : decision.members() - qdisk::NodeSet::of(host_.id_)) {
      const bool is_heard = membership.view().of(node, loop_.now()) != nullptr;
      if (is_heard) heard_.add(node);
      if (is_heard || !heard_.has(node)) continue;
      preempting_ = true;
      volume_.preempt_and_abort(
          qdisk::reservation_key(cluster_.uuid, {node, decision.incarnations[node]}),
          io::ReservationType::write_exclusive_registrants_only,
          [this](base::Result<>) noexcept { preempting_ = false; });
      return;
    }
  }

  void tell_lease() {
    const auto& membership = node_->membership();
    if (!membership.is_member()) return;
    const auto world_time = [this](std::optional<io::Instant> local) {
      return local ? std::optional(loop_.process().to_world(*local)) : std::nullopt;
    };
    cluster_.judge.leased({host_.id_, host_.incarnation_}, membership.decision().epoch,
                          world_time(membership.lease_until()),
                          world_time(membership.confirmed_at()), cluster_.timers.lease);
  }

  // The data path registers with the node's key, and again after a loss only when a majority has
  // said since then that this life is a member.
  void tend_data() {
    if (registering_ || evicted_ || (registered_ && !lost_)) return;
    const auto confirmed = node_->membership().confirmed_at();
    if (lost_ && !cluster_.sabotage.skip_verification && (!confirmed || *confirmed <= lost_at_)) {
      return;
    }
    registering_ = true;
    data_.use_key(key(), [this](base::Result<> result) noexcept {
      registering_ = false;
      if (!result) return;
      registered_ = true;
      lost_ = false;
      registered_at_ = loop_.now();
    });
  }

  bool verified() const {
    if (cluster_.sabotage.skip_verification) return registered_;
    const auto confirmed = node_->membership().confirmed_at();
    return registered_ && !lost_ && confirmed && *confirmed >= registered_at_;
  }

  // A virtual machine that cannot be ended goes on writing: until the watchdog, only the fence
  // keeps it off the volume.
  bool hangs() const {
    return cluster_.kills_hang && host_.vm_runs_ && registered_ && !lost_ && last_token_.term != 0;
  }

  bool has_right() {
    const auto token = node_->token(0).value_or(Token{});
    if (token.term == 0 || !verified()) return false;
    last_token_ = token;
    cluster_.judge.opened(token);
    return true;
  }

  void write() {
    if (request_.busy()) return;
    if (handing_to_) {
      const qdisk::Change change{
          .kind = qdisk::Change::Kind::move_volume, .coordinator = *handing_to_, .from = host_.id_};
      // A daemon that was restarted has ended what the one before wrote once its session is there.
      if (!node_->token(0) || !registered_) {
        handing_to_.reset();
      } else if (!node_->membership().asked()) {
        if (!node_->ask(change)) handing_to_.reset();
      }
      return;
    }
    if (!has_right() && !hangs()) return;
    std::memset(block_.data(), 0, block_.size());
    std::memcpy(block_.data(), &last_token_, sizeof(Token));
    part_ = {.iov_base = block_.data(), .iov_len = block_.size()};
    request_.kind = io::BlockRequest::Kind::write;
    request_.offset = 4096;
    request_.length = block_.size();
    request_.data = {&part_, 1};
    request_.timeout = 20s;
    data_.submit(request_);
  }
  void on_written(int32_t result) noexcept {
    if (result >= 0) last_write_ = cluster_.world.now();
    if (result != -EBADE) return;
    lost_ = true;
    lost_at_ = loop_.now();
  }

  void tend_vm() {
    const auto token = node_->token(0);
    const auto& membership = node_->membership();
    if (host_.vm_runs_ || !token || handing_to_ || !verified()) return;
    if (!membership.lease_ample(loop_.now())) return;
    const io::Instant stopped =
        cluster_.sabotage.sighting ? io::Instant{} : membership.evicted_stopped_at();
    if (loop_.now() < stopped) return;
    host_.vm_runs_ = true;
    cluster_.judge.vm_started(host_.id_);
  }

  QuorumHost& host_;
  QuorumCluster& cluster_;
  SimLoop& loop_;
  SharedLunDevice witness_, volume_, data_;
  base::SeededRandom random_;
  std::unique_ptr<qdisk::Node> node_;
  Receiver* receiver_ = nullptr;
  bool evicted_ = false;
  bool registering_ = false, registered_ = false, lost_ = false;
  io::Instant registered_at_{}, lost_at_{};
  Duration last_write_{0};
  std::optional<NodeId> handing_to_;
  Token last_token_{};  // of the last write by right; term 0: none
  qdisk::NodeSet heard_;
  bool preempting_ = false;
  Decision known_;
  std::array<uint8_t, 512> block_{};
  iovec part_{};
  io::BlockRequestOf<HostStack, &HostStack::on_written> request_{*this};
  io::TimerOf<HostStack, &HostStack::on_timer> timer_{*this};
};

// --- the host ---

QuorumHost::QuorumHost(QuorumCluster& cluster, NodeId id) : cluster_(cluster), id_(id) {
  stored_.acceptor.decided = cluster.founded;
  stored_.remembers = true;
  cluster.net.hosts[id] = this;
  clock_ppm_ = static_cast<int64_t>(cluster.world.random().below(801)) - 400;
  start(true);
}

// Nothing runs its destructor: the simulation ends in the middle of everything.
QuorumHost::~QuorumHost() {
  if (stack_ != nullptr) kill();
}

void QuorumHost::start(bool new_life) {
  if (up()) kill();
  if (new_life) ++incarnation_;
  new_life_ = new_life;
  const SimProcess* earlier = std::exchange(
      process_, &cluster_.world.make_process(fmt::format("node {} life {}", id_, incarnation_)));
  if (!new_life && earlier != nullptr) process_->continue_clock_of(*earlier);
  process_->set_clock_ppm(clock_ppm_);
  SimLoop& loop = process_->make_loop();
  stack_ = std::make_shared<HostStack>(*this, loop);
  cluster_.world.trace("node {}: life {} begins", id_, incarnation_);
  cut_witness(witness_cut_);
  cut_volume(volume_cut_);
  loop.post([stack = stack_.get()]() noexcept { stack->start(); });
}

void QuorumHost::kill() {
  cluster_.world.trace("node {}: ends", id_);
  end_vm();
  ++pets_;
  process_->kill();
  SimProcess::bury(std::exchange(stack_, nullptr));
}

// Its keys stay: without its holder's key the reservation would be gone.
void QuorumHost::shut_down() {
  if (cluster_.sabotage.give_back) {
    if (!witness_cut_) stack_->witness().unregister();
    if (!volume_cut_) stack_->volume().unregister();
    if (!volume_cut_) stack_->data().unregister();
  }
  kill();
}

qdisk::Life QuorumHost::life_of_nexus(uint64_t nexus) {
  return {static_cast<NodeId>(nexus >> 40), static_cast<qdisk::Incarnation>(nexus >> 8)};
}

void QuorumHost::lose_state() { stored_ = {}; }

void QuorumHost::pause(Duration time) {
  if (!up()) return;
  cluster_.world.trace("node {}: stopped for a while", id_);
  process_->pause();
  cluster_.world.after(time, [process = process_] {
    if (process->alive()) process->resume();
  });
}

void QuorumHost::cut_witness(bool cut) {
  witness_cut_ = cut;
  if (up()) stack_->witness().cut(cut);
}

void QuorumHost::cut_volume(bool cut) {
  volume_cut_ = cut;
  if (!up()) return;
  stack_->volume().cut(cut);
  stack_->data().cut(cut);
}

void QuorumHost::hand_over(NodeId to) {
  if (up() && stack_->node_ready() && !stack_->evicted() && to != id_) stack_->hand_over(to);
}

void QuorumHost::end_vm() {
  if (!std::exchange(vm_runs_, false)) return;
  cluster_.judge.vm_ended(id_);
}

// It fires D after its last pet by its own clock: the host is reset, whatever its processes do.
void QuorumHost::watchdog_petted() {
  const uint64_t pet = ++pets_;
  cluster_.world.after(cluster_.timers.watchdog, [this, pet] {
    if (pet != pets_ || !up()) return;
    cluster_.world.trace("node {}: its watchdog fires", id_);
    kill();
    cluster_.world.after(cluster_.world.between(1s, 5s), [this] {
      if (!up()) start(true);
    });
  });
}

const qdisk::Node* QuorumHost::node() const {
  return up() && stack_->node_ready() ? &stack_->node() : nullptr;
}

const Decision& QuorumHost::known() const {
  return up() ? stack_->known() : stored_.acceptor.decided;
}

bool QuorumHost::settled() const {
  const qdisk::Node* found = node();
  return found != nullptr && !stack_->evicted() && found->lease_valid();
}

bool QuorumHost::works() const {
  return settled() && node()->token(0) && vm_runs_ && stack_->last_write() > 0s &&
         cluster_.world.now() - stack_->last_write() < 1s;
}

std::string QuorumHost::describe() const {
  const qdisk::Node* found = node();
  if (found == nullptr) return fmt::format("node {} is down", id_);
  const auto& membership = found->membership();
  const Decision& decision = membership.decision();
  return fmt::format(
      "node {} life {} epoch {} members {:x} voters {:x}{} member {} lease {} fenced {} "
      "coordinator {} remembers {} vm {}",
      id_, incarnation_, qdisk::count_of(decision.epoch), decision.members().bits(),
      decision.voters.bits(), decision.witness_votes ? "+W" : "", membership.is_member(),
      found->lease_valid(), qdisk::count_of(membership.fenced()), decision.volumes[0].coordinator,
      stored_.remembers, vm_runs_);
}

}  // namespace holdfast::sim
