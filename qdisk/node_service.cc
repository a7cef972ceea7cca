#include "qdisk/node_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "qdisk/node_status.h"
#include "qdisk/reservation_key.h"

namespace holdfast::qdisk {

namespace {

constexpr const char* kLog = "qdiskd";

}  // namespace

NodeService::NodeService(const Services& services, const Config& config,
                         std::vector<GuardedDevice> devices, const Uuid& boot)
    : services_(services),
      config_(config),
      devices_(std::move(devices)),
      boot_(boot),
      petter_(config.timers),
      users_(services.page.users(boot)) {}

NodeService::~NodeService() {
  ASSERT(phase_ == Phase::idle || phase_ == Phase::stopped);
  services_.loop.stop(timer_);
}

const GuardedDevice* NodeService::witness() const {
  const auto found =
      std::ranges::find_if(devices_, [](const GuardedDevice& each) { return !each.volume; });
  return found == devices_.end() ? nullptr : &*found;
}

// --- a life begins ---

void NodeService::start(io::Task running, Failed failed) {
  running_ = std::move(running);
  failed_ = std::move(failed);
  begin();
}

// Without a sight of the witness an old copy of the local state would not be noticed. A node must
// come up without it all the same.
void NodeService::begin() {
  phase_ = Phase::looking;
  look([this]() noexcept { open_state(); });
}

void NodeService::look(io::Task then) {
  if (witness() == nullptr) return then();
  auto look = WitnessLook::create(services_.loop, *witness()->device, config_.self().id);
  if (!look) return refuse_to_begin(look.error().what);
  look_ = std::move(*look);
  look_->start(
      config_.timers.disk_io_to,
      [this, then = std::move(then)](const base::Result<WitnessSight>& sight) mutable noexcept {
        on_looked(sight, std::move(then));
      });
}

void NodeService::on_looked(const base::Result<WitnessSight>& sight, io::Task then) {
  sight_.reset();
  if (!sight) {
    LOG_WARNING(kLog, "the witness was looked at in vain: {}", sight.error().what);
  } else if (sight->superblock.cluster != config_.cluster) {
    LOG_ERROR(kLog, "the witness belongs to another cluster: {}", sight->superblock.cluster_name);
  } else {
    sight_ = *sight;
  }
  // The look is still on the stack.
  services_.loop.post(
      [this, weak = std::weak_ptr(self_), then = std::move(then)]() mutable noexcept {
        if (weak.expired()) return;
        look_.reset();
        if (stopped_) return node_ == nullptr ? finish_stop() : void();
        const bool ended = phase_ == Phase::ending && node_ == nullptr;
        then();
        // The life for which it was looked.
        if (ended) when_nothing_runs([this]() noexcept { begin(); });
      });
}

void NodeService::open_state() {
  phase_ = Phase::opening;
  const StateOwner owner{.node = config_.self().id,
                         .cluster = config_.cluster,
                         .boot = boot_,
                         .seen = std::max(seen_, sight_ ? sight_->seen : 0)};
  const auto open = [this, weak = std::weak_ptr(self_), owner, directory = config_.state_dir,
                     &loop = services_.loop, &random = services_.random]() noexcept {
    auto opened = StateDirectory::open(directory, owner, random);
    loop.post([this, weak, opened = std::move(opened)]() mutable noexcept {
      if (!weak.expired()) on_opened(std::move(opened));
    });
  };
  if (!services_.files.submit(open)) refuse_to_begin("earlier work on files has not ended");
}

void NodeService::on_opened(std::expected<std::shared_ptr<StateDirectory>, std::string> directory) {
  if (stopped_) return finish_stop();
  if (!directory) return refuse_to_begin(std::move(directory.error()));
  directory_ = std::move(*directory);
  const auto last = services_.page.last();
  if (!last || last->life.incarnation == directory_->opened().incarnation) {
    return run(directory_->opened());
  }
  when_nothing_runs([this]() noexcept { run(directory_->opened()); });
}

// For the others another life is the proof that whatever the one before has started here has ended.
void NodeService::when_nothing_runs(io::Task then) {
  if (!users_.anything_runs()) return then();
  LOG_WARNING(kLog, "another life begins when what this host has started by its lease has ended");
  phase_ = Phase::waiting;
  when_nothing_runs_ = std::move(then);
  if (running_) std::exchange(running_, nullptr)();  // the daemon does, and answers
}

void NodeService::look_whether_anything_runs() {
  if (users_.anything_runs() || phase_ != Phase::waiting) return;
  disarm_watchdog();
  services_.loop.post([this, weak = std::weak_ptr(self_)]() noexcept {
    if (!weak.expired() && when_nothing_runs_) std::exchange(when_nothing_runs_, nullptr)();
  });
}

void NodeService::refuse_to_begin(std::string why) {
  phase_ = Phase::idle;
  problem_ = why;
  if (failed_) std::exchange(failed_, nullptr)(std::move(why));
}

void NodeService::run(const NodeRecord& record) {
  const NodeId self = config_.self().id;
  const Life life{self, directory_->opened().incarnation};
  NodeOptions options{.membership = {.self = self,
                                     .incarnation = life.incarnation,
                                     .timers = config_.timers,
                                     .policy = config_.policy(),
                                     .reservation_key = reservation_key(config_.cluster, life),
                                     .has_users = users_.any()},
                      .cluster = config_.cluster,
                      .record = record,
                      .after_eviction = std::exchange(evicted_, false),
                      .earlier_life = may_have_lived_before()};
  store_ = std::make_unique<StateFile>(services_.loop, services_.files, directory_,
                                       config_.timers.disk_io_to);
  auto node = Node::create({.loop = services_.loop,
                            .random = services_.random,
                            .transport = services_.transport,
                            .store = *store_,
                            .listener = *this},
                           options, devices_);
  if (!node) return refuse_to_begin(node.error().what);
  auto configuration =
      NodeConfiguration::create({.loop = services_.loop,
                                 .files = services_.files,
                                 .transport = services_.transport,
                                 .node = **node},
                                {.self = self,
                                 .cluster = config_.cluster,
                                 .state_dir = config_.state_dir,
                                 .io_limit = config_.timers.disk_io_to},
                                witness() == nullptr ? nullptr : witness()->device);
  if (!configuration) return refuse_to_begin(configuration.error().what);
  node_ = std::move(*node);
  configuration_ = std::move(*configuration);
  LOG_INFO(kLog, "life begins: node={} incarnation={} epoch={} key=0x{:016x}", config_.node,
           life.incarnation, count_of(record.acceptor.decided.epoch),
           options.membership.reservation_key);
  phase_ = Phase::running;
  problem_.clear();
  carried_ = services_.page.last();
  if (carried_ && carried_->life != life) carried_.reset();
  node_->start();
  configuration_->start();
  if (running_) std::exchange(running_, nullptr)();
  services_.loop.start(timer_, node_->membership().tick_length());
}

bool NodeService::may_have_lived_before() const {
  if (directory_->kind() == StateDirectory::Kind::same) return false;
  return directory_->kind() == StateDirectory::Kind::next || !sight_;  // what nobody could tell
}

// --- while it lives ---

// A life that has ended has no lease; when only the daemon ends, its lease does by itself.
void NodeService::publish() {
  const Membership& membership = node_->membership();
  LeaseView view{.life = {config_.self().id, directory_->opened().incarnation},
                 .epoch = membership.decision().epoch,
                 .members = membership.decision().members(),
                 .fenced = membership.fenced(),
                 .fenced_timed = membership.fenced_timed()};
  view.key = reservation_key(config_.cluster, view.life);
  if (phase_ != Phase::running || !membership.is_member() || membership.evicted()) {
    carried_.reset();
  }
  if (node_->lease_valid()) {
    carried_.reset();
    view.lease_until = *membership.lease_until();
    view.confirmed_at = membership.confirmed_at().value_or(io::Instant{});
  } else if (carried_ && carried_->valid(services_.loop.now())) {
    view.lease_until = carried_->lease_until;
    view.confirmed_at = carried_->confirmed_at;
  }
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    const VolumeOwner& owner = membership.decision().volumes[i];
    view.volumes[i] = {
        .coordinator = owner.coordinator, .term = owner.term, .token = node_->token(i).has_value()};
  }
  services_.page.write(view);
}

