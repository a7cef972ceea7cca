#include "tests/sim/sim_disk.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {
// A transfer lands in at most so many pieces, between which others see a part of it.
constexpr uint64_t kMaxPieces = 3;
}  // namespace

SimDisk::SimDisk(SimWorld& world, std::string path, uint64_t size_bytes, const DiskOptions& options)
    : world_(world),
      path_(std::move(path)),
      options_(options),
      medium_(size_bytes, options.volatile_cache) {}

size_t SimDisk::in_flight_of_dead() const {
  return static_cast<size_t>(std::ranges::count_if(
      requests_, [](const auto& entry) { return !entry.second.process->alive(); }));
}

void SimDisk::hang() {
  world_.trace("disk {}: hangs", path_);
  hanging_ = true;
}

void SimDisk::release() {
  world_.trace("disk {}: released", path_);
  hanging_ = false;
  for (auto& [id, request] : requests_) {
    if (!request.event.valid()) schedule(id, world_.between(0us, options_.delay_max));
  }
}

void SimDisk::submit(Request request) {
  ASSERT(request.offset % kSector == 0 && request.length % kSector == 0);
  ASSERT(request.offset + request.length <= medium_.size());
  request.flush_mark = medium_.mark();
  request.cached = request.cached || options_.flush_lies;
  const uint64_t id = next_request_++;
  requests_.emplace(id, std::move(request));
  const bool slow = world_.chance(options_.slow_per_million);
  schedule(id, slow ? world_.between(options_.slow_min, options_.slow_max)
                    : world_.between(options_.delay_min, options_.delay_max) / 2);
}

void SimDisk::schedule(uint64_t id, Duration delay) {
  requests_.at(id).event = world_.after(delay, [this, id] {
    requests_.at(id).event = {};
    advance(id);
  });
}

void SimDisk::advance(uint64_t id) {
  if (hanging_) return;  // release() goes on with it
  Request& request = requests_.at(id);
  if (!request.started) {
    start(request);
    if (const int32_t error = failure(request); error != 0) {
      // What a failed write left behind is anybody's guess.
      if (error == -EIO && request.kind == Kind::write && world_.random().below(2) == 0) {
        land_part(request);
      }
      end(id, error);
      return;
    }
    schedule(id, world_.between(options_.delay_min, options_.delay_max) / 4);
  } else if (land_part(request)) {
    const bool transfer = request.kind == Kind::read || request.kind == Kind::write;
    end(id, transfer ? static_cast<int32_t>(request.length) : 0);
  } else {
    schedule(id, world_.between(options_.delay_min, options_.delay_max) / 4);
  }
}

void SimDisk::start(Request& request) {
  request.started = true;
  // Pages stay pinned when their process dies, so the data is there although its owner may be gone.
  if (request.data.empty()) {
    request.data.assign(request.write_from.begin(), request.write_from.end());
  }
}

int32_t SimDisk::failure(const Request& request) {
  const bool bad = std::ranges::any_of(bad_ranges_, [&](const Range& range) {
    return request.offset < range.offset + range.length &&
           range.offset < request.offset + request.length;
  });
  if (bad || world_.chance(options_.error_per_million)) return -EIO;
  if (request.kind == Kind::write || request.kind == Kind::zeroes) {
    const uint64_t needed = medium_.new_allocation(request.offset, request.length);
    if (needed > options_.free_bytes) return -ENOSPC;
    options_.free_bytes -= needed;
  }
  return 0;
}

// True: all of it has landed.
bool SimDisk::land_part(Request& request) {
  const uint64_t sectors = (request.length - request.done) / kSector;
  uint64_t part = request.length - request.done;
  if (sectors > 1 && request.length / kSector > 1 && world_.random().below(kMaxPieces) != 0) {
    part = (1 + world_.random().below(sectors)) * kSector;
  }
  const uint64_t at = request.offset + request.done;
  switch (request.kind) {
    case Kind::read:
      if (request.loop->unfinished(request.op)) {
        medium_.read(at, request.read_into.subspan(request.done, part));
      }
      break;
    case Kind::write:
      medium_.write(at, base::Bytes(request.data).subspan(request.done, part), request.cached);
      break;
    case Kind::zeroes:
      medium_.write(at, std::vector<uint8_t>(part), request.cached);
      break;
    case Kind::discard: {
      const uint64_t before = medium_.allocated_bytes();
      medium_.discard(request.offset, request.length, request.cached);
      options_.free_bytes += std::min(before - medium_.allocated_bytes(),
                                      std::numeric_limits<uint64_t>::max() - options_.free_bytes);
      return true;
    }
    case Kind::flush:
      if (!options_.flush_lies) medium_.flush(request.flush_mark);
      return true;
    case Kind::extent:
      if (request.loop->unfinished(request.op)) *request.extent = medium_.extent_at(request.offset);
      return true;
  }
  request.done += part;
  return request.done == request.length;
}

