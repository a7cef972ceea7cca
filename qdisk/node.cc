#include "qdisk/node.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

namespace {

// What failed at a device is tried again so often.
constexpr io::Duration kRetry = std::chrono::seconds(1);
// Whether a device has forgotten our key or the reservation.
constexpr io::Duration kCheck = std::chrono::seconds(5);
// Effects that wait for the local disk: some seconds' worth.
constexpr size_t kMaxWaiting = 1024;

}  // namespace

base::Result<std::unique_ptr<Node>> Node::create(const NodeServices& services,
                                                 const NodeOptions& options,
                                                 const std::vector<GuardedDevice>& devices) {
  auto node = std::unique_ptr<Node>(new Node(services, options));
  const MembershipSettings& settings = options.membership;
  for (const GuardedDevice& device : devices) {
    auto guarded = std::make_unique<Guarded>(Guarded{.what = device});
    guarded->guard = std::make_unique<DeviceGuard>(
        services.loop, *device.device,
        DeviceGuard::Settings{.name = guarded->what.name.c_str(),
                              .cluster = options.cluster,
                              .self = {settings.self, settings.incarnation},
                              .hold = options.fence_hold,
                              .takeover = settings.timers.takeover});
    guarded->guard->set_members(options.record.acceptor.decided);
    if (!device.volume) {
      TRY_ASSIGN(node->witness_, Witness::create(services.loop, *device.device, settings.self,
                                                 settings.timers.disk_io_to));
      node->witness_device_ = guarded.get();
    }
    node->devices_.push_back(std::move(guarded));
  }
  return node;
}

Node::Node(const NodeServices& services, const NodeOptions& options)
    : services_(services),
      options_(options),
      membership_(options.membership, options.record.acceptor, options.record.remembers,
                  options.record.fenced, services.random, services.loop.now()),
      created_at_(services.loop.now()) {}

Node::~Node() {
  services_.transport.set_receiver(nullptr);
  services_.loop.stop(timer_);
}

void Node::start() {
  services_.transport.set_receiver(this);
  services_.loop.start(timer_, io::Duration::zero());
}

std::optional<Token> Node::token(size_t volume) const {
  return membership_.token(volume, services_.loop.now());
}

std::vector<GuardStatus> Node::devices() const {
  std::vector<GuardStatus> out;
  for (const auto& guarded : devices_) {
    const bool reached = guarded->what.volume ? (volumes_ok_ >> *guarded->what.volume & 1) != 0
                                              : membership_.reaches_witness(services_.loop.now());
    out.push_back({.device = guarded->what,
                   .usable = guarded->claimed && reached,
                   .without_reservations = guarded->guard->without_reservations(),
                   .problem = guarded->problem});
  }
  return out;
}

void Node::quiesced(Epoch epoch) { membership_.on_quiesced(epoch); }

// Durable before anybody hears of it: the effects that tell wait for it.
void Node::leave() {
  left_ = true;
  membership_.stop();
  take({.persist = true});
}

void Node::force() { take(membership_.force(services_.loop.now())); }

// --- events ---

void Node::on_heartbeat(size_t network, const Heartbeat& heartbeat) {
  take(membership_.on_heartbeat(network, heartbeat, services_.loop.now()));
}

void Node::on_request(const Request& request) {
  take(membership_.on_request(request, services_.loop.now()));
}

void Node::on_reply(NodeId from, const Reply& reply) {
  take(membership_.on_reply(from, reply, services_.loop.now()));
}

void Node::on_tick() noexcept {
  if (closing_) return look_whether_closed();
  services_.loop.start(timer_, membership_.tick_length());
  for (const auto& guarded : devices_) tend(*guarded);
  open_witness();
  take(membership_.on_tick(services_.loop.now()));
}

// --- effects ---

void Node::take(Effects effects) {
  if (closing_) return;
  if (waiting_.size() < saved_ + kMaxWaiting) {
    waiting_.push_back(std::move(effects));
  } else {
    merge(effects, waiting_.back());
  }
  save_next();
}

// Messages that could not leave are lost, as on a network; what concerns this node itself is kept.
void Node::merge(Effects& from, Effects& into) {
  into.messages.clear();
  into.heartbeat.reset();
  into.persist |= from.persist;
  into.decided |= from.decided;
  into.evicted |= from.evicted;
  if (from.fence_devices) into.fence_devices = std::move(from.fence_devices);
  for (auto* task : {&into.witness, &from.witness}) {
    if (!*task) continue;
    task->reset();
    membership_.on_witness({}, services_.loop.now());  // it failed: that has no effects
  }
}

// In their order, each after the state that it depends on is durable. While a save is under way the
// next events come: their effects wait, and are saved in one.
void Node::save_next() {
  while (!saving_ && !waiting_.empty()) {
    if (std::ranges::any_of(waiting_, &Effects::persist)) return save();
    Effects effects = std::move(waiting_.front());
    waiting_.pop_front();
    carry_out(effects);
  }
}

