#include "tests/sim/sim_backing.h"

#include <algorithm>
#include <cerrno>

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {

class SimBlockDevice final : public io::BlockDevice {
 public:
  SimBlockDevice(SimDisk& disk, SimLoop& loop, const io::Backing& backing, bool memory)
      : disk_(disk), loop_(loop), backing_(backing), memory_(memory) {}
  ~SimBlockDevice() override { ASSERT(ops_.empty() || !pending()); }

  io::BlockInfo info() const override { return backing_.info(); }

  void read(io::Op& op, uint64_t offset, base::MutableBytes buffer) override {
    check(offset, buffer.size(), buffer.data());
    // Whoever looks at the buffer before the completion sees this.
    std::ranges::fill(buffer, uint8_t{0xa5});
    SimDisk::Request request = make(SimDisk::Kind::read, op, offset, buffer.size());
    request.read_into = buffer;
    disk_.submit(std::move(request));
  }
  void write(io::Op& op, uint64_t offset, base::Bytes buffer, io::Durability durability) override {
    check(offset, buffer.size(), buffer.data());
    ASSERT(!info().read_only);
    SimDisk::Request request = make(SimDisk::Kind::write, op, offset, buffer.size());
    request.write_from = buffer;
    request.cached = durability == io::Durability::cached;
    disk_.submit(std::move(request));
  }
  void flush(io::Op& op) override { disk_.submit(make(SimDisk::Kind::flush, op, 0, 0)); }
  void discard(io::Op& op, uint64_t offset, uint64_t length) override {
    check(offset, length, nullptr);
    ASSERT(info().can_discard && !info().read_only);
    disk_.submit(make(SimDisk::Kind::discard, op, offset, length));
  }
  void write_zeroes(io::Op& op, uint64_t offset, uint64_t length) override {
    check(offset, length, nullptr);
    ASSERT(!info().read_only);
    disk_.submit(make(SimDisk::Kind::zeroes, op, offset, length));
  }
  void extent_at(io::Op& op, uint64_t offset, io::Extent* extent) override {
    check(offset, 0, nullptr);
    SimDisk::Request request = make(SimDisk::Kind::extent, op, offset, 0);
    request.extent = extent;
    disk_.submit(std::move(request));
  }
  void cancel(io::Op& op) override {
    if (op.busy()) disk_.cancel(loop_, op.scratch);
  }
  base::MutableBytes mapped() override {
    return memory_ ? disk_.medium().content() : base::MutableBytes{};
  }

 private:
  SimDisk::Request make(SimDisk::Kind kind, io::Op& op, uint64_t offset, uint64_t length) {
    SimDisk::Request request;
    request.kind = kind;
    request.process = &loop_.process();
    request.loop = &loop_;
    request.op = loop_.begin(op);
    request.offset = offset;
    request.length = length;
    std::erase_if(ops_, [this](uint64_t id) { return !loop_.pending(id); });
    ops_.push_back(request.op);
    return request;
  }
  void check(uint64_t offset, uint64_t length, const void* address) const {
    const io::BlockInfo now = info();
    ASSERT(offset % now.block_size == 0 && length % now.block_size == 0);
    ASSERT(offset <= now.size_bytes && length <= now.size_bytes - offset);
    // What O_DIRECT asks for.
    ASSERT(reinterpret_cast<uintptr_t>(address) % now.block_size == 0);
  }
  bool pending() const {
    return std::ranges::any_of(ops_, [this](uint64_t id) { return loop_.pending(id); });
  }

  SimDisk& disk_;
  SimLoop& loop_;
  const io::Backing& backing_;
  const bool memory_;
  std::vector<uint64_t> ops_;  // those that were under way at the last call
};

class SimBacking final : public io::Backing {
 public:
  SimBacking(SimWorld& world, SimProcess& process, SimDisk& disk, const io::BackingSpec& spec)
      : world_(world), process_(process), disk_(disk), spec_(spec) {}
  ~SimBacking() override {
    if (process_.alive()) disk_.unlock(process_);
  }

  io::BlockInfo info() const override {
    return {.size_bytes = disk_.medium().size(),
            .block_size = spec_.block_size,
            .physical_block_size = spec_.physical_block_size,
            .volatile_cache = disk_.options().volatile_cache,
            .can_discard = spec_.thin && disk_.options().can_discard,
            .read_only = spec_.read_only};
  }
  std::unique_ptr<io::BlockDevice> attach(io::Loop& loop) override {
    auto& sim_loop = static_cast<SimLoop&>(loop);
    ASSERT(&sim_loop.process() == &process_);
    return std::make_unique<SimBlockDevice>(disk_, sim_loop, *this,
                                            spec_.kind == io::BackingKind::memory);
  }
  void grow(uint64_t size_bytes, io::Loop& reply_to, Resized done) override {
    world_.after(world_.between(10us, 5ms), [this, &process = process_, size_bytes, &reply_to,
                                             done = std::move(done)]() mutable {
      if (!process.alive()) {
        SimProcess::bury(std::make_shared<Resized>(std::move(done)));
        return;
      }
      base::Result<> result;
      if (size_bytes < disk_.medium().size() || size_bytes % spec_.block_size != 0) {
        result = base::fail(base::Errc::invalid_argument, "a disk only grows, by whole blocks");
      } else {
        grown_bytes_ = size_bytes;
      }
      reply_to.post([result, done = std::move(done)]() mutable noexcept { done(result); });
    });
  }
  void use_grown() override { disk_.medium().grow(grown_bytes_); }
  void undo_grow() override {}
  void undo_open() override {}

 private:
  SimWorld& world_;
  SimProcess& process_;
  SimDisk& disk_;
  const io::BackingSpec spec_;
  uint64_t grown_bytes_ = 0;
};

}  // namespace

void SimBackingOpener::open(const io::BackingSpec& spec, io::Loop& reply_to, Opened done) {
  world_.after(world_.between(delay_min_, delay_max_), [this, spec, &reply_to, &process = process_,
                                                        done = std::move(done)]() mutable {
    if (!process.alive()) {
      SimProcess::bury(std::make_shared<Opened>(std::move(done)));
      return;
    }
    reply_to.post([result = open_now(spec), done = std::move(done)]() mutable noexcept {
      done(std::move(result));
    });
  });
}

base::Result<std::shared_ptr<io::Backing>> SimBackingOpener::open_now(const io::BackingSpec& spec) {
  // A memory disk is the process's own and dies with it.
  const bool memory = spec.kind == io::BackingKind::memory;
  const std::string path =
      memory ? fmt::format("memory:{}:{}", process_.name(), world_.events_run()) : spec.path;
  if (spec.size_bytes % spec.block_size != 0) {
    return base::fail(base::Errc::invalid_argument, "size is not a multiple of the block size");
  }
  SimDisk* disk = disks_.find(path);
  if (disk == nullptr) {
    if (spec.kind == io::BackingKind::block) {
      return base::fail(base::Errc::not_found, "no such device", ENOENT);
    }
    DiskOptions options = disks_.defaults();
    options.volatile_cache = options.volatile_cache && !memory;
    disk = &disks_.make(path, spec.size_bytes, options);
  }
  if (spec.size_bytes != 0 && disk->medium().size() > spec.size_bytes) {  // never half grown here
    return base::fail(base::Errc::invalid_argument, "backing is larger than the size configured");
  }
  TRY(disk->lock(process_));
  if (spec.kind != io::BackingKind::block) disk->medium().grow(spec.size_bytes);
  world_.trace("disk {}: opened by {}", path, process_.name());
  return std::make_shared<SimBacking>(world_, process_, *disk, spec);
}

}  // namespace holdfast::sim