// Only here, where the lease was looked at in the same turn.
void NodeService::tend_watchdog() {
  Watchdog* watchdog = services_.watchdog;
  if (watchdog == nullptr) return;
  const io::Instant now = services_.loop.now();
  const Membership& membership = node_->membership();
  const WatchdogAdvice advice = petter_.look(now, {.until = membership.lease_until(),
                                                   .valid = membership.lease_valid(now),
                                                   .ample = membership.lease_ample(now)});
  if (advice.act == WatchdogAct::pet) {
    watchdog->pet();
  } else if (advice.act == WatchdogAct::arm) {
    const auto armed = watchdog->arm(config_.timers.watchdog);
    if (armed) {
      LOG_INFO(kLog, "the watchdog is armed: {}", watchdog->describe());
      petter_.on_armed();
    } else {
      LOG_LIMITED(error, kLog, "the watchdog cannot be armed: {}", armed.error().what);
    }
  }
  if (advice.must_end_by && watchdog->armed()) disarm_watchdog();
  node_->set_watchdog(!watchdog->armed() ? WatchdogKind::none
                      : watchdog->real() ? WatchdogKind::real
                                         : WatchdogKind::lab);
}

// When nothing lives by the lease but what looks at its page before each step.
void NodeService::disarm_watchdog() {
  Watchdog* watchdog = services_.watchdog;
  if (watchdog == nullptr || !watchdog->armed() || users_.anything_runs()) return;
  if (const auto disarmed = watchdog->disarm(); !disarmed) {
    return LOG_ERROR(kLog, "the watchdog cannot be disarmed, and will fire: {}",
                     disarmed.error().what);
  }
  petter_.on_disarmed();
}

