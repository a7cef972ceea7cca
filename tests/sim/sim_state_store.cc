#include "tests/sim/sim_state_store.h"

#include <algorithm>
#include <utility>

namespace holdfast::sim {

SimStateStore::SimStateStore(SimWorld& world, SimProcess& process, SimStateStorage& storage,
                             base::Random& random)
    : world_(world), process_(process), storage_(storage), random_(random) {
  world_.watch(*this);
}

SimStateStore::~SimStateStore() { world_.unwatch(*this); }

base::Result<target::StoredState> SimStateStore::load() { return storage_.state; }

void SimStateStore::enqueue(Change change, io::Loop& reply_to, Done done,
                            std::optional<target::DiskIdentity> reservations_of) {
  if (queue_.size() >= target::kMaxQueuedSaves) {
    reply_to.post([done = std::move(done)]() mutable noexcept {
      done(base::fail(base::Errc::limit, "too many saves are queued"));
    });
    return;
  }
  queue_.push_back({std::move(change), &reply_to, std::move(done), reservations_of});
  begin_next();
}

void SimStateStore::begin_next() {
  if (busy_ || queue_.empty()) return;
  busy_ = true;
  // The store dies with its process, which this event may outlive.
  world_.after(world_.between(storage_.delay_min, storage_.delay_max), [this, &process = process_] {
    if (process.alive()) carry_out();
  });
}

void SimStateStore::carry_out() {
  busy_ = false;
  Save save = std::move(queue_.front());
  queue_.pop_front();
  base::Result<> result;
  if (storage_.full) {
    ++storage_.failed_saves;
    result = base::fail(base::Errc::no_space, "the state directory's file system is full");
  } else if (doubts(save)) {
    if (random_.below(2) == 0) (void)save.change(storage_.state);
    result = base::fail(base::Errc::in_doubt, "the journal could not be synced");
  } else if (storage_.forgets) {
    target::StoredState lost = storage_.state;
    result = save.change(lost);
  } else {
    result = save.change(storage_.state);
  }
  world_.trace("store of {}: save -> {}", process_.name(), result.has_value());
  save.reply_to->post([result, done = std::move(save.done)]() mutable noexcept { done(result); });
  begin_next();
}

bool SimStateStore::doubts(const Save& save) {
  constexpr int kInARow = 2;  // the caller's deadline must not be reached
  if (!save.reservations_of || !storage_.doubtful) return false;
  int& in_a_row = doubts_in_a_row_[*save.reservations_of];
  if (in_a_row == kInARow || random_.below(2) == 0) {
    in_a_row = 0;
    return false;
  }
  ++in_a_row;
  return true;
}

void SimStateStore::on_process_ended(SimProcess& process, bool) {
  if (&process != &process_) return;
  while (!queue_.empty() && random_.below(2) == 0 && !storage_.full) {
    world_.trace("store of {}: a save of the dead is kept", process_.name());
    (void)queue_.front().change(storage_.state);
    SimProcess::bury(std::make_shared<Save>(std::move(queue_.front())));
    queue_.pop_front();
  }
}

void SimStateStore::identify(target::DiskKey key, io::Loop& reply_to, Identified done) {
  identify(std::move(key), false, reply_to, std::move(done));
}

void SimStateStore::renew(target::DiskKey key, io::Loop& reply_to, Identified done) {
  identify(std::move(key), true, reply_to, std::move(done));
}

void SimStateStore::identify(target::DiskKey key, bool anew, io::Loop& reply_to, Identified done) {
  target::DiskIdentity fresh{};
  random_.fill(fresh);
  auto record = std::make_shared<target::DiskRecord>();
  enqueue(
      [key, anew, fresh, record](target::StoredState& state) -> base::Result<> {
        if (anew) std::erase_if(state.disks, [&](const auto& disk) { return disk.key == key; });
        auto found = std::ranges::find(state.disks, key, &target::StoredDisk::key);
        if (found == state.disks.end()) {
          state.disks.push_back({.key = key, .identity = fresh, .reservations = {}});
          found = std::prev(state.disks.end());
        }
        *record = {.identity = found->identity, .served_bytes = found->served_bytes};
        return {};
      },
      reply_to,
      [record, done = std::move(done)](base::Result<> result) mutable noexcept {
        if (result) {
          done(*record);
        } else {
          done(std::unexpected(result.error()));
        }
      });
}

void SimStateStore::note_served(const target::DiskIdentity& identity, uint64_t bytes,
                                io::Loop& reply_to, Done done) {
  enqueue(
      [identity, bytes](target::StoredState& state) -> base::Result<> {
        const auto found = std::ranges::find(state.disks, identity, &target::StoredDisk::identity);
        if (found == state.disks.end()) {
          return base::fail(base::Errc::not_found, "no disk has this identity");
        }
        found->served_bytes = bytes;
        return {};
      },
      reply_to, std::move(done));
}

void SimStateStore::save_reservations(const target::DiskIdentity& identity,
                                      std::vector<uint8_t> bytes, io::Loop& reply_to, Done done) {
  enqueue(
      [identity, bytes = std::move(bytes)](target::StoredState& state) -> base::Result<> {
        const auto found = std::ranges::find(state.disks, identity, &target::StoredDisk::identity);
        if (found == state.disks.end()) {
          return base::fail(base::Errc::not_found, "no disk has this identity");
        }
        found->reservations = bytes;
        return {};
      },
      reply_to, std::move(done), identity);
}

void SimStateStore::save_created_disk(target::DiskConfig disk, io::Loop& reply_to, Done done) {
  enqueue(
      [disk = std::move(disk)](target::StoredState& state) -> base::Result<> {
        std::erase_if(state.created_disks, [&](const auto& old) { return old.name == disk.name; });
        state.created_disks.push_back(disk);
        return {};
      },
      reply_to, std::move(done));
}

void SimStateStore::forget_created_disk(std::string name, io::Loop& reply_to, Done done) {
  enqueue(
      [name = std::move(name)](target::StoredState& state) -> base::Result<> {
        std::erase_if(state.created_disks, [&](const auto& disk) { return disk.name == name; });
        return {};
      },
      reply_to, std::move(done));
}

void SimStateStore::save_alua(uint16_t portal_group_tag, std::string alua, io::Loop& reply_to,
                              Done done) {
  enqueue(
      [portal_group_tag, alua = std::move(alua)](target::StoredState& state) -> base::Result<> {
        state.alua[portal_group_tag] = alua;
        return {};
      },
      reply_to, std::move(done));
}

}  // namespace holdfast::sim
