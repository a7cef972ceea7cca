// The product's initiator::Session against the simulated target, under faults: docs/fault_model.md.
// One host, one session at a time, always with the same ISID.

#include "tests/sim/seed_runner.h"
#include "tests/sim/session_user.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kMaxRestarts = 4;  // a killed target's memory stays
constexpr Duration kSettleTime = 200s;
constexpr Duration kShutdownTime = 60s;
constexpr const char* kHost = "10.1.0.1";
constexpr const char* kPortal = "10.1.0.10";

// Everything that the seed decides before the first event.
struct SessionPlan {
  FabricOptions fabric;
  TargetHostOptions target;
  bool network_faults = false, kills = false;
};

SessionPlan make_session_plan(base::Random& random, SessionSabotage sabotage) {
  SessionPlan plan;
  const auto maybe = [&](uint64_t in) { return random.below(in) == 0; };
  plan.target.shards = maybe(2) ? 2 : 1;
  plan.target.drain_deadline_ms = maybe(2) ? 10'000 : 1'000;
  plan.target.disks.delay_max = std::chrono::microseconds(50 << random.below(8));
  plan.target.disks.slow_per_million = maybe(2) ? 20'000 : 0;
  plan.target.disks.cancel_per_million = static_cast<uint32_t>(random.below(1'000'001));
  plan.fabric.delay_max = std::chrono::microseconds(30 << random.below(6));
  plan.fabric.send_buffer = plan.fabric.receive_buffer = size_t{8192} << random.below(5);
  plan.fabric.max_segment = size_t{512} << random.below(6);
  plan.fabric.partial_per_million = static_cast<uint32_t>(random.below(500'000));
  plan.fabric.reset_per_million = maybe(3) ? 20 : 0;
  plan.network_faults = !maybe(4) || sabotage == SessionSabotage::unsent;
  plan.kills = maybe(2);
  return plan;
}

SessionSabotage parse(const std::string& name) {
  if (name == "offset") return SessionSabotage::offset;
  if (name == "unsent") return SessionSabotage::unsent;
  if (name == "reuse") return SessionSabotage::reuse;
  return SessionSabotage::none;
}

class SessionSimulation {
 public:
  explicit SessionSimulation(const SeedRun& run)
      : run_(run),
        world_(run.seed),
        plan_(make_session_plan(world_.random(), parse(run.sabotage))),
        fabric_(world_, plan_.fabric),
        judge_(world_) {
    world_.set_trace_sink(run.trace);
  }

  // A run that found something ends in the middle of everything.
  ~SessionSimulation() {
    if (user_ != nullptr && !user_->stopped()) SimProcess::bury(std::exchange(user_, nullptr));
  }

  bool simulate();
  SeedVerdict verdict(bool ok) const {
    SeedVerdict verdict{.ok = ok, .hash = world_.hash(), .summary = {}, .breaches = {}};
    verdict.summary = fmt::format("{} commands, {} unknown, {} kills, {} events", judge_.commands,
                                  judge_.unknown, kills_, world_.events_run());
    verdict.breaches = judge_.breaches();
    return verdict;
  }

 private:
  void set_up();
  void misbehave();
  void network_fault();
  void heal();
  bool settle(const char* when);

  const SeedRun run_;
  SimWorld world_;
  const SessionPlan plan_;
  SimFabric fabric_;
  Judge judge_;
  std::unique_ptr<TargetHost> target_;
  std::shared_ptr<SessionUser> user_;
  uint32_t kills_ = 0;
};

void SessionSimulation::set_up() {
  const std::vector<LunSpec> luns = {
      {.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 2048, .thin = true},
      {.lun = 1, .path = "/disks/b", .block_size = 4096, .blocks = 256, .thin = true}};
  target_ = std::make_unique<TargetHost>(world_, fabric_, plan_.target, luns);
  // No power is lost here, so an answer is as good as a flush.
  for (const LunSpec& lun : luns) judge_.add_unit(lun.lun, lun.block_size, lun.blocks, false);
  target_->start();
  SessionUser::Options options;
  options.portal = io::Endpoint::parse(plan_.target.portals[0]).value();
  options.address = kHost;
  options.depth = 1 + static_cast<uint32_t>(world_.random().below(40));
  options.patience = world_.between(500ms, 6s);
  options.sabotage = parse(run_.sabotage);
  user_ = std::make_shared<SessionUser>(judge_, fabric_, options);
  user_->start();
}

bool SessionSimulation::simulate() {
  set_up();
  for (uint32_t step = 0; step < run_.steps && !judge_.failed(); ++step) {
    world_.run_until([this] { return judge_.failed(); }, world_.random().below(12) == 0
                                                             ? world_.between(1s, 6s)
                                                             : world_.between(1ms, 150ms));
    misbehave();
  }
  heal();
  user_->quiesce();
  if (!settle("after the faults have healed")) return false;
  user_->verify();
  if (!settle("during the verification")) return false;
  user_->stop();
  if (!world_.run_until([this] { return user_->stopped(); }, 10s)) {
    judge_.check("the session does not end");
  }
  if (!target_->stop(kShutdownTime)) judge_.check("the target does not shut down in time");
  return !judge_.failed();
}

bool SessionSimulation::settle(const char* when) {
  if (world_.run_until([this] { return judge_.failed() || user_->settled(); }, kSettleTime)) {
    return !judge_.failed();
  }
  judge_.check(fmt::format("stuck {}: {}", when, user_->describe()));
  return false;
}

void SessionSimulation::misbehave() {
  const uint64_t dice = world_.random().below(4);
  if (dice < 2 && plan_.network_faults) return network_fault();
  if (dice == 2 && plan_.kills && kills_ < kMaxRestarts && target_->listening()) {
    ++kills_;
    target_->kill();
    world_.after(world_.between(0ms, 800ms), [this] { target_->start(); });
  }
}

void SessionSimulation::network_fault() {
  switch (world_.random().below(7)) {
    case 0:
      return user_->drop(true);
    case 1:
      return user_->drop(false);
    case 2:
      fabric_.reset_between(kHost, kPortal);
      return;
    case 3:
      return fabric_.block(kHost, kPortal);
    case 4:
      return fabric_.block(kPortal, kHost);
    default:
      return fabric_.heal_all();
  }
}

void SessionSimulation::heal() {
  world_.trace("all faults heal");
  fabric_.heal_all();
  fabric_.set_reset_rate(0);
  for (size_t i = 0; i < target_->luns().size(); ++i) {
    target_->disk(i).options().slow_per_million = 0;
  }
}

SeedVerdict simulate_session(const SeedRun& run) {
  SessionSimulation simulation(run);
  const bool ok = simulation.simulate();
  return simulation.verdict(ok);
}

}  // namespace
}  // namespace holdfast::sim

int main(int count, char** values) {
  return holdfast::sim::run_seed_program({.name = "sim_initiator_session",
                                          .sabotages = {"offset", "unsent", "reuse"},
                                          .run = holdfast::sim::simulate_session},
                                         count, values);
}
