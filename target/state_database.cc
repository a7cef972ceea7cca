#include "target/state_database.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "target/config_values.h"

namespace holdfast::target {
namespace {

using base::Errc;
using base::fail;
using base::Result;

constexpr const char* kLog = "state";
constexpr int kApplicationId = 0x48465447;  // "HFTG"

// STRICT: a value of another type is refused rather than stored. The checksum covers the row; it
// finds what SQLite's own page checks cannot.
constexpr const char* kSchema = R"(
BEGIN;
CREATE TABLE disk(
  name TEXT NOT NULL, kind TEXT NOT NULL, path TEXT NOT NULL,
  uuid BLOB NOT NULL UNIQUE, reservations BLOB NOT NULL, checksum INTEGER NOT NULL,
  served INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(name, kind, path)) STRICT;
CREATE TABLE created_disk(
  name TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL,
  thin INTEGER NOT NULL, block_size INTEGER NOT NULL, physical_block_size INTEGER NOT NULL,
  read_only INTEGER NOT NULL, removable INTEGER NOT NULL, write_cache INTEGER) STRICT;
CREATE TABLE alua(tag INTEGER NOT NULL PRIMARY KEY, state TEXT NOT NULL) STRICT;
PRAGMA application_id = 1212568647;
PRAGMA user_version = 2;
COMMIT;
)";
static_assert(kApplicationId == 1212568647 && StateDatabase::kSchemaVersion == 2);

// Format 1 did not note whether a disk's data was ever there. `served` is in bytes; 1, from before
// that: some.
constexpr const char* kFromFormat1 = R"(
BEGIN;
ALTER TABLE disk ADD COLUMN served INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
COMMIT;
)";

// Under an exclusive lock a commit ends with the journal's header overwritten and synced, and the
// journal is deleted when the database is closed; EXTRA then also syncs the directory.
constexpr const char* kSettings =
    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;"
    "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";