void NodeService::on_decision(const Decision& decision) {
  LOG_INFO(kLog, "decided: epoch={}.{} members={:#x} voters={:#x} witness_votes={}{}",
           generation_of(decision.epoch), count_of(decision.epoch), decision.members().bits(),
           decision.voters.bits(), decision.witness_votes, decision.forced ? " forced" : "");
  publish();
  configuration_->on_decision(decision);
  // Its state was lost, and what it knows to be its number is that of an earlier life, or none: the
  // others would take what it says for old.
  const Incarnation known = decision.incarnations[config_.self().id];
  if (known > directory_->opened().incarnation) {
    seen_ = known;
    return begin_next("a later life of this node is known: another one begins after it");
  }
  services_.loop.post([this, weak = std::weak_ptr(self_)]() noexcept {
    if (weak.expired()) return;
    tell_quiesced();
    if (changed_) changed_();
  });
}

void NodeService::on_evicted() {
  publish();
  evicted_ = true;
  begin_next("this life was evicted; the next one asks to be admitted");
}

void NodeService::begin_next(const char* why) {
  services_.loop.post([this, why, weak = std::weak_ptr(self_)]() noexcept {
    if (weak.expired() || phase_ != Phase::running) return;
    LOG_WARNING(kLog, "{}", why);
    phase_ = Phase::ending;
    end_life([this]() noexcept {
      if (stopped_) return finish_stop();
      if (look_ == nullptr) when_nothing_runs([this]() noexcept { begin(); });
    });
  });
}

