#include "tests/sim/shared_lun.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace holdfast::sim {

namespace {

using base::Errc;
using io::ReservationType;
using namespace std::chrono_literals;

constexpr Duration kControlTimeout = 10s;

}  // namespace

// --- the target ---

Duration SharedLun::delay() {
  if (world_.chance(options_.slow_per_million)) return world_.between(1ms, options_.slow_max);
  return world_.between(10us, options_.delay_max);
}

bool SharedLun::may_write(uint64_t nexus) const {
  return type_ == ReservationType::none || keys_.contains(nexus);
}

void SharedLun::write_now(uint64_t offset, base::Bytes bytes) {
  for (size_t at = 0; at < bytes.size(); at += kSector) {
    std::memcpy(medium_[(offset + at) / kSector].data(), bytes.data() + at, kSector);
  }
}

void SharedLun::read_now(uint64_t offset, base::MutableBytes bytes) const {
  for (size_t at = 0; at < bytes.size(); at += kSector) {
    const auto found = medium_.find((offset + at) / kSector);
    if (found == medium_.end()) {
      std::memset(bytes.data() + at, 0, kSector);
    } else {
      std::memcpy(bytes.data() + at, found->second.data(), kSector);
    }
  }
}

void SharedLun::corrupt(uint64_t offset) {
  const auto found = medium_.find(offset / kSector);
  if (found != medium_.end()) found->second[world_.random().below(kSector)] ^= 0x10;
}

void SharedLun::begin_write(std::shared_ptr<Command> command) {
  under_way_.push_back(command);
  world_.after(delay(), [this, command] { arrive(command); });
}

void SharedLun::answer(const std::shared_ptr<Command>& command, int32_t result) {
  std::erase(under_way_, command);
  if (command->answer) command->answer(result);
}

void SharedLun::arrive(const std::shared_ptr<Command>& command) {
  if (std::ranges::find(under_way_, command) == under_way_.end()) return;
  if (!may_write(command->nexus)) return answer(command, -EBADE);
  command->arrived = true;
  world_.after(delay(), [this, command] { land(command); });
}

void SharedLun::land(const std::shared_ptr<Command>& command) {
  if (std::ranges::find(under_way_, command) == under_way_.end()) return;
  base::Bytes bytes = command->bytes;
  // Each sector is written whole or not at all, in their order.
  if (command->dead && world_.chance(options_.torn_per_million)) {
    bytes = bytes.first(world_.random().below(bytes.size() / kSector + 1) * kSector);
    world_.trace("{}: a write is torn after {} bytes", name_, bytes.size());
  }
  write_now(command->offset, bytes);
  if (landed_) landed_(command->nexus, command->offset, bytes);
  if (world_.chance(options_.misdirected_per_million)) {
    world_.trace("{}: a write goes astray", name_);
    write_now(command->offset + 4096, bytes);
  }
  answer(command, static_cast<int32_t>(command->bytes.size()));
}

