// The quorum daemon's core and drivers in a cluster of two to five hosts, with a witness and a
// volume, under faults of everything: docs/fault_model.md.

#include "qdisk/layout.h"
#include "qdisk/reservation_key.h"
#include "tests/sim/quorum_host.h"
#include "tests/sim/seed_runner.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;
using qdisk::NodeId;

// After the faults have ended: a watchdog and a boot, a takeover of 8.1 s, a fence by time, some
// lost ballots.
constexpr Duration kHealTime = 90s;
constexpr size_t kWitness = 0, kVolume = 1;

QuorumSabotage parse(const std::string& name) {
  QuorumSabotage sabotage;
  sabotage.skip_verification = name == "verification";
  sabotage.late_lease = name == "late_lease";
  sabotage.sighting = name == "sighting";
  sabotage.short_takeover = name == "takeover";
  sabotage.pet_blindly = name == "watchdog";
  sabotage.lun.requeue = name == "requeue";
  sabotage.early_preempt = name == "early_preempt";
  sabotage.give_back = name == "holder_unregister";
  sabotage.spare_own_lives = name == "own_life";
  return sabotage;
}

class QuorumSimulation {
 public:
  explicit QuorumSimulation(const SeedRun& run)
      : run_(run),
        world_(run.seed),
        judge_(world_),
        witness_(world_, "witness", {}),
        volume_(world_, "volume", {}),
        cluster_{.world = world_,
                 .judge = judge_,
                 .net = {},
                 .witness = witness_,
                 .volume = volume_,
                 .sabotage = parse(run.sabotage)} {
    world_.set_trace_sink(run.trace);
  }

  bool simulate();
  SeedVerdict verdict(bool ok) const {
    SeedVerdict verdict{.ok = ok, .hash = world_.hash(), .summary = {}, .breaches = {}};
    verdict.summary =
        fmt::format("{} hosts, {} epochs, {} terms, {} writes, {} VM starts", hosts_.size(),
                    judge_.epochs, judge_.terms, judge_.writes, judge_.vm_starts);
    verdict.breaches = judge_.breaches();
    return verdict;
  }

 private:
  void set_up();
  void format_witness();
  void watch(size_t lun);
  void misbehave();
  void cut_something();
  void heal();
  bool healthy() const;
  // What has been decided while a disk was being lost may have made its node the only voter.
  bool operator_needed();
  // Without the memory of `host` there is still a majority: else only an operator can go on.
  bool spare(const QuorumHost* host = nullptr) const;
  NodeId any() { return static_cast<NodeId>(world_.random().below(hosts_.size())); }
  bool maybe(uint64_t in) { return world_.random().below(in) == 0; }

  const SeedRun run_;
  SimWorld world_;
  QuorumJudge judge_;
  SharedLun witness_, volume_;
  QuorumCluster cluster_;
  std::vector<std::unique_ptr<QuorumHost>> hosts_;
  bool use_witness_ = true;
  bool damaged_ =
      false;  // a block on the witness, which says nothing until its owner writes it anew
};

void QuorumSimulation::format_witness() {
  const qdisk::Superblock superblock{.generation = 1,
                                     .cluster = cluster_.uuid,
                                     .witness = {9},
                                     .cluster_name = "sim",
                                     .sector_bytes = 512,
                                     .timers = cluster_.timers};
  for (unsigned copy = 0; copy < qdisk::kCopies; ++copy) {
    std::array<uint8_t, qdisk::kRecordBytes> sector{};
    encode(superblock, copy, sector);
    witness_.write_now(qdisk::superblock_offset(copy), sector);
  }
}

