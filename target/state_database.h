#pragma once
// The SQLite database behind StateStore. Calls block; one thread at a time.

#include <expected>
#include <string>

#include "common/base/random.h"
#include "common/base/result.h"
#include "target/state_store.h"

struct sqlite3;

namespace holdfast::target {

class StateDatabase {
 public:
  static constexpr int kSchemaVersion = 2;

  // Opens an existing database and checks all of it.
  static std::expected<StateDatabase, std::string> open(const std::string& path);
  // Makes an empty one, complete or not at all. The path must not exist.
  static std::expected<void, std::string> create(const std::string& path);

  StateDatabase(StateDatabase&& other) noexcept;
  StateDatabase& operator=(StateDatabase&&) = delete;
  ~StateDatabase();

  // Its file is still the one at its path: what is written elsewhere is lost at the next start.
  base::Result<> check_in_place();
  base::Result<StoredState> load();
  base::Result<DiskRecord> identify(const DiskKey& key, base::Random& random);
  base::Result<DiskRecord> renew(const DiskKey& key, base::Random& random);
  base::Result<> note_served(const DiskIdentity& identity, uint64_t bytes);
  base::Result<> save_reservations(const DiskIdentity& identity, base::Bytes bytes);
  base::Result<> save_created_disk(const DiskConfig& disk);
  base::Result<> forget_created_disk(const std::string& name);
  base::Result<> save_alua(uint16_t tag, const std::string& state);

 private:
  StateDatabase(sqlite3* db, std::string path) : db_(db), path_(std::move(path)) {}
  base::Result<StoredDisk> find(const DiskIdentity& identity);
  base::Result<> write_reservations(const StoredDisk& disk);
  base::Result<> load_disks(StoredState& state);
  base::Result<> load_created(StoredState& state);
  base::Result<> load_alua(StoredState& state);
  // Logs what SQLite said and turns it into an Error.
  std::unexpected<base::Error> failed(int code);
  std::unexpected<base::Error> damaged(const char* what);

  sqlite3* db_;
  std::string path_;
};

}  // namespace holdfast::target