void SimDisk::end(uint64_t id, int32_t result) {
  const auto request = requests_.extract(id);
  Request& ended = request.mapped();
  world_.trace("disk {}: request {} kind {} at {}+{} -> {}{}", path_, id,
               static_cast<int>(ended.kind), ended.offset, ended.length, result,
               ended.process->alive() ? "" : " (of a dead process)");
  ended.loop->finish(ended.op, result);
}

void SimDisk::cancel(SimLoop& loop, uint64_t op) {
  for (auto& [id, request] : requests_) {
    if (request.loop != &loop || request.op != op) continue;
    if (options_.cancel_lies && request.kind != Kind::read) {
      if (request.data.empty()) {
        request.data.assign(request.write_from.begin(), request.write_from.end());
      }
      request.op = 0;
      loop.finish(op, -ECANCELED);
      return;
    }
    // A hanging device gives nothing back, not even what has not started.
    if (request.started || hanging_ || !world_.chance(options_.cancel_per_million)) return;
    world_.cancel(request.event);
    end(id, -ECANCELED);
    return;
  }
}

void SimDisk::process_ended(SimProcess& process, bool power_lost) {
  std::vector<uint64_t> dropped;
  for (auto& [id, request] : requests_) {
    if (request.process != &process) continue;
    // Its memory is about to go; the pages in flight are pinned and stay what they are.
    if (request.data.empty()) {
      request.data.assign(request.write_from.begin(), request.write_from.end());
    }
    // The kernel cancels what it still can; the rest goes on and lands when it lands.
    const bool can_drop = !power_lost && !request.started && !hanging_;
    if (can_drop && world_.chance(options_.cancel_per_million)) dropped.push_back(id);
  }
  for (const uint64_t id : dropped) {
    world_.cancel(requests_.at(id).event);
    end(id, -ECANCELED);
  }
}

void SimDisk::lose_power() {
  world_.trace("disk {}: power lost", path_);
  medium_.lose_power(world_.random());
  for (auto& [id, request] : requests_) {
    ASSERT(!request.process->alive());
    world_.cancel(request.event);
    if (request.kind == Kind::write) medium_.tear(request.offset, request.data, world_.random());
    if (request.kind == Kind::zeroes) {
      medium_.tear(request.offset, std::vector<uint8_t>(request.length), world_.random());
    }
  }
  requests_.clear();
  hanging_ = false;
  lock_holder_ = nullptr;
}

bool SimDisk::locked() const {
  if (lock_holder_ == nullptr) return false;
  if (lock_holder_->alive()) return true;
  return options_.lock_outlives_process &&
         std::ranges::any_of(
             requests_, [this](const auto& entry) { return entry.second.process == lock_holder_; });
}

base::Result<> SimDisk::lock(SimProcess& process) {
  if (locked()) return base::fail(base::Errc::busy, "backing is locked by another process");
  lock_holder_ = &process;
  return {};
}

void SimDisk::unlock(SimProcess& process) {
  ASSERT(lock_holder_ == &process);
  lock_holder_ = nullptr;
}

SimDisks::SimDisks(SimWorld& world) : world_(world) { world_.watch(*this); }

SimDisks::~SimDisks() { world_.unwatch(*this); }

SimDisk* SimDisks::find(const std::string& path) {
  const auto found = disks_.find(path);
  return found == disks_.end() ? nullptr : found->second.get();
}

SimDisk& SimDisks::make(const std::string& path, uint64_t size_bytes, const DiskOptions& options) {
  auto& disk = disks_[path];
  ASSERT(disk == nullptr);
  disk = std::make_unique<SimDisk>(world_, path, size_bytes, options);
  return *disk;
}

void SimDisks::lose_power() {
  for (auto& [path, disk] : disks_) disk->lose_power();
}

void SimDisks::on_process_ended(SimProcess& process, bool power_lost) {
  for (auto& [path, disk] : disks_) disk->process_ended(process, power_lost);
}

}  // namespace holdfast::sim