void Node::save() {
  saving_ = true;
  saved_ = waiting_.size();
  const NodeRecord record{.acceptor = membership_.acceptor_state(),
                          .remembers = membership_.remembers(),
                          .fenced = membership_.fenced(),
                          .incarnation = options_.membership.incarnation,
                          .ended = membership_.evicted() || left_};
  services_.store.save(record, [this](base::Result<> result) noexcept { on_saved(result); });
}

// Nothing leaves before it has succeeded, which is tried again with the next event. The lease runs
// out if that goes on.
void Node::on_saved(base::Result<> result) {
  saving_ = false;
  const size_t saved = std::exchange(saved_, 0);
  save_problem_ = result ? "" : result.error().what;
  if (result) {
    for (size_t i = 0; i < saved; ++i) waiting_[i].persist = false;
  } else {
    LOG_LIMITED(error, "qdisk", "the state cannot be saved: {}", result.error().what);
    while (waiting_.size() > 1) {
      merge(waiting_[0], waiting_[1]);
      waiting_.pop_front();
    }
  }
  if (closing_) return look_whether_closed();
  if (result) save_next();
}

void Node::carry_out(Effects& effects) {
  for (const Envelope& envelope : effects.messages) {
    std::visit([&](const auto& body) { services_.transport.send(envelope.to, body); },
               envelope.body);
  }
  if (effects.heartbeat) services_.transport.broadcast(*effects.heartbeat);
  if (effects.witness) run_witness(*effects.witness);
  if (effects.fence_devices) {
    for (const auto& guarded : devices_) {
      guarded->order = effects.fence_devices;
      guarded->next_look = {};  // at once, not when the next look at the device is due
    }
    look_at_proofs();
  }
  if (effects.evicted) {
    LOG_WARNING("qdisk", "this node was evicted: epoch={}", count_of(membership_.decision().epoch));
    return services_.listener.on_evicted();
  }
  if (!effects.decided) return;
  for (const auto& guarded : devices_) guarded->guard->set_members(membership_.decision());
  services_.listener.on_decision(membership_.decision());
}

// --- the witness ---

size_t Node::witness_slots() const {
  const NodeSet known = options_.membership.policy.configured | membership_.decision().members() |
                        membership_.decision().voters | NodeSet::of(options_.membership.self);
  return static_cast<size_t>(64 - std::countl_zero(known.bits()));
}

void Node::run_witness(const WitnessTask& task) {
  if (witness_ == nullptr || !witness_open_ || witness_->busy()) {
    membership_.on_witness({}, services_.loop.now());  // it failed: that has no effects
    return;
  }
  witness_->run(task, witness_slots(), [this](WitnessResult result) noexcept {
    if (witness_->fenced()) {
      note_failure(*witness_device_,
                   {base::Errc::permission, 0, "writes to the witness are refused"});
    }
    take(membership_.on_witness(result, services_.loop.now()));
  });
}

// A write of an earlier life to its ballot block would undo a promise of this one. The key of that
// life may be gone although its writes are not: whoever removed it still waits for them.
bool Node::earlier_life_ended() const {
  const io::Instant now = services_.loop.now();
  if (!options_.earlier_life || witness_device_->guard->ended_earlier_life()) return true;
  if (now - created_at_ >= options_.fence_hold) return true;
  const Decision& decision = membership_.decision();
  const NodeId self = options_.membership.self;
  const Incarnation known = decision.incarnations[self];
  if (known != 0 && known != options_.membership.incarnation) return false;
  for (const NodeId node : decision.members() - NodeSet::of(self)) {
    const Heartbeat* of = membership_.view().of(node, now);
    if (of == nullptr || of->state != NodeState::member) continue;
    if (of->fenced >= decision.epoch) return true;
  }
  return false;
}

// It is used once it is the LUN that the cluster means, and this life is registered there, which
// has ended whatever an earlier life had under way.
void Node::open_witness() {
  if (witness_ == nullptr || witness_open_ || witness_->busy() || !witness_device_->claimed) return;
  const io::Instant now = services_.loop.now();
  if (now < next_open_) return;
  if (!earlier_life_ended()) {
    witness_device_->problem = "what an earlier life of this node wrote there is given time to end";
    return;
  }
  next_open_ = now + kRetry;
  witness_->open([this](base::Result<Superblock> superblock) noexcept {
    if (!superblock) return refuse_witness(superblock.error().what);
    if (superblock->cluster != options_.cluster) {
      return refuse_witness("it belongs to another cluster, " + superblock->cluster_name);
    }
    if (superblock->timers != options_.membership.timers) {
      return refuse_witness("it has other times than this node's configuration");
    }
    witness_open_ = true;
    witness_device_->problem.clear();
    superblock_ = *superblock;
    membership_.use_witness(superblock->witness);
  });
}

void Node::refuse_witness(std::string problem) {
  LOG_LIMITED(error, "qdisk", "the witness is not used: {}", problem);
  witness_device_->problem = std::move(problem);
}

// --- devices ---