class Statement {
 public:
  Statement(sqlite3* db, const std::string& sql) {
    code_ = sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  Statement& bind(const std::string& text) {
    const int length = static_cast<int>(text.size());
    return bound(sqlite3_bind_text(statement_, ++column_, text.data(), length, SQLITE_STATIC));
  }
  Statement& bind(std::string_view text) {
    const int length = static_cast<int>(text.size());
    return bound(sqlite3_bind_text(statement_, ++column_, text.data(), length, SQLITE_STATIC));
  }
  Statement& bind(base::Bytes bytes) {
    // A null pointer would store NULL, not an empty blob.
    const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
    const int length = static_cast<int>(bytes.size());
    return bound(sqlite3_bind_blob(statement_, ++column_, data, length, SQLITE_STATIC));
  }
  Statement& bind(int64_t value) { return bound(sqlite3_bind_int64(statement_, ++column_, value)); }
  Statement& bind_null() { return bound(sqlite3_bind_null(statement_, ++column_)); }

  // SQLITE_ROW, SQLITE_DONE or an error.
  int step() {
    errno = 0;  // failed() looks at it: sqlite3_system_errno() is not set when a commit fails
    return code_ == SQLITE_OK ? sqlite3_step(statement_) : code_;
  }

  std::string text(int column) {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return bytes == nullptr ? std::string{} : std::string(bytes, length(column));
  }
  base::Bytes blob(int column) {
    return {static_cast<const uint8_t*>(sqlite3_column_blob(statement_, column)), length(column)};
  }
  int64_t integer(int column) { return sqlite3_column_int64(statement_, column); }
  bool null(int column) { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

 private:
  size_t length(int column) {
    return static_cast<size_t>(sqlite3_column_bytes(statement_, column));
  }
  Statement& bound(int code) {
    if (code_ == SQLITE_OK) code_ = code;
    return *this;
  }

  sqlite3_stmt* statement_ = nullptr;
  int code_ = SQLITE_OK;
  int column_ = 0;
};

uint32_t checksum(const StoredDisk& disk) {
  base::Crc32c crc;
  const std::string header =
      fmt::format("{}:{}{}:{}:{}", disk.key.name.size(), disk.key.name, to_string(disk.key.kind),
                  disk.key.path.size(), disk.key.path);
  crc.update(base::as_bytes(std::string_view(header)));
  crc.update(disk.identity);
  crc.update(disk.reservations);
  return crc.value();
}

DiskIdentity random_identity(base::Random& random) {
  DiskIdentity identity{};
  random.fill(identity);
  identity[6] = static_cast<uint8_t>((identity[6] & 0x0f) | 0x40);  // RFC 9562 5.4
  identity[8] = static_cast<uint8_t>((identity[8] & 0x3f) | 0x80);
  return identity;
}

constexpr const char* kSelectDisk =
    "SELECT name, kind, path, uuid, reservations, checksum, served FROM disk ";

// Of kSelectDisk. Nothing when the row is not as written.
std::optional<StoredDisk> disk_row(Statement& row) {
  StoredDisk disk;
  disk.key.name = row.text(0);
  disk.key.path = row.text(2);
  const auto kind = backing_kind_of(row.text(1));
  const base::Bytes uuid = row.blob(3);
  if (!kind || uuid.size() != disk.identity.size()) return std::nullopt;
  disk.key.kind = *kind;
  std::copy(uuid.begin(), uuid.end(), disk.identity.begin());
  const base::Bytes reservations = row.blob(4);
  disk.reservations.assign(reservations.begin(), reservations.end());
  if (row.integer(5) != int64_t{checksum(disk)}) return std::nullopt;
  disk.served_bytes = static_cast<uint64_t>(std::max<int64_t>(row.integer(6), 0));
  return disk;
}

std::unexpected<std::string> unusable(const std::string& path, std::string_view why) {
  return std::unexpected(fmt::format(
      "the state database {} cannot be used: {}. It holds disk identities and reservations, so the "
      "target does not start without it: restore the file from a backup, or, to start with new "
      "identities and no reservations, first shut down every initiator and then move the whole "
      "state directory away",
      path, why));
}

std::expected<int64_t, std::string> pragma(sqlite3* db, const char* sql) {
  Statement statement(db, sql);
  if (statement.step() != SQLITE_ROW) return std::unexpected(std::string(sqlite3_errmsg(db)));
  return statement.integer(0);
}

// What is wrong with an open database; empty: nothing.
std::string content_problem(sqlite3* db) {
  if (sqlite3_exec(db, kSettings, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return sqlite3_errmsg(db);
  }
  const auto application = pragma(db, "PRAGMA application_id");
  if (!application) return application.error();
  if (*application != kApplicationId) return "it is not a state database of this target";
  const auto version = pragma(db, "PRAGMA user_version");
  if (!version) return version.error();
  if (*version > StateDatabase::kSchemaVersion) {
    return fmt::format(
        "it was written by a newer version of this program (format {}, known here: "
        "{}): use that version",
        *version, StateDatabase::kSchemaVersion);
  }
  if (*version < 1) return fmt::format("its format {} is unknown", *version);
  // With locking_mode = EXCLUSIVE the lock stays. Another process cannot be here unless somebody
  // has deleted the lock file.
  if (sqlite3_exec(db, "BEGIN EXCLUSIVE; COMMIT", nullptr, nullptr, nullptr) != SQLITE_OK) {
    return fmt::format("another process has it open ({})", sqlite3_errmsg(db));
  }
  Statement check(db, "PRAGMA integrity_check(1)");
  if (check.step() != SQLITE_ROW) return sqlite3_errmsg(db);
  const std::string verdict = check.text(0);
  if (verdict != "ok") return "it is damaged: " + verdict;
  if (*version == 1 && sqlite3_exec(db, kFromFormat1, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return fmt::format("it cannot be brought to format {}: {}", StateDatabase::kSchemaVersion,
                       sqlite3_errmsg(db));
  }
  return {};
}

}  // namespace

DiskKey key_of(const DiskConfig& disk) {
  return {.name = disk.name,
          .kind = disk.backing.kind,
          .path = disk.backing.path.empty() ? "" : normal_path(disk.backing.path)};
}

std::expected<StateDatabase, std::string> StateDatabase::open(const std::string& path) {
  struct stat info{};
  // SQLite takes an empty file for a new database; ours is renamed into place complete.
  if (::stat(path.c_str(), &info) == 0 && info.st_size == 0) {
    return unusable(path, "it is damaged: the file is empty");
  }
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE, nullptr);
  StateDatabase database(db, path);
  if (code != SQLITE_OK) return unusable(path, sqlite3_errstr(code));
  const std::string problem = content_problem(db);
  if (!problem.empty()) return unusable(path, problem);
  return database;
}

std::expected<void, std::string> StateDatabase::create(const std::string& path) {
  const std::string fresh = path + ".new";
  const std::string journal = fresh + "-journal";
  ::unlink(fresh.c_str());
  ::unlink(journal.c_str());
  sqlite3* db = nullptr;
  int code =
      sqlite3_open_v2(fresh.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  if (code == SQLITE_OK) code = sqlite3_exec(db, kSettings, nullptr, nullptr, nullptr);
  if (code == SQLITE_OK) code = sqlite3_exec(db, kSchema, nullptr, nullptr, nullptr);
  const std::string why = db == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db);
  sqlite3_close(db);
  if (code == SQLITE_OK && ::chmod(fresh.c_str(), 0600) == 0 &&
      ::rename(fresh.c_str(), path.c_str()) == 0) {
    return {};
  }
  const std::string reason = code == SQLITE_OK ? std::strerror(errno) : why;
  ::unlink(fresh.c_str());
  ::unlink(journal.c_str());
  return std::unexpected(fmt::format("cannot create the state database {}: {}", path, reason));
}

StateDatabase::StateDatabase(StateDatabase&& other) noexcept
    : db_(std::exchange(other.db_, nullptr)), path_(std::move(other.path_)) {}

StateDatabase::~StateDatabase() { sqlite3_close(db_); }

std::unexpected<base::Error> StateDatabase::failed(int code) {
  const int primary = code & 0xff;
  const int sys = primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN ? errno : 0;
  LOG_LIMITED(error, kLog, "state database: file={} error=\"{}\" errno={}", path_,
              sqlite3_errmsg(db_), sys);
  const bool full = primary == SQLITE_FULL || sys == ENOSPC || sys == EDQUOT || sys == EFBIG;
  if (full) {
    return fail(Errc::no_space, "the state directory's file system is full: free some space", sys);
  }
  switch (primary) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return fail(Errc::corrupt, "the state database is damaged: restore it from a backup");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return fail(Errc::busy, "another program has the state database open: close it");
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return fail(Errc::permission, "the state database cannot be written: look at its file", sys);
    case SQLITE_CONSTRAINT:
      return fail(Errc::exists, "the state database has such an entry already");
    default:
      return fail(Errc::io, "the state database cannot be read or written: see the log", sys);
  }
}

Result<> StateDatabase::check_in_place() {
  int moved = 0;
  const int code = sqlite3_file_control(db_, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  if (code != SQLITE_OK || moved == 0) return {};
  LOG_LIMITED(error, kLog, "state database: file={} error=\"it was moved or deleted\"", path_);
  return fail(Errc::io,
              "the state database was moved or deleted while it is in use: put it back, or restart "
              "the target");
}

std::unexpected<base::Error> StateDatabase::damaged(const char* what) {
  LOG_ERROR(kLog, "state database is damaged: file={} what=\"{}\"", path_, what);
  return fail(Errc::corrupt, what);
}

Result<StoredState> StateDatabase::load() {
  StoredState state;
  TRY(load_disks(state));
  TRY(load_created(state));
  TRY(load_alua(state));
  return state;
}

Result<> StateDatabase::load_disks(StoredState& state) {
  Statement row(db_, kSelectDisk + std::string("ORDER BY 1"));
  int code = row.step();
  for (; code == SQLITE_ROW; code = row.step()) {
    std::optional<StoredDisk> disk = disk_row(row);
    if (!disk) {
      return damaged(
          "a disk's identity in the state database is damaged: restore the file from a "
          "backup");
    }
    state.disks.push_back(std::move(*disk));
  }
  if (code != SQLITE_DONE) return failed(code);
  return {};
}

Result<> StateDatabase::load_created(StoredState& state) {
  Statement row(db_,
                "SELECT name, kind, path, size, thin, block_size, physical_block_size, read_only, "
                "removable, write_cache FROM created_disk ORDER BY 1");
  int code = row.step();
  for (; code == SQLITE_ROW; code = row.step()) {
    DiskConfig disk;
    disk.name = row.text(0);
    const auto kind = backing_kind_of(row.text(1));
    disk.backing.path = row.text(2);
    disk.backing.size_bytes = static_cast<uint64_t>(row.integer(3));
    disk.backing.thin = row.integer(4) != 0;
    disk.backing.block_size = static_cast<uint32_t>(row.integer(5));
    disk.backing.physical_block_size = static_cast<uint32_t>(row.integer(6));
    disk.backing.read_only = row.integer(7) != 0;
    disk.removable = row.integer(8) != 0;
    if (!row.null(9)) disk.write_cache = row.integer(9) != 0;
    if (kind) disk.backing.kind = *kind;
    if (!kind || !disk_problems(disk).empty()) {
      return damaged(
          "a disk created by the command line is stored wrong in the state database: "
          "restore the file from a backup");
    }
    state.created_disks.push_back(std::move(disk));
  }
  if (code != SQLITE_DONE) return failed(code);
  return {};
}

Result<> StateDatabase::load_alua(StoredState& state) {
  Statement row(db_, "SELECT tag, state FROM alua");
  int code = row.step();
  for (; code == SQLITE_ROW; code = row.step()) {
    const int64_t tag = row.integer(0);
    if (tag < 1 || tag > 65535) {
      return damaged(
          "an ALUA state in the state database is damaged: restore the file from a "
          "backup");
    }
    state.alua[static_cast<uint16_t>(tag)] = row.text(1);
  }
  if (code != SQLITE_DONE) return failed(code);
  return {};
}

Result<DiskRecord> StateDatabase::identify(const DiskKey& key, base::Random& random) {
  Statement row(db_, kSelectDisk + std::string("WHERE name = ? AND kind = ? AND path = ?"));
  const int code = row.bind(key.name).bind(to_string(key.kind)).bind(key.path).step();
  if (code == SQLITE_DONE) return renew(key, random);
  if (code != SQLITE_ROW) return failed(code);
  const std::optional<StoredDisk> disk = disk_row(row);
  if (!disk) return damaged("the disk's identity in the state database is damaged");
  return DiskRecord{.identity = disk->identity, .served_bytes = disk->served_bytes};
}

Result<DiskRecord> StateDatabase::renew(const DiskKey& key, base::Random& random) {
  StoredDisk made;
  made.key = key;
  made.identity = random_identity(random);
  // An identity that another disk has is refused, not taken from it.
  Statement insert(db_,
                   "INSERT INTO disk VALUES(?, ?, ?, ?, x'', ?, 0) ON CONFLICT(name, kind, path) "
                   "DO UPDATE SET uuid = excluded.uuid, reservations = x'', "
                   "checksum = excluded.checksum, served = 0");
  const int code = insert.bind(key.name)
                       .bind(to_string(key.kind))
                       .bind(key.path)
                       .bind(base::Bytes(made.identity))
                       .bind(int64_t{checksum(made)})
                       .step();
  if (code != SQLITE_DONE) return failed(code);
  LOG_INFO(kLog, "new disk identity: disk={} kind={} path={}", key.name, to_string(key.kind),
           key.path);
  return DiskRecord{.identity = made.identity};
}

Result<> StateDatabase::note_served(const DiskIdentity& identity, uint64_t bytes) {
  Statement update(db_, "UPDATE disk SET served = ? WHERE uuid = ?");
  const int code = update.bind(static_cast<int64_t>(bytes)).bind(base::Bytes(identity)).step();
  if (code != SQLITE_DONE) return failed(code);
  if (sqlite3_changes(db_) == 0) return fail(Errc::not_found, "no disk has this identity");
  return {};
}

Result<StoredDisk> StateDatabase::find(const DiskIdentity& identity) {
  Statement row(db_, kSelectDisk + std::string("WHERE uuid = ?"));
  const int code = row.bind(base::Bytes(identity)).step();
  if (code == SQLITE_DONE) return fail(Errc::not_found, "no disk has this identity");
  if (code != SQLITE_ROW) return failed(code);
  std::optional<StoredDisk> disk = disk_row(row);
  if (!disk) return damaged("the disk's identity in the state database is damaged");
  return std::move(*disk);
}

Result<> StateDatabase::save_reservations(const DiskIdentity& identity, base::Bytes bytes) {
  if (bytes.size() > kMaxReservationBytes) {
    return fail(Errc::limit, "the reservations of one disk are larger than 1 MiB");
  }
  TRY_ASSIGN(StoredDisk disk, find(identity));
  const bool same = std::ranges::equal(disk.reservations, bytes);  // as far as can be read
  disk.reservations.assign(bytes.begin(), bytes.end());
  const auto written = write_reservations(disk);
  if (written.has_value()) return {};
  // A commit can fail when all is written but the last sync, which makes the end of the journal
  // durable. The old row read back is certain (SQLite took the change back, or will again whenever
  // the journal shows); the new one is so only after another commit.
  const Result<StoredDisk> now = find(identity);
  const bool undone = now.has_value() && now->reservations != disk.reservations;
  if (undone && !same) return written;
  if (now.has_value() && !undone && write_reservations(disk).has_value()) return {};
  return fail(Errc::in_doubt, "whether the reservations are stored is not known: see the log",
              written.error().sys);
}

// A commit of its own also when the row reads as it should: SQLite does not write a row that would
// not change, so it is changed twice.
Result<> StateDatabase::write_reservations(const StoredDisk& disk) {
  const auto step = [this](const char* sql) { return Statement(db_, sql).step(); };
  int code = step("BEGIN IMMEDIATE");
  if (code == SQLITE_DONE) {
    Statement touch(db_, "UPDATE disk SET checksum = checksum + 1 WHERE uuid = ?");
    code = touch.bind(base::Bytes(disk.identity)).step();
  }
  if (code == SQLITE_DONE) {
    Statement update(db_, "UPDATE disk SET reservations = ?, checksum = ? WHERE uuid = ?");
    code = update.bind(base::Bytes(disk.reservations))
               .bind(int64_t{checksum(disk)})
               .bind(base::Bytes(disk.identity))
               .step();
  }
  if (code == SQLITE_DONE) code = step("COMMIT");
  if (code == SQLITE_DONE) return {};
  const auto failure = failed(code);
  if (sqlite3_get_autocommit(db_) == 0) step("ROLLBACK");
  return failure;
}

Result<> StateDatabase::save_created_disk(const DiskConfig& disk) {
  Statement insert(db_, "INSERT OR REPLACE INTO created_disk VALUES(?,?,?,?,?,?,?,?,?,?)");
  insert.bind(disk.name)
      .bind(to_string(disk.backing.kind))
      .bind(disk.backing.path)
      .bind(static_cast<int64_t>(disk.backing.size_bytes))
      .bind(int64_t{disk.backing.thin})
      .bind(int64_t{disk.backing.block_size})
      .bind(int64_t{disk.backing.physical_block_size})
      .bind(int64_t{disk.backing.read_only})
      .bind(int64_t{disk.removable});
  if (disk.write_cache) {
    insert.bind(int64_t{*disk.write_cache});
  } else {
    insert.bind_null();
  }
  if (const int code = insert.step(); code != SQLITE_DONE) return failed(code);
  return {};
}

Result<> StateDatabase::forget_created_disk(const std::string& name) {
  Statement remove(db_, "DELETE FROM created_disk WHERE name = ?");
  if (const int code = remove.bind(name).step(); code != SQLITE_DONE) return failed(code);
  if (sqlite3_changes(db_) == 0) return fail(Errc::not_found, "no such disk was created");
  return {};
}

Result<> StateDatabase::save_alua(uint16_t tag, const std::string& state) {
  Statement insert(db_, "INSERT OR REPLACE INTO alua VALUES(?, ?)");
  const int code = insert.bind(int64_t{tag}).bind(state).step();
  if (code != SQLITE_DONE) return failed(code);
  return {};
}

}  // namespace holdfast::target