void QuorumSimulation::watch(size_t lun) {
  SharedLun& watched = lun == kWitness ? witness_ : volume_;
  watched.set_preempting([this](uint64_t nexus, uint64_t victim_key) {
    const qdisk::Life by = QuorumHost::life_of_nexus(nexus);
    const auto victim = qdisk::life_of(victim_key, cluster_.uuid);
    if (victim) judge_.preempting(by, *victim, hosts_[by.node]->known());
  });
  watched.set_landed([this, lun, &watched](uint64_t nexus, uint64_t offset, base::Bytes bytes) {
    const qdisk::Life life = QuorumHost::life_of_nexus(nexus);
    if (bytes.empty()) return;  // torn before its first sector
    judge_.landed_of(lun, life, watched.fenced(nexus));
    if (lun == kVolume) {
      qdisk::Token token;
      std::memcpy(&token, bytes.data(), sizeof token);
      judge_.landed(token);
    } else if (offset == qdisk::ballot_offset(life.node)) {
      const auto block = qdisk::decode_ballot(qdisk::Sector(bytes.first(qdisk::kRecordBytes)),
                                              cluster_.uuid, life.node);
      if (block.valid()) judge_.ballot_landed(life.node, *block.value);
    }
  });
}

void QuorumSimulation::set_up() {
  const auto count = static_cast<NodeId>(2 + world_.random().below(4));
  cluster_.uuid = {1, 2, 3};
  cluster_.timers = qdisk::timers_of(qdisk::TimerProfile::lan_fast);
  if (cluster_.sabotage.short_takeover) cluster_.timers.takeover = 100ms;
  use_witness_ = count == 2 || !maybe(4);
  cluster_.policy.mode =
      use_witness_ ? qdisk::QuorumMode::node_and_disk_majority : qdisk::QuorumMode::node_majority;
  for (NodeId node = 0; node < count; ++node) cluster_.policy.configured.add(node);
  qdisk::Decision& first = cluster_.founded;
  first.epoch = qdisk::Epoch{1} << qdisk::kGenerationShift | 1;
  for (NodeId node = 0; node < count; ++node) first.incarnations[node] = 1;
  if (use_witness_) first.witness = {9};
  first.volumes[0] = {.coordinator = 0, .term = 1};
  qdisk::choose_voters(first, first, cluster_.policy, true);
  format_witness();
  cluster_.kills_hang = maybe(3);
  cluster_.net.slow_per_million = maybe(2) ? 0 : 5'000;
  for (SharedLun* lun : {&witness_, &volume_}) {
    lun->options().aptpl = !maybe(3);
    lun->options().delay_max = std::chrono::microseconds(100 << world_.random().below(6));
    lun->options().slow_per_million = maybe(2) ? 0 : 3'000;
    lun->options().torn_per_million = maybe(2) ? 0 : 500'000;
    lun->options().lost_per_million = maybe(2) ? 0 : 2'000;
  }
  witness_.options().misdirected_per_million = maybe(3) ? 500 : 0;
  cluster_.net.double_per_million = maybe(2) ? 0 : 20'000;
  for (const size_t lun : {kWitness, kVolume}) watch(lun);
  judge_.decided(first);
  for (NodeId node = 0; node < count; ++node) {
    hosts_.push_back(std::make_unique<QuorumHost>(cluster_, node));
  }
}