// A member whose key is gone was fenced, or the target has forgotten it: only what a majority says
// after the loss tells which. At the witness it does no harm, and may be what the majority needs.
bool Node::may_claim(const Guarded& guarded) const {
  if (membership_.evicted() || leaves_it_to_the_members()) return false;
  if (!guarded.what.volume || !membership_.is_member()) return true;
  const auto confirmed = membership_.confirmed_at();
  return guarded.lost_at == io::Instant{} || (confirmed && *confirmed > guarded.lost_at);
}

// What an earlier life of this node has under way is for the members to end: a key that they have
// removed themselves is proof at once; one that has gone before is none, and they have to wait for
// what this node knows to have ended.
bool Node::leaves_it_to_the_members() const {
  const io::Instant now = services_.loop.now();
  if (membership_.is_member() || now - created_at_ >= options_.fence_hold) return false;
  const Decision& decision = membership_.decision();
  const bool left_out = decision.incarnations[options_.membership.self] == 0;
  bool heard = false;
  for (const NodeId node : decision.members() - NodeSet::of(options_.membership.self)) {
    const Heartbeat* of = membership_.view().of(node, now);
    if (of == nullptr || of->state != NodeState::member) continue;
    if (left_out && of->fenced >= decision.epoch) return false;
    heard = true;
  }
  return heard || options_.after_eviction;
}

void Node::tend(Guarded& guarded) {
  if (guarded.guard->busy() || membership_.evicted()) return;
  const io::Instant now = services_.loop.now();
  if (guarded.order && guarded.claimed) return fence(guarded);
  if (now < guarded.next_look) return;
  if (!guarded.claimed) {
    if (may_claim(guarded)) claim(guarded);
    return;
  }
  guarded.next_look = now + kCheck;
  guarded.guard->check([this, &guarded](base::Result<> result) noexcept {
    if (result) {
      if (guarded.what.volume || witness_open_) guarded.problem.clear();
    } else {
      note_failure(guarded, result.error());
    }
    set_reached(guarded, result.has_value());
  });
}

// Errc::permission: our key or the reservation is gone.
void Node::note_failure(Guarded& guarded, const base::Error& error) {
  LOG_LIMITED(warning, "qdisk", "device={}: {}", guarded.what.name, error.what);
  guarded.problem = error.what;
  if (error.code != base::Errc::permission || !guarded.claimed) return;
  guarded.claimed = false;
  guarded.lost_at = services_.loop.now();
  guarded.next_look = {};
}

void Node::set_reached(Guarded& guarded, bool reached) {
  if (!guarded.what.volume) return;
  const auto bit = static_cast<uint16_t>(1U << *guarded.what.volume);
  volumes_ok_ = static_cast<uint16_t>(reached ? volumes_ok_ | bit : volumes_ok_ & ~bit);
  membership_.set_volumes_ok(volumes_ok_);
}

void Node::claim(Guarded& guarded) {
  guarded.next_look = services_.loop.now() + kRetry;
  guarded.guard->claim([this, &guarded](base::Result<> result) noexcept {
    guarded.claimed = result.has_value();
    set_reached(guarded, result.has_value());
    if (!result) return note_failure(guarded, result.error());
    guarded.problem.clear();
    guarded.next_look = services_.loop.now() + kCheck;
  });
}

void Node::fence(Guarded& guarded) {
  const FenceOrder order = *guarded.order;
  if (order.epoch != membership_.decision().epoch || guarded.proved == order.epoch) {
    guarded.order.reset();
    return;
  }
  if (services_.loop.now() < guarded.next_look) return;
  guarded.next_look = services_.loop.now() + kRetry;
  auto fenced = [this, &guarded, epoch = order.epoch](base::Result<FenceProof> proof) noexcept {
    set_reached(guarded, proof.has_value());
    if (!proof) return note_failure(guarded, proof.error());
    guarded.proof = *proof;
    guarded.proved = epoch;
    look_at_proofs();
  };
  guarded.guard->fence(order, std::move(fenced));
}

void Node::look_at_proofs() {
  const Epoch epoch = membership_.decision().epoch;
  bool timed = false;
  for (const auto& guarded : devices_) {
    if (guarded->proved != epoch) return;
    timed |= guarded->proof == FenceProof::timed;
  }
  membership_.on_devices_fenced(epoch, timed);
}

// --- the end ---

void Node::close(io::Task closed) {
  closing_ = true;
  closed_ = std::move(closed);
  services_.transport.set_receiver(nullptr);
  for (const auto& guarded : devices_) guarded->guard->stop();
  services_.loop.start(timer_, io::Duration::zero());
}

void Node::look_whether_closed() {
  const bool busy =
      saving_ || (witness_ != nullptr && witness_->busy()) ||
      std::ranges::any_of(devices_, [](const auto& guarded) { return guarded->guard->busy(); });
  if (busy) {
    services_.loop.start(timer_, std::chrono::milliseconds(20));
    return;
  }
  if (closed_) std::exchange(closed_, nullptr)();
}

}  // namespace holdfast::qdisk
