#include "tests/sim/target_host.h"

#include <cstdio>

#include "target/shard.h"
#include "target/target_node.h"
#include "tests/sim/sim_network.h"

namespace holdfast::sim {

// What main() makes, in its order.
struct TargetHost::Instance {
  Instance(SimWorld& world, SimFabric& fabric, SimDisks& disks, SimStateStorage& storage,
           const TargetHostOptions& options, SimProcess& of)
      : process(of),
        random(world.fork_random()),
        store_random(world.fork_random()),
        opener(world, of, disks),
        store(world, of, storage, store_random) {
    for (uint32_t i = 0; i < options.shards; ++i) {
      loops.push_back(&of.make_loop());
      networks.push_back(std::make_unique<SimNetwork>(fabric, *loops.back()));
    }
    node = std::make_unique<target::TargetNode>(
        target::NodeServices{*loops[0], *networks[0], random, opener, store, "simulated"});
    for (uint32_t i = 0; i < options.shards; ++i) {
      target::ShardOptions shard_options;
      shard_options.index = i;
      shard_options.buffer_memory_bytes = target::kMinBufferMemoryBytes;
      shard_options.drain_deadline = std::chrono::milliseconds(options.drain_deadline_ms);
      shard_options.busy_permille = [] { return 0u; };
      shards.push_back(std::make_unique<target::Shard>(std::move(shard_options), *loops[i],
                                                       *networks[i], random, *node));
    }
  }

  std::vector<target::ShardHandle> handles() {
    std::vector<target::ShardHandle> result;
    for (size_t i = 0; i < shards.size(); ++i) {
      target::ShardHandle handle;
      handle.shard = shards[i].get();
      handle.loop = loops[i];
      result.push_back(handle);
    }
    return result;
  }

  SimProcess& process;
  base::SeededRandom random;
  base::SeededRandom store_random;
  SimBackingOpener opener;
  SimStateStore store;
  std::vector<SimLoop*> loops;
  std::vector<std::unique_ptr<SimNetwork>> networks;
  std::unique_ptr<target::TargetNode> node;
  std::vector<std::unique_ptr<target::Shard>> shards;
  bool listening = false;
  bool stopped = false;
};

TargetHost::TargetHost(SimWorld& world, SimFabric& fabric, const TargetHostOptions& options,
                       std::vector<LunSpec> luns)
    : world_(world), fabric_(fabric), options_(options), luns_(std::move(luns)), disks_(world) {
  DiskOptions disk_options = options_.disks;
  disk_options.volatile_cache = options_.volatile_cache;
  disks_.set_defaults(disk_options);
  for (const LunSpec& lun : luns_) {
    disks_.make(lun.path, lun.blocks * lun.block_size, disk_options);
  }
}

TargetHost::~TargetHost() {
  if (instance_ != nullptr) kill();
}

target::Config TargetHost::config() const {
  target::Config config;
  config.threads = options_.shards;
  config.drain_deadline_ms = options_.drain_deadline_ms;
  config.buffer_memory_bytes = target::kMinBufferMemoryBytes;
  target::TargetConfig target;
  target.name = kTargetName;
  for (const std::string& portal : options_.portals) {
    if (config.portal_groups.empty() || options_.group_each) {
      target::PortalGroupConfig group;
      group.tag = static_cast<uint16_t>(config.portal_groups.size() + 1);
      target.portal_groups.push_back(group.tag);
      config.portal_groups.push_back(std::move(group));
    }
    config.portal_groups.back().portals.push_back(io::Endpoint::parse(portal).value());
  }
  target::InitiatorConfig anyone;
  anyone.name = "*";
  target.initiators.push_back(anyone);
  for (const LunSpec& lun : luns_) {
    target::DiskConfig disk;
    disk.name = fmt::format("disk{}", lun.lun);
    disk.backing.path = lun.path;
    disk.backing.size_bytes = lun.blocks * lun.block_size;
    disk.backing.block_size = lun.block_size;
    disk.backing.thin = lun.thin;
    config.disks.push_back(disk);
    target.luns.push_back({lun.lun, disk.name});
  }
  config.targets.push_back(target);
  return config;
}

void TargetHost::start() {
  ASSERT(instance_ == nullptr);
  ++starts_;
  paused_ = was_paused_ = false;
  SimProcess& process = world_.make_process(fmt::format("target{}", starts_));
  process.set_clock_ppm(static_cast<int64_t>(world_.random().below(401)) - 200);
  processes_.push_back(&process);
  instance_ = std::make_shared<Instance>(world_, fabric_, disks_, storage_, options_, process);
  Instance& instance = *instance_;
  instance.loops[0]->post([this, &instance]() noexcept {
    instance.node->start(
        config(), instance.handles(),
        [this, &instance, start = starts_](target::NodeControl::Outcome outcome) noexcept {
          instance.listening = outcome.has_value();
          if (!outcome) on_start_failed(start, outcome.error().front());
        });
  });
}

// As the init system does it: once more, a second later.
void TargetHost::on_start_failed(uint32_t start, const std::string& why) {
  world_.trace("target{} does not start: {}", start, why);
  // A full state directory, or a stop longer than what a start waits for: nothing else excuses it.
  const bool excused = storage_.failed_saves > 0 || was_paused_;
  if (!excused) std::fprintf(stderr, "target%u does not start: %s\n", start, why.c_str());
  ASSERT(excused);
  world_.after(std::chrono::seconds(1), [this, start] {
    if (instance_ == nullptr || starts_ != start) return;
    kill();
    this->start();
  });
}

bool TargetHost::listening() const { return instance_ != nullptr && instance_->listening; }

uint32_t TargetHost::instance_of(const SimProcess* process) const {
  for (size_t i = 0; i < processes_.size(); ++i) {
    if (processes_[i] == process) return static_cast<uint32_t>(i + 1);
  }
  return 0;
}

void TargetHost::kill() {
  instance_->process.kill();
  SimProcess::bury(std::exchange(instance_, nullptr));
}

void TargetHost::lose_power() {
  if (instance_ != nullptr) {
    instance_->process.kill(true);
    SimProcess::bury(std::exchange(instance_, nullptr));
  }
  disks_.lose_power();
}

void TargetHost::pause() {
  paused_ = was_paused_ = true;
  instance_->process.pause();
}

void TargetHost::resume() {
  paused_ = false;
  instance_->process.resume();
}

bool TargetHost::stop(Duration within) {
  Instance& instance = *instance_;
  bool clean = false;
  instance.loops[0]->post([&instance, &clean]() noexcept {
    instance.node->shutdown([&instance, &clean](bool all) noexcept {
      clean = all;
      instance.stopped = true;
    });
  });
  if (!world_.run_until([&] { return instance.stopped; }, within) || !clean) return false;
  instance.shards.clear();
  instance.node.reset();
  instance_.reset();
  return true;
}

}  // namespace holdfast::sim
