#pragma once
// What the target must remember over restarts and power loss: docs/operations.md, "State".

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/base/result.h"
#include "common/io/loop.h"
#include "target/config.h"

namespace holdfast::target {

using DiskIdentity = std::array<uint8_t, 16>;  // an RFC 9562 version 4 uuid

// An identity belongs to a name and the place of its data together. A disk that is renamed, or
// whose path changes, therefore gets a new identity and never that of the disk that was called so,
// or lay there, before: initiators must not take other data for what they cached and reserved.
// With the old name and path the old identity comes back.
struct DiskKey {
  std::string name;
  io::BackingKind kind = io::BackingKind::file;
  std::string path;
  bool operator==(const DiskKey&) const = default;
};
DiskKey key_of(const DiskConfig& disk);

struct StoredDisk {
  DiskKey key;
  DiskIdentity identity{};
  std::vector<uint8_t> reservations;  // as last saved; empty: none
  uint64_t served_bytes = 0;          // of its file; 0: its data was never there
};

struct DiskRecord {
  DiskIdentity identity{};
  uint64_t served_bytes = 0;  // as in StoredDisk
};

struct StoredState {
  std::vector<StoredDisk> disks;
  std::vector<DiskConfig> created_disks;  // by `holdfast target disk create`
  std::map<uint16_t, std::string> alua;   // portal group tag -> state
};

inline constexpr size_t kMaxReservationBytes = 1 << 20;
inline constexpr size_t kMaxQueuedSaves = 1024;  // all disks together; more is Errc::limit

// Saves are carried out in the order of the calls, and `done` is posted to the loop exactly once,
// after the change is on stable media. Calls may come from any thread. Every loop named must live
// until the store is destroyed; the destructor finishes what is queued.
// On failure nothing of that call is stored: Errc::no_space when the file system is full,
// Errc::limit when the queue is, Errc::io, Errc::corrupt. Errc::in_doubt (save_reservations only):
// the medium failed so late that either state may show after a power loss; saving again decides.
class StateStore {
 public:
  using Done = std::move_only_function<void(base::Result<>) noexcept>;
  using Identified = std::move_only_function<void(base::Result<DiskRecord>) noexcept>;

  virtual ~StateStore() = default;
  // Blocks. At start, before the loops run.
  virtual base::Result<StoredState> load() = 0;
  // The disk's identity; created at random, and stored, when it has none yet.
  virtual void identify(DiskKey key, io::Loop& reply_to, Identified done) = 0;
  // A new identity without reservations, instead of the one it has: its data is gone.
  virtual void renew(DiskKey key, io::Loop& reply_to, Identified done) = 0;
  // Errc::not_found for an identity that the store did not give out.
  virtual void note_served(const DiskIdentity& identity, uint64_t bytes, io::Loop& reply_to,
                           Done done) = 0;
  // Errc::not_found for an identity that the store did not give out.
  virtual void save_reservations(const DiskIdentity& identity, std::vector<uint8_t> bytes,
                                 io::Loop& reply_to, Done done) = 0;
  virtual void save_created_disk(DiskConfig disk, io::Loop& reply_to, Done done) = 0;
  // Its identity and reservations stay, for the case that it comes back.
  virtual void forget_created_disk(std::string name, io::Loop& reply_to, Done done) = 0;
  virtual void save_alua(uint16_t portal_group_tag, std::string state, io::Loop& reply_to,
                         Done done) = 0;
};

struct StateStoreOptions {
  std::string state_dir;  // created if absent
  // A killed process holds its lock until its last request in the kernel has ended.
  std::chrono::milliseconds lock_wait{5000};
};

// The store of production: SQLite in state_dir. The error is for the administrator: what, why, what
// to do. `random` must outlive the store; it is used on the store's own thread only.
std::expected<std::unique_ptr<StateStore>, std::string> open_state_store(
    const StateStoreOptions& options, base::Random& random);

}  // namespace holdfast::target