void QuorumSimulation::cut_something() {
  QuorumNet& net = cluster_.net;
  const NodeId a = any(), b = any();
  switch (world_.random().below(5)) {
    case 0:
      net.cut[world_.random().below(2)][a][b] = true;
      break;
    case 1:
      for (auto& network : net.cut) network[a][b] = network[b][a] = true;
      break;
    case 2:
      for (auto& network : net.cut) network[a][b] = true;
      break;
    case 3:  // one node from all
      for (auto& network : net.cut) {
        for (size_t i = 0; i < QuorumNet::kHosts; ++i) network[a][i] = network[i][a] = true;
      }
      break;
    default:
      net.loss_per_million = static_cast<uint32_t>(world_.random().below(400'000));
  }
}

bool QuorumSimulation::operator_needed() {
  qdisk::Decision newest = judge_.newest();
  qdisk::Answers remembering{.nodes = {}, .witness = use_witness_};
  for (NodeId node = 0; node < hosts_.size(); ++node) {
    const qdisk::NodeRecord& stored = hosts_[node]->stored();
    if (stored.remembers) remembering.nodes.add(node);
    if (stored.acceptor.decided.epoch > newest.epoch) newest = stored.acceptor.decided;
  }
  const bool needed = !is_majority(newest, remembering);
  if (needed) world_.trace("only an operator can go on");
  return needed;
}

bool QuorumSimulation::spare(const QuorumHost* host) const {
  const qdisk::Decision& newest = judge_.newest();
  const bool whole = !damaged_ && witness_.options().misdirected_per_million == 0;
  qdisk::Answers others{.nodes = {}, .witness = use_witness_ && whole};
  for (NodeId node = 0; node < hosts_.size(); ++node) {
    if (hosts_[node].get() != host && hosts_[node]->remembers()) others.nodes.add(node);
  }
  return is_majority(newest, others);
}

void QuorumSimulation::misbehave() {
  QuorumHost& host = *hosts_[any()];
  switch (world_.random().below(16)) {
    case 0:
    case 1:
      if (host.up()) host.shut_down();
      break;
    case 2:
    case 3:
      host.start(host.up() ? maybe(2) : true);
      break;
    case 4:
      if (host.up()) host.kill();
      if (maybe(3) && spare(&host)) host.lose_state();
      host.start(true);
      break;
    case 5:
    case 6:
      host.pause(world_.between(100ms, 12s));
      break;
    case 7:
    case 8:
    case 9:
      cut_something();
      break;
    case 10:
      host.cut_witness(maybe(2));
      break;
    case 11:
      host.cut_volume(maybe(2));
      break;
    case 12:
      (maybe(2) ? witness_ : volume_).restart_target();
      break;
    case 13:
      if (maybe(4)) {
        const bool before = std::exchange(damaged_, true);
        damaged_ = spare() || before;
        if (!damaged_) break;
        witness_.corrupt(qdisk::ballot_offset(any()));
      }
      if (maybe(2)) witness_.corrupt(qdisk::heartbeat_offset(any(), world_.random().below(2)));
      break;
    case 14:
      host.hand_over(any());
      break;
    default:
      heal();
  }
}

void QuorumSimulation::heal() {
  world_.trace("all faults heal");
  cluster_.net.cut = {};
  cluster_.net.loss_per_million = 0;
  for (const auto& host : hosts_) {
    host->cut_witness(false);
    host->cut_volume(false);
  }
}

bool QuorumSimulation::healthy() const {
  int working = 0;
  for (const auto& host : hosts_) {
    if (!host->settled()) return false;
    working += host->works() ? 1 : 0;
  }
  return working == 1;
}

bool QuorumSimulation::simulate() {
  set_up();
  for (uint32_t step = 0; step < run_.steps && !judge_.failed(); ++step) {
    world_.run_until([this] { return judge_.failed(); }, world_.between(10ms, 8s));
    misbehave();
  }
  heal();
  for (SharedLun* lun : {&witness_, &volume_}) {
    lun->options().slow_per_million = lun->options().lost_per_million = 0;
    lun->options().misdirected_per_million = 0;
  }
  for (const auto& host : hosts_) {
    if (!host->up()) host->start(true);
  }
  if (!judge_.failed() && !operator_needed() &&
      !world_.run_until([this] { return judge_.failed() || healthy(); }, kHealTime)) {
    std::string state;
    for (const auto& host : hosts_) state += "\n    " + host->describe();
    judge_.breach("the cluster does not work again:" + state);
  }
  return !judge_.failed();
}

SeedVerdict simulate_quorum(const SeedRun& run) {
  QuorumSimulation simulation(run);
  const bool ok = simulation.simulate();
  return simulation.verdict(ok);
}

}  // namespace
}  // namespace holdfast::sim

int main(int count, char** values) {
  return holdfast::sim::run_seed_program(
      {.name = "sim_quorum",
       .sabotages = {"verification", "late_lease", "sighting", "takeover", "watchdog", "requeue",
                     "early_preempt", "holder_unregister", "own_life"},
       .run = holdfast::sim::simulate_quorum},
      count, values);
}
