#include "tests/sim/chaos.h"

#include <algorithm>
#include <limits>

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {

constexpr uint32_t kMaxRestarts = 4;  // a killed target's memory stays
// After the faults heal: the target's drain deadline, TCP's and the clients' patience, with room.
constexpr Duration kSettleTime = 200s;
constexpr Duration kShutdownTime = 60s;

std::string portal_address(const TargetHostOptions& target, size_t index) {
  return io::Endpoint::parse(target.portals[index]).value().address_to_string();
}

}  // namespace

Plan make_plan(base::Random& random, Sabotage sabotage) {
  Plan plan;
  plan.clients = 2 + static_cast<uint32_t>(random.below(2));
  const auto maybe = [&](uint64_t in) { return random.below(in) == 0; };
  plan.target.shards = maybe(2) ? 2 : 1;
  plan.target.volatile_cache = !maybe(3);
  plan.target.drain_deadline_ms = maybe(2) ? 10'000 : 1'000;
  plan.target.disks.delay_max = std::chrono::microseconds(50 << random.below(8));
  plan.target.disks.cancel_per_million = static_cast<uint32_t>(random.below(1'000'001));
  plan.fabric.delay_max = std::chrono::microseconds(30 << random.below(6));
  plan.fabric.send_buffer = plan.fabric.receive_buffer = size_t{8192} << random.below(5);
  plan.fabric.max_segment = size_t{512} << random.below(6);
  plan.fabric.partial_per_million = static_cast<uint32_t>(random.below(500'000));
  plan.network_faults = !maybe(4);
  plan.disk_faults = maybe(3);
  plan.disk_hangs = maybe(2);
  plan.kills = maybe(2);
  plan.power_losses = maybe(3);
  plan.pauses = maybe(4);
  plan.store_faults = maybe(5);
  plan.slow_per_million = maybe(2) ? 20'000 : 0;
  if (sabotage == Sabotage::lock) plan.kills = true;
  if (sabotage == Sabotage::lock || sabotage == Sabotage::cancel) plan.slow_per_million = 50'000;
  if (sabotage == Sabotage::flush) plan.power_losses = plan.target.volatile_cache = true;
  if (sabotage == Sabotage::store) plan.kills = true;
  plan.target.disks.slow_per_million = plan.slow_per_million;
  plan.target.disks.lock_outlives_process = sabotage != Sabotage::lock;
  plan.target.disks.cancel_lies = sabotage == Sabotage::cancel;
  plan.target.disks.flush_lies = sabotage == Sabotage::flush;
  return plan;
}

std::string describe(const Plan& plan) {
  return fmt::format(
      "clients {} shards {} cache {} drain {}ms disk<{}us net<{}us buffers {} segments "
      "{}{}{}{}{}{}{}{}{}",
      plan.clients, plan.target.shards, plan.target.volatile_cache, plan.target.drain_deadline_ms,
      plan.target.disks.delay_max.count() / 1000, plan.fabric.delay_max.count() / 1000,
      plan.fabric.send_buffer, plan.fabric.max_segment, plan.network_faults ? " network" : "",
      plan.disk_faults ? " disk-errors" : "", plan.disk_hangs ? " hangs" : "",
      plan.slow_per_million > 0 ? " slow" : "", plan.kills ? " kills" : "",
      plan.power_losses ? " power" : "", plan.pauses ? " pauses" : "",
      plan.store_faults ? " store" : "");
}

Simulation::Simulation(const Options& options)
    : options_(options),
      world_(options.seed),
      plan_(make_plan(world_.random(), options.sabotage)),
      fabric_(world_, plan_.fabric),
      judge_(world_) {
  world_.set_trace_sink(options.trace);
  world_.trace("seed {}: {}", options.seed, describe(plan_));
}

Simulation::~Simulation() = default;

void Simulation::set_up() {
  const std::vector<LunSpec> luns = {
      {.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 2048, .thin = true},
      {.lun = 1, .path = "/disks/b", .block_size = 4096, .blocks = 256, .thin = true}};
  target_ = std::make_unique<TargetHost>(world_, fabric_, plan_.target, luns);
  target_->storage().forgets = options_.sabotage == Sabotage::store;
  for (const LunSpec& lun : luns) {
    judge_.add_unit(lun.lun, lun.block_size, lun.blocks, plan_.target.volatile_cache);
  }
  target_->start();
  for (uint32_t i = 0; i < plan_.clients; ++i) {
    ClientOptions client;
    client.index = i + 1;
    client.address = fmt::format("10.1.0.{}", i + 1);
    client.depth = 1 + static_cast<uint32_t>(world_.random().below(12));
    client.patience = world_.between(1s, 15s);
    if (options_.sabotage == Sabotage::store) client.reserve_per_mille = 300;
    clients_.push_back(std::make_unique<SimClient>(judge_, fabric_, *target_, client));
    clients_.back()->start();
  }
}

bool Simulation::run() {
  set_up();
  for (uint32_t step = 0; step < options_.steps && !judge_.failed(); ++step) {
    // Mostly short, sometimes long enough for every deadline to pass.
    world_.run_until([this] { return judge_.failed(); }, world_.random().below(12) == 0
                                                             ? world_.between(1s, 15s)
                                                             : world_.between(1ms, 150ms));
    misbehave();
  }
  heal();
  for (const auto& client : clients_) client->quiesce();
  if (!settle("after the faults have healed")) return false;
  check_nothing_open();
  for (const auto& client : clients_) client->verify();
  if (!settle("during the verification")) return false;
  if (!target_->stop(kShutdownTime)) judge_.check("the target does not shut down in time");
  check_medium();
  return !judge_.failed();
}

bool Simulation::settle(const char* when) {
  const auto all = [this] {
    return judge_.failed() ||
           std::ranges::all_of(clients_, [](const auto& client) { return client->settled(); });
  };
  if (world_.run_until(all, kSettleTime)) return !judge_.failed();
  for (const auto& client : clients_) {
    if (!client->settled()) judge_.check(fmt::format("stuck {}: {}", when, client->describe()));
  }
  return false;
}

void Simulation::misbehave() {
  SimClient& client = *clients_[world_.random().below(clients_.size())];
  switch (world_.random().below(6)) {
    case 0:
    case 1:
      if (plan_.network_faults) network_fault(client);
      break;
    case 2:
    case 3:
      disk_fault();
      break;
    case 4:
      kill_or_cut();
      break;
    default:
      if (plan_.pauses && target_->running()) {
        if (target_->paused()) {
          target_->resume();
        } else {
          target_->pause();
        }
      }
      if (plan_.store_faults) {
        SimStateStorage& storage = target_->storage();
        storage.full = !storage.full;
        // A store slower than the drain deadline leaves a PERSISTENT RESERVE OUT that was answered
        // with an error, or given up, to take effect later: docs/fault_model.md.
        const Duration slow = std::chrono::milliseconds(plan_.target.drain_deadline_ms) / 8;
        const uint64_t kind = world_.random().below(3);
        storage.delay_max = kind == 0 ? slow : Duration(20ms);
        storage.doubtful = kind == 1;
        world_.trace("store: full {} doubtful {} delay {}us", storage.full, storage.doubtful,
                     storage.delay_max.count() / 1000);
      }
  }
}

void Simulation::network_fault(SimClient& client) {
  const std::string portal =
      portal_address(plan_.target, world_.random().below(plan_.target.portals.size()));
  switch (world_.random().below(7)) {
    case 0:
      client.drop();
      break;
    case 1:
      fabric_.reset_between(client.address(), portal);
      break;
    case 2:
      fabric_.block(client.address(), portal);
      break;
    case 3:
      fabric_.block(portal, client.address());
      break;
    case 4:
      fabric_.isolate(client.address());
      break;
    default:
      fabric_.heal_all();
  }
}

void Simulation::disk_fault() {
  const size_t index = world_.random().below(target_->luns().size());
  SimDisk& disk = target_->disk(index);
  const uint64_t size = disk.medium().size();
  if (plan_.disk_hangs && world_.random().below(2) == 0) {
    if (disk.hanging()) {
      disk.release();
    } else {
      disk.hang();
    }
    return;
  }
  if (!plan_.disk_faults) return;
  switch (world_.random().below(4)) {
    case 0:
      disk.add_bad_range(world_.random().below(size / kSector) * kSector, 4096);
      break;
    case 1:
      disk.options().error_per_million = 50'000;
      break;
    case 2:
      disk.options().free_bytes = world_.random().below(16) * kAllocation;
      break;
    default:
      disk.clear_bad_ranges();
      disk.options().error_per_million = 0;
      disk.options().free_bytes = size;
  }
}

void Simulation::kill_or_cut() {
  if (!target_->running() || kills_ + cuts_ >= kMaxRestarts) return;
  if (plan_.power_losses && world_.random().below(2) == 0) {
    ++cuts_;
    target_->lose_power();
    judge_.power_lost();
    // Nobody answers at the host's addresses until it is back.
    restart_soon(2s);
  } else if (plan_.kills) {
    ++kills_;
    target_->kill();
    judge_.target_killed();
    restart_soon(world_.random().below(2) == 0 ? 1ms : 1s);
  }
}

void Simulation::restart_soon(Duration within) {
  restart_pending_ = true;
  world_.after(world_.between(0ms, within), [this] {
    restart_pending_ = false;
    target_->start();
  });
}

void Simulation::heal() {
  world_.trace("all faults heal");
  fabric_.heal_all();
  if (target_->running() && target_->paused()) target_->resume();
  target_->storage().full = false;
  target_->storage().doubtful = false;
  target_->storage().delay_max = 20ms;
  for (size_t i = 0; i < target_->luns().size(); ++i) {
    SimDisk& disk = target_->disk(i);
    disk.clear_bad_ranges();
    disk.options().error_per_million = 0;
    disk.options().slow_per_million = 0;
    disk.options().free_bytes = std::numeric_limits<uint64_t>::max();
    if (disk.hanging()) disk.release();
  }
}

// Nothing is under way, so what the disk holds must be what the model allows: also for sectors that
// no nexus may read now.
void Simulation::check_medium() {
  for (size_t i = 0; i < judge_.units().size(); ++i) {
    Unit& unit = *judge_.units()[i];
    std::vector<uint8_t> content(target_->disk(i).medium().size());
    target_->disk(i).medium().read(0, content);
    const uint64_t read = unit.data.begin_read(world_.now());
    judge_.check(unit.data.end_read(read, world_.now(), {0, unit.data.sectors()}, content));
  }
}

void Simulation::check_nothing_open() {
  for (size_t i = 0; i < target_->luns().size(); ++i) {
    const size_t late = target_->disk(i).in_flight_of_dead();
    if (late > 0) judge_.check(fmt::format("disk {}: {} requests of a dead process", i, late));
  }
}

std::string Simulation::summary() const {
  return fmt::format("{} commands, {} unknown, {} kills, {} power losses, {} events, hash {:016x}",
                     judge_.commands, judge_.unknown, kills_, cuts_, world_.events_run(),
                     world_.hash());
}

}  // namespace holdfast::sim
