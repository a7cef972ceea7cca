#include "target/state_database.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>

namespace holdfast::target {
namespace {

// SQLite's own file system, except that the last sync of a commit fails: the one that follows the
// sync of the database, after the journal's header was overwritten.
class FailingVfs {
 public:
  FailingVfs() {
    real = sqlite3_vfs_find(nullptr);
    vfs_ = *real;
    vfs_.zName = "failing";
    vfs_.xOpen = open;
    sqlite3_vfs_register(&vfs_, 1);
  }
  FailingVfs(const FailingVfs&) = delete;
  FailingVfs& operator=(const FailingVfs&) = delete;
  ~FailingVfs() {
    sqlite3_vfs_unregister(&vfs_);
    sqlite3_vfs_register(real, 1);
    failures = 0;
  }

  static inline sqlite3_vfs* real = nullptr;
  static inline int failures = 0;  // so many are still to come

 private:
  static int open(sqlite3_vfs*, const char* path, sqlite3_file* file, int flags, int* out_flags) {
    const int code = real->xOpen(real, path, file, flags, out_flags);
    if (code != SQLITE_OK) return code;
    if ((flags & SQLITE_OPEN_MAIN_DB) != 0) wrap(file, database_real, database, sync_database);
    if ((flags & SQLITE_OPEN_MAIN_JOURNAL) != 0) wrap(file, journal_real, journal, sync_journal);
    return code;
  }
  static void wrap(sqlite3_file* file, const sqlite3_io_methods*& methods, sqlite3_io_methods& ours,
                   int (*sync)(sqlite3_file*, int)) {
    methods = file->pMethods;
    ours = *methods;
    ours.xSync = sync;
    file->pMethods = &ours;
  }
  static int sync_database(sqlite3_file* file, int flags) {
    committing = true;
    return database_real->xSync(file, flags);
  }
  static int sync_journal(sqlite3_file* file, int flags) {
    if (std::exchange(committing, false) && failures > 0) {
      --failures;
      return SQLITE_IOERR_FSYNC;
    }
    return journal_real->xSync(file, flags);
  }

  static inline const sqlite3_io_methods* database_real = nullptr;
  static inline const sqlite3_io_methods* journal_real = nullptr;
  static inline sqlite3_io_methods database, journal;
  static inline bool committing = false;
  sqlite3_vfs vfs_;
};

const DiskKey kKey{.name = "csv1", .kind = io::BackingKind::file, .path = "/srv/a"};
const std::vector<uint8_t> kOld{1, 2, 3}, kNew{4, 5};

class StateDatabaseTest : public testing::Test {
 protected:
  StateDatabaseTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-commit-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    EXPECT_TRUE(StateDatabase::create(path()).has_value());
    auto opened = StateDatabase::open(path());
    EXPECT_TRUE(opened.has_value());
    database_ = std::make_unique<StateDatabase>(std::move(*opened));
    identity_ = database_->identify(kKey, random_)->identity;
    EXPECT_TRUE(database_->save_reservations(identity_, kOld).has_value());
  }
  ~StateDatabaseTest() override {
    database_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::string path() const { return directory_ + "/state.db"; }
  StoredDisk after_restart() {
    database_.reset();
    auto opened = StateDatabase::open(path());
    EXPECT_TRUE(opened.has_value()) << opened.error();
    database_ = std::make_unique<StateDatabase>(std::move(*opened));
    const StoredState state = database_->load().value();
    EXPECT_EQ(state.disks.size(), 1u);
    return state.disks.at(0);
  }

  FailingVfs vfs_;
  std::string directory_;
  base::SeededRandom random_{1};
  std::unique_ptr<StateDatabase> database_;
  DiskIdentity identity_{};
};

// An answer says what the next start will find.
TEST_F(StateDatabaseTest, AChangeThatIsOnDiskAlreadyIsCommittedAgain) {
  vfs_.failures = 1;
  EXPECT_TRUE(database_->save_reservations(identity_, kNew).has_value());
  EXPECT_EQ(vfs_.failures, 0);
  EXPECT_EQ(after_restart().reservations, kNew);
}

TEST_F(StateDatabaseTest, WhileThatFailsTooItIsInDoubt) {
  vfs_.failures = 1000;
  const auto saved = database_->save_reservations(identity_, kNew);
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, base::Errc::in_doubt);
  // Also when it is tried again and the row reads as if all were well.
  const auto again = database_->save_reservations(identity_, kNew);
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, base::Errc::in_doubt);
  vfs_.failures = 0;
  EXPECT_TRUE(database_->save_reservations(identity_, kNew).has_value());
  EXPECT_EQ(after_restart().reservations, kNew);
}

TEST_F(StateDatabaseTest, ItIsNotedThatADiskWasServed) {
  EXPECT_EQ(database_->identify(kKey, random_)->served_bytes, 0u);
  EXPECT_TRUE(database_->note_served(identity_, uint64_t{1} << 40).has_value());
  EXPECT_EQ(database_->identify(kKey, random_)->served_bytes, uint64_t{1} << 40);
  const StoredDisk disk = after_restart();
  EXPECT_EQ(disk.served_bytes, uint64_t{1} << 40);
  EXPECT_EQ(disk.identity, identity_);
  EXPECT_EQ(disk.reservations, kOld);
  EXPECT_EQ(database_->note_served({}, 1).error().code, base::Errc::not_found);
}

TEST_F(StateDatabaseTest, RenewedItIsAnotherDisk) {
  ASSERT_TRUE(database_->note_served(identity_, uint64_t{1} << 40).has_value());
  const auto renewed = database_->renew(kKey, random_);
  ASSERT_TRUE(renewed.has_value());
  EXPECT_NE(renewed->identity, identity_);
  EXPECT_EQ(renewed->served_bytes, 0u);
  const StoredDisk disk = after_restart();
  EXPECT_EQ(disk.identity, renewed->identity);
  EXPECT_TRUE(disk.reservations.empty());
  EXPECT_EQ(disk.served_bytes, 0u);
  EXPECT_EQ(database_->save_reservations(identity_, kOld).error().code, base::Errc::not_found);
}

TEST_F(StateDatabaseTest, TheFirstFormatIsBroughtToThisOne) {
  database_.reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &db), SQLITE_OK);
  const char* const older = "ALTER TABLE disk DROP COLUMN served; PRAGMA user_version = 1;";
  ASSERT_EQ(sqlite3_exec(db, older, nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  const StoredDisk disk = after_restart();
  EXPECT_EQ(disk.identity, identity_);
  EXPECT_EQ(disk.reservations, kOld);
  EXPECT_EQ(disk.served_bytes, 0u);
  EXPECT_TRUE(database_->note_served(identity_, uint64_t{1} << 40).has_value());
  EXPECT_EQ(after_restart().served_bytes, uint64_t{1} << 40);
}

}  // namespace
}  // namespace holdfast::target
