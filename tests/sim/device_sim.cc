// The product's mpio::Device over two subnets against the simulated target, under faults:
// docs/fault_model.md. What it promises about late writes is what the model judges. Sometimes a
// second host has a device on the same unit, and both use COMPARE AND WRITE.

#include <algorithm>

#include "tests/sim/device_user.h"
#include "tests/sim/seed_runner.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kMaxRestarts = 4;  // a killed target's memory stays, and a host's
constexpr Duration kSettleTime = 120s;
constexpr Duration kShutdownTime = 60s;
constexpr size_t kMaxHosts = 2;
constexpr const char* kAddresses[kMaxHosts][2] = {{"10.1.0.1", "10.2.0.1"},
                                                  {"10.1.0.2", "10.2.0.2"}};
constexpr const char* kPortals[] = {"10.1.0.10", "10.2.0.10"};

// Everything that the seed decides before the first event.
struct DevicePlan {
  FabricOptions fabric;
  TargetHostOptions target;
  mpio::DeviceOptions device;
  size_t hosts = 1;
  bool kills = false, pauses = false, slow_disk = false;
  bool crashes = false;        // of the hosts
  bool forgets_crash = false;  // the next process does not know of the one before
};

DevicePlan make_device_plan(const SeedRun& run, base::Random& random) {
  const std::string& sabotage = run.sabotage;
  DevicePlan plan;
  const auto maybe = [&](uint64_t in) { return random.below(in) == 0; };
  plan.target.shards = maybe(2) ? 2 : 1;
  plan.target.volatile_cache = false;  // no power is lost
  plan.slow_disk = !maybe(3) || !sabotage.empty();
  plan.target.disks.delay_max = std::chrono::microseconds(50 << random.below(8));
  plan.target.disks.slow_per_million = plan.slow_disk ? 50'000 : 0;
  plan.target.disks.cancel_per_million = static_cast<uint32_t>(random.below(1'000'001));
  plan.fabric.delay_max = std::chrono::microseconds(30 << random.below(6));
  plan.fabric.send_buffer = plan.fabric.receive_buffer = size_t{8192} << random.below(5);
  plan.fabric.max_segment = size_t{512} << random.below(6);
  plan.fabric.partial_per_million = static_cast<uint32_t>(random.below(500'000));
  plan.fabric.reset_per_million = maybe(3) ? 20 : 0;
  plan.device.policy = static_cast<mpio::Policy>(random.below(4));
  plan.device.ghost_tracked = maybe(2);
  plan.device.no_path_timeout = maybe(3) ? Duration(2s) : Duration(60s);
  plan.kills = maybe(2);
  plan.pauses = maybe(3);
  // The ladder's other rungs. By time alone only where the declared bound holds: no write of a
  // target that is stopped for any time.
  if (maybe(3)) plan.device.target.drains_on_reinstatement = false;
  if (!plan.pauses && maybe(3)) {
    plan.device.target.drains_on_reinstatement = false;
    plan.device.target.unit_reset_waits = false;
  }
  plan.hosts = sabotage.empty() && run.seed % 5 == 0 ? 2 : 1;
  if (plan.hosts > 1) plan.device.ghost_tracked = false;  // who shares waits for ghosts himself
  // In portal groups of their own, as where each SAN has its own target ports, a dead session can
  // only be preempted at once. Sometimes in one: then the login comes first.
  plan.device.session_keys = sabotage.empty() && run.seed % 4 == 0;
  plan.target.group_each = plan.device.session_keys && run.seed % 16 != 0;
  plan.crashes = sabotage == "forget" || (sabotage.empty() && run.seed % 3 == 0);
  plan.forgets_crash = sabotage == "forget";
  if (sabotage == "fence") plan.device.fence = false;
  if (sabotage == "hold") {
    plan.device.target = {.drains_on_reinstatement = false, .unit_reset_waits = false};
    plan.device.ghost_hold = 10ms;
  }
  return plan;
}

class DeviceSimulation {
 public:
  explicit DeviceSimulation(const SeedRun& run)
      : run_(run),
        world_(run.seed),
        plan_(make_device_plan(run, world_.random())),
        fabric_(world_, plan_.fabric),
        judge_(world_) {
    world_.set_trace_sink(run.trace);
  }

  // A run that found something ends in the middle of everything.
  ~DeviceSimulation() {
    for (auto& user : users_) {
      if (!user->stopped()) SimProcess::bury(std::move(user));
    }
  }

  bool simulate();
  SeedVerdict verdict(bool ok) const {
    SeedVerdict verdict{.ok = ok, .hash = world_.hash(), .summary = {}, .breaches = {}};
    const mpio::DeviceCounters& counters = users_.front()->counters();
    verdict.summary = fmt::format(
        "{} requests, {} unknown, {} failovers, {} fences ({} by time, {} by preempt), {} "
        "reissued, {} ghost waits, {} kills, {} crashes, {} events",
        judge_.commands, judge_.unknown, counters.failovers, counters.fences,
        counters.fences_by_time, counters.fences_by_preempt, counters.reissued_writes,
        counters.ghost_waits, kills_, crashes_, world_.events_run());
    verdict.breaches = judge_.breaches();
    return verdict;
  }

 private:
  void set_up();
  void misbehave();
  void network_fault();
  void crash_host(size_t host);
  void heal();
  bool settle(const char* when);

  const SeedRun run_;
  SimWorld world_;
  const DevicePlan plan_;
  SimFabric fabric_;
  Judge judge_;
  std::unique_ptr<TargetHost> target_;
  std::vector<std::shared_ptr<DeviceUser>> users_;
  uint32_t kills_ = 0, crashes_ = 0;
};

void DeviceSimulation::set_up() {
  const bool large_blocks = world_.random().below(4) == 0;
  const LunSpec lun{.lun = 0,
                    .path = "/disks/a",
                    .block_size = large_blocks ? 4096u : 512u,
                    .blocks = large_blocks ? 128u : 1024u,
                    .thin = true};
  target_ = std::make_unique<TargetHost>(world_, fabric_, plan_.target, std::vector{lun});
  judge_.add_unit(lun.lun, lun.block_size, lun.blocks, false);
  target_->start();
  for (size_t host = 0; host < plan_.hosts; ++host) {
    DeviceUser::Options options;
    options.host = fmt::format("hv{}", host + 1);
    options.addresses = {kAddresses[host][0], kAddresses[host][1]};
    options.portals = plan_.target.portals;
    options.device = plan_.device;
    options.shared = plan_.hosts > 1;
    options.key = run_.seed % 2 == 0 && !plan_.device.session_keys ? 0x1234 + host : 0;
    options.depth = 1 + static_cast<uint32_t>(world_.random().below(24));
    options.timeout_percent = static_cast<uint32_t>(world_.random().below(40));
    options.cancel_percent = static_cast<uint32_t>(world_.random().below(8));
    options.crashes = plan_.crashes;
    users_.push_back(std::make_shared<DeviceUser>(judge_, fabric_, options));
    users_.back()->start();
  }
}

bool DeviceSimulation::simulate() {
  set_up();
  for (uint32_t step = 0; step < run_.steps && !judge_.failed(); ++step) {
    world_.run_until([this] { return judge_.failed(); }, world_.random().below(6) == 0
                                                             ? world_.between(1s, 8s)
                                                             : world_.between(1ms, 300ms));
    misbehave();
  }
  heal();
  for (const auto& user : users_) user->quiesce();
  if (!settle("after the faults have healed")) return false;
  users_.front()->verify();
  if (!settle("during the verification")) return false;
  for (const auto& user : users_) {
    user->stop();
    if (!world_.run_until([&] { return user->stopped(); }, 10s)) {
      judge_.check("the device does not end: " + user->describe());
    }
  }
  if (!target_->stop(kShutdownTime)) judge_.check("the target does not shut down in time");
  return !judge_.failed();
}

bool DeviceSimulation::settle(const char* when) {
  const auto settled = [this] {
    return std::ranges::all_of(users_, [](const auto& user) { return user->settled(); });
  };
  if (world_.run_until([&] { return judge_.failed() || settled(); }, kSettleTime)) {
    return !judge_.failed();
  }
  for (const auto& user : users_) {
    judge_.check(fmt::format("stuck {}: {}", when, user->describe()));
  }
  return false;
}

// Its process is killed, and another one started.
void DeviceSimulation::crash_host(size_t host) {
  ++crashes_;
  std::shared_ptr<DeviceUser>& user = users_[host];
  DeviceUser::Options next = user->crash();
  SimProcess::bury(std::move(user));
  next.device.left.clear();
  for (const auto& [isid, traces] : next.legacy.traces) {
    if (plan_.forgets_crash) break;
    for (const mpio::SessionTrace& trace : traces) {
      next.device.left.push_back({.path = "of an earlier process",
                                  .initiator_name = "iqn.2026-11.org.holdfast:" + next.host,
                                  .target = kTargetName,
                                  .isid = isid,
                                  .trace = trace});
    }
  }
  user = std::make_shared<DeviceUser>(judge_, fabric_, next);
  world_.after(world_.between(0ms, 2s), [this, host, started = user.get()] {
    if (users_[host].get() == started) started->start();
  });
}

void DeviceSimulation::misbehave() {
  if (plan_.crashes && crashes_ < kMaxRestarts && world_.random().below(10) == 0) {
    return crash_host(world_.random().below(users_.size()));
  }
  const uint64_t dice = world_.random().below(8);
  if (dice < 6) return network_fault();
  if (dice == 6 && plan_.pauses && target_->listening()) {
    if (target_->paused()) return target_->resume();
    target_->pause();
    const uint32_t instance = target_->instance();
    world_.after(world_.between(10ms, 8s), [this, instance] {
      const bool still = target_->running() && target_->instance() == instance;
      if (still && target_->paused()) target_->resume();
    });
  } else if (dice == 7 && plan_.kills && kills_ < kMaxRestarts && target_->listening()) {
    ++kills_;
    target_->kill();
    world_.after(world_.between(0ms, 3s), [this] { target_->start(); });
  }
}

void DeviceSimulation::network_fault() {
  const size_t subnet = world_.random().below(2);
  const size_t which = plan_.hosts == 1 ? 0 : world_.random().below(plan_.hosts);
  const std::string host = kAddresses[which][subnet], portal = kPortals[subnet];
  switch (world_.random().below(9)) {
    case 0:
    case 1:
      fabric_.reset_between(host, portal);
      return;
    case 2:
      return fabric_.block(host, portal);
    case 3:
      return fabric_.block(portal, host);
    case 4:
      return fabric_.isolate(portal);
    case 5:
      world_.after(world_.between(10ms, 3s), [this, host] { fabric_.set_link(host, true); });
      return fabric_.set_link(host, false);
    default:
      return fabric_.heal_all();
  }
}

void DeviceSimulation::heal() {
  world_.trace("all faults heal");
  fabric_.heal_all();
  for (const auto& host : kAddresses) {
    for (const char* address : host) fabric_.set_link(address, true);
  }
  fabric_.set_reset_rate(0);
  if (target_->running() && target_->paused()) target_->resume();
  target_->disk(0).options().slow_per_million = 0;
}

SeedVerdict simulate_device(const SeedRun& run) {
  DeviceSimulation simulation(run);
  const bool ok = simulation.simulate();
  return simulation.verdict(ok);
}

}  // namespace
}  // namespace holdfast::sim

int main(int count, char** values) {
  return holdfast::sim::run_seed_program({.name = "sim_device",
                                          .sabotages = {"fence", "hold", "forget"},
                                          .run = holdfast::sim::simulate_device},
                                         count, values);
}