void NodeService::on_tick() noexcept {
  if (phase_ == Phase::stopping) {
    if (services_.loop.now() < leave_until_) {
      services_.loop.start(timer_, config_.timers.hb_net);
      return;
    }
    return end_life([this]() noexcept { finish_stop(); });
  }
  if (phase_ != Phase::running) return;
  services_.loop.start(timer_, node_->membership().tick_length());
  publish();
  tend_watchdog();
  ask_for_what_is_configured();
  try_create();
  if (changed_) changed_();
}

// A volume of the configuration that the cluster lacks; and a witness, where there is none yet.
// Another one than the cluster has is a change that an administrator asks for.
void NodeService::ask_for_what_is_configured() {
  const Membership& membership = node_->membership();
  if (!node_->lease_valid() || membership.asked()) return;
  const Decision& decision = membership.decision();
  const auto lacking = std::ranges::find_if(config_.volumes, [&](const DiskConfig& volume) {
    return decision.volumes[volume.number].coordinator == kNoNode;
  });
  Change change;
  if (lacking != config_.volumes.end()) {
    change = {.kind = Change::Kind::add_volume, .volume = lacking->number};
  } else if (config_.mode == QuorumMode::node_and_disk_majority && decision.witness == Uuid{} &&
             node_->superblock()) {
    change = {.kind = Change::Kind::use_witness, .witness = node_->superblock()->witness};
  } else {
    return;
  }
  if (const auto asked = node_->ask(change); !asked) {
    LOG_LIMITED(warning, kLog, "what is configured cannot be asked for: {}", asked.error().what);
  }
}

// --- the end ---

void NodeService::end_life(io::Task then) {
  refuse_to_create("this node is ending, or begins anew: try again when it runs");
  disarm_watchdog();
  services_.loop.stop(timer_);
  close_node([this, then = std::move(then)]() mutable noexcept {
    directory_.reset();
    then();
  });
}

// Node and configuration, each after what it has under way.
void NodeService::close_node(io::Task then) {
  configuration_->close([this, then = std::move(then)]() mutable noexcept {
    node_->close([this, weak = std::weak_ptr(self_), then = std::move(then)]() mutable noexcept {
      services_.loop.post([this, weak, then = std::move(then)]() mutable noexcept {
        if (weak.expired()) return;
        configuration_.reset();
        node_.reset();
        store_.reset();
        then();
      });
    });
  });
}

void NodeService::stop(io::Task stopped) {
  ASSERT(phase_ != Phase::stopping && phase_ != Phase::stopped);
  stopped_ = std::move(stopped);
  if (phase_ == Phase::idle || phase_ == Phase::waiting) return finish_stop();
  if (phase_ != Phase::running) return;  // when what is under way has ended
  phase_ = Phase::stopping;
  if (users_.anything_runs()) {
    LOG_WARNING(kLog,
                "what this host has started by its lease runs on: the watchdog ends it, "
                "unless the daemon is back in time");
    return end_life([this]() noexcept { finish_stop(); });
  }
  node_->leave();
  publish();
  leave_until_ =
      services_.loop.now() + std::min<io::Duration>(2 * config_.timers.hb_net, kLeaveLimit);
  services_.loop.start(timer_, config_.timers.hb_net);
}

void NodeService::finish_stop() {
  if (look_ != nullptr) return;  // when it has ended
  phase_ = Phase::stopped;
  when_nothing_runs_ = nullptr;
  services_.loop.post(std::exchange(stopped_, nullptr));
}

QuorumStatus NodeService::status() const {
  QuorumStatus out = status_of(config_, node_.get(), services_.loop.now(), problem_);
  if (configuration_ != nullptr) {
    for (const std::string& problem :
         {configuration_->store().missing(), configuration_->store().problem()}) {
      if (!problem.empty()) out.problems.push_back(problem);
    }
  }
  for (const LeaseUser& user : users_.all()) {
    if (!user.name.empty()) out.users.push_back(user);
  }
  return out;
}

}  // namespace holdfast::qdisk