// What has not arrived finds no registration when it does. What has is executed or dropped, and
// only then the answer comes.
void SharedLun::abort_of(const std::vector<uint64_t>& nexuses, std::function<void()> drained) {
  Duration longest = 0s;
  for (const auto& command : Commands(under_way_)) {
    if (!command->arrived || std::ranges::find(nexuses, command->nexus) == nexuses.end()) continue;
    if (world_.chance(500'000)) {
      answer(command, -ECANCELED);
      continue;
    }
    const Duration rest = world_.between(1us, options_.slow_max);
    longest = std::max(longest, rest);
    world_.after(rest, [this, command] { land(command); });
  }
  world_.after(longest + 1us, std::move(drained));
}

// A login in place of an old session closes its connections: what the target has not read of them,
// it never does.
void SharedLun::drop_unsent_of(uint64_t nexus) {
  for (const auto& command : Commands(under_way_)) {
    if (command->nexus == nexus && command->dead && !command->arrived) answer(command, -ECANCELED);
  }
}

void SharedLun::restart_target() {
  world_.trace("{}: the target restarts", name_);
  ++boots_;
  for (const auto& command : Commands(under_way_)) {
    if (command->arrived && world_.chance(500'000)) {
      land(command);
    } else {
      answer(command, -EIO);
    }
  }
  if (!options_.aptpl) {
    keys_.clear();
    type_ = ReservationType::none;
    generation_ = 0;
  }
  for (SharedLunDevice* device : devices_) device->target_restarted();
}

// --- a node's device ---

SharedLunDevice::SharedLunDevice(SharedLun& lun, SimLoop& loop, uint64_t nexus,
                                 const LunSabotage& sabotage)
    : lun_(lun), loop_(loop), world_(lun.world_), sabotage_(sabotage), nexus_(nexus) {
  lun_.devices_.push_back(this);
  world_.watch(*this);
}

SharedLunDevice::~SharedLunDevice() {
  std::erase(lun_.devices_, this);
  world_.unwatch(*this);
}

// Its commands live on at the target.
void SharedLunDevice::on_process_ended(SimProcess& process, bool) {
  if (&process != &loop_.process()) return;
  for (const auto& command : lun_.under_way_) {
    if (command->nexus == nexus_) command->dead = true;
  }
  std::erase(lun_.devices_, this);
}

// As a multipath device of ours: the loss of a reset unit's registrations is noticed, and nothing
// is written before the owner says so.
void SharedLunDevice::target_restarted() {
  if (!lun_.options_.aptpl && key_ != 0) key_lost_ = true;
}

io::BlockInfo SharedLunDevice::info() const {
  return {.size_bytes = lun_.options_.size_bytes, .block_size = 512};
}

void SharedLunDevice::submit(io::BlockRequest& request) {
  const uint64_t id = loop_.begin(request);
  const Duration timeout = request.timeout > 0s ? request.timeout : Duration(30s);
  if (request.kind == io::BlockRequest::Kind::read) return read(request, id, timeout);
  ASSERT(request.kind == io::BlockRequest::Kind::write);
  write(request, id, timeout);
}

void SharedLunDevice::read(io::BlockRequest& request, uint64_t id, Duration timeout) {
  const Duration time = lun_.delay();
  if (cut_ || time >= timeout) {
    world_.after(timeout, [this, id] { loop_.finish(id, -ETIMEDOUT); });
    return;
  }
  const uint64_t offset = request.offset;
  const iovec part = request.data[0];
  world_.after(time, [this, id, offset, part] {
    if (!loop_.unfinished(id)) return;
    lun_.read_now(offset, {static_cast<uint8_t*>(part.iov_base), part.iov_len});
    loop_.finish(id, static_cast<int32_t>(part.iov_len));
  });
}

void SharedLunDevice::write(io::BlockRequest& request, uint64_t id, Duration timeout) {
  if (key_lost_ && !sabotage_.requeue) {
    world_.after(1us, [this, id] { loop_.finish(id, -EBADE); });
    return;
  }
  const iovec part = request.data[0];
  const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
  auto command = std::make_shared<SharedLun::Command>();
  command->nexus = nexus_;
  command->offset = request.offset;
  command->bytes.assign(bytes, bytes + part.iov_len);
  const bool lost = cut_ || world_.chance(lun_.options_.lost_per_million);
  world_.after(timeout, [this, id] {
    if (loop_.unfinished(id)) loop_.finish(id, -ETIMEDOUT);
  });
  if (cut_ && world_.chance(500'000)) return;  // it did not leave the host
  command->answer = [this, id, lost, command = std::weak_ptr(command)](int32_t result) {
    if (result == -EBADE && sabotage_.requeue) {
      // The fault that this is to show: the write comes back to life.
      world_.after(2us, [this, again = std::make_shared<SharedLun::Command>(*command.lock())] {
        lun_.keys_[nexus_] = key_;
        lun_.fenced_.erase(nexus_);
        again->arrived = false;
        again->answer = nullptr;
        lun_.begin_write(again);
      });
    }
    if (result == -EBADE && loop_.alive()) key_lost_ = true;
    if (!lost && loop_.unfinished(id)) loop_.finish(id, result);
  };
  lun_.begin_write(std::move(command));
}

void SharedLunDevice::answer_soon(Done done, base::Result<> result) {
  loop_.post([result, done = std::move(done)]() mutable noexcept { done(result); });
}

void SharedLunDevice::refuse(Done done) {
  answer_soon(std::move(done), base::fail(Errc::unsupported, "not simulated"));
}

void SharedLunDevice::wait_ghosts(uint64_t offset, uint64_t length, Done done) {
  const bool ghosts = std::ranges::any_of(lun_.under_way_, [&](const auto& command) {
    return command->nexus == nexus_ && command->offset < offset + length;
  });
  if (!ghosts) return answer_soon(std::move(done), {});
  world_.after(50ms, [this, offset, length, done = std::move(done)]() mutable {
    if (loop_.alive()) {
      wait_ghosts(offset, length, std::move(done));
    } else {
      SimProcess::bury(std::make_shared<Done>(std::move(done)));
    }
  });
}

void SharedLunDevice::control(std::function<base::Result<>()> execute, Done done) {
  const bool reached = !cut_;
  auto shared = std::make_shared<Done>(std::move(done));
  const Duration time = reached ? lun_.delay() : kControlTimeout;
  world_.after(time, [this, reached, execute = std::move(execute), shared] {
    base::Result<> result = base::fail(Errc::timed_out, "the target does not answer");
    if (reached) result = execute();
    if (!loop_.alive()) return SimProcess::bury(shared);
    loop_.post([result, shared]() noexcept { (*shared)(result); });
  });
}

void SharedLunDevice::use_key(uint64_t key, Done done) {
  key_ = key;
  auto shared = std::make_shared<Done>(std::move(done));
  auto execute = [this, key]() -> base::Result<> {
    world_.trace("{}: {} registers", lun_.name_, loop_.name());
    if (key == 0) {
      lun_.keys_.erase(nexus_);
    } else {
      lun_.keys_[nexus_] = key;
    }
    lun_.fenced_.erase(nexus_);
    ++lun_.generation_;
    key_lost_ = false;
    return {};
  };
  // The login comes first.
  std::vector<uint64_t> old;
  if (!std::exchange(logged_in_, true) && !cut_) {
    old.push_back(nexus_);
    lun_.drop_unsent_of(nexus_);
  }
  lun_.abort_of(old, [this, execute = std::move(execute), shared] {
    if (!loop_.alive()) return SimProcess::bury(shared);
    control(execute, [shared](base::Result<> result) noexcept { (*shared)(result); });
  });
}

void SharedLunDevice::unregister() {
  lun_.keys_.erase(nexus_);
  if (lun_.holder_ == nexus_) lun_.type_ = ReservationType::none;
}

void SharedLunDevice::verify_key(Done done) {
  control(
      [this]() -> base::Result<> {
        if (lun_.keys_.contains(nexus_)) return {};
        key_lost_ = true;
        return base::fail(Errc::permission, "the key is gone");
      },
      std::move(done));
}

void SharedLunDevice::reserve(ReservationType type, Done done) {
  control(
      [this, type]() -> base::Result<> {
        if (!lun_.keys_.contains(nexus_) ||
            (lun_.type_ != ReservationType::none && lun_.holder_ != nexus_)) {
          return base::fail(Errc::permission, "reservation conflict");
        }
        lun_.type_ = type;
        lun_.holder_ = nexus_;
        return {};
      },
      std::move(done));
}

void SharedLunDevice::preempt_and_abort(uint64_t victim, ReservationType type, Done done) {
  if (lun_.preempting_) lun_.preempting_(nexus_, victim);
  auto shared = std::make_shared<Done>(std::move(done));
  const auto reply = [this, shared](base::Result<> result) {
    if (!loop_.alive()) return SimProcess::bury(shared);
    loop_.post([result, shared]() noexcept { (*shared)(result); });
  };
  const bool reached = !cut_;
  world_.after(reached ? lun_.delay() : kControlTimeout, [this, reached, victim, type, reply] {
    if (!reached) return reply(base::fail(Errc::timed_out, "the target does not answer"));
    std::vector<uint64_t> removed;
    for (const auto& [nexus, key] : lun_.keys_) {
      if (key == victim) removed.push_back(nexus);
    }
    if (!lun_.keys_.contains(nexus_) || removed.empty()) {
      return reply(base::fail(Errc::permission, "reservation conflict"));
    }
    world_.trace("{}: {} ends {} nexuses of key {:x}", lun_.name_, loop_.name(), removed.size(),
                 victim);
    for (const uint64_t nexus : removed) lun_.keys_.erase(nexus);
    ++lun_.generation_;
    if (std::ranges::find(removed, lun_.holder_) != removed.end()) {
      lun_.holder_ = nexus_;
      lun_.type_ = type;
    }
    lun_.abort_of(removed, [this, removed, reply] {
      for (const uint64_t nexus : removed) {
        if (!lun_.keys_.contains(nexus)) lun_.fenced_.insert(nexus);
      }
      reply({});
    });
  });
}

void SharedLunDevice::read_reservations(GotState done) {
  auto state = std::make_shared<io::ReservationState>();
  control(
      [this, state]() -> base::Result<> {
        state->generation = lun_.generation_;
        for (const auto& [nexus, key] : lun_.keys_) {
          if (!sabotage_.hidden || !sabotage_.hidden(key)) state->keys.push_back(key);
        }
        state->type = lun_.type_;
        const auto holder = lun_.keys_.find(lun_.holder_);
        if (lun_.type_ != ReservationType::none && holder != lun_.keys_.end()) {
          state->holder_key = holder->second;
        }
        return {};
      },
      [state, done = std::move(done)](base::Result<> result) mutable noexcept {
        if (result) {
          done(*state);
        } else {
          done(std::unexpected(result.error()));
        }
      });
}

}  // namespace holdfast::sim
