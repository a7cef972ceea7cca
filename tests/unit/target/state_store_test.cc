#include "target/state_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <semaphore>

namespace holdfast::target {
namespace {

using base::Errc;
using base::Result;
using testing::HasSubstr;

// Runs what is posted on the thread of the test.
class PostLoop final : public io::Loop {
 public:
  io::Instant now() const override { return {}; }
  void start(io::Timer&, io::Duration) override {}
  void stop(io::Timer&) override {}
  void complete_soon(io::Op&, int32_t) override {}
  void at_turn_end(io::Op&) override {}
  void post(io::Task task) override {
    const std::lock_guard guard(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_one();
  }
  void run_one() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !tasks_.empty(); });
    io::Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
  }
  size_t pending() {
    const std::lock_guard guard(mutex_);
    return tasks_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<io::Task> tasks_;
};

// Holds up whoever posts to it.
class StandingLoop final : public io::Loop {
 public:
  io::Instant now() const override { return {}; }
  void start(io::Timer&, io::Duration) override {}
  void stop(io::Timer&) override {}
  void complete_soon(io::Op&, int32_t) override {}
  void at_turn_end(io::Op&) override {}
  void post(io::Task) override {
    posting_.release();
    go_on_.acquire();
  }
  void wait_until_posting() { posting_.acquire(); }
  void go_on() { go_on_.release(); }

 private:
  std::binary_semaphore posting_{0}, go_on_{0};
};

class StateStoreTest : public testing::Test {
 protected:
  StateStoreTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-state-XXXXXX");
    directory_ = ::mkdtemp(pattern.data());
  }
  ~StateStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::expected<std::unique_ptr<StateStore>, std::string> try_open() {
    return open_state_store({.state_dir = directory_, .lock_wait = std::chrono::milliseconds(0)},
                            random_);
  }
  void reopen() {
    store_.reset();
    auto opened = try_open();
    ASSERT_TRUE(opened.has_value()) << opened.error();
    store_ = std::move(*opened);
  }
  std::string open_error() {
    store_.reset();
    auto opened = try_open();
    return opened ? "opened" : opened.error();
  }
  std::string database() const { return directory_ + "/state.db"; }
  void sql(const char* statement) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(database().c_str(), &db), SQLITE_OK);
    char* message = nullptr;
    EXPECT_EQ(sqlite3_exec(db, statement, nullptr, nullptr, &message), SQLITE_OK) << message;
    sqlite3_close(db);
  }

  Result<DiskIdentity> identify(const DiskKey& key) {
    Result<DiskIdentity> out = base::fail(Errc::cancelled, "");
    store_->identify(key, loop_, [&](Result<DiskRecord> result) noexcept {
      if (result.has_value()) {
        out = result->identity;
      } else {
        out = std::unexpected(result.error());
      }
    });
    loop_.run_one();
    return out;
  }
  StateStore::Done into(Result<>& out) {
    return [&out](Result<> result) noexcept { out = result; };
  }
  Result<> save(const DiskIdentity& identity, std::vector<uint8_t> bytes) {
    Result<> out = base::fail(Errc::cancelled, "");
    store_->save_reservations(identity, std::move(bytes), loop_, into(out));
    loop_.run_one();
    return out;
  }
  StoredState load() {
    auto state = store_->load();
    EXPECT_TRUE(state.has_value()) << state.error().what;
    return state ? std::move(*state) : StoredState{};
  }

  std::string directory_;
  base::SeededRandom random_{1};
  PostLoop loop_;
  std::unique_ptr<StateStore> store_;
};

const DiskKey kCsv1{.name = "csv1", .kind = io::BackingKind::file, .path = "/srv/a"};
const DiskKey kCsv2{.name = "csv2", .kind = io::BackingKind::file, .path = "/srv/b"};

TEST_F(StateStoreTest, NewStateIsEmptyAndPrivate) {
  reopen();
  const StoredState state = load();
  EXPECT_TRUE(state.disks.empty());
  EXPECT_TRUE(state.created_disks.empty());
  EXPECT_TRUE(state.alua.empty());
  struct stat info{};
  ASSERT_EQ(::stat(database().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777u, 0600u);
}

TEST_F(StateStoreTest, IdentityIsMadeOnceAndKept) {
  reopen();
  const auto first = identify(kCsv1);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ((*first)[6] & 0xf0, 0x40);
  EXPECT_EQ((*first)[8] & 0xc0, 0x80);
  EXPECT_EQ(identify(kCsv1).value(), first.value());
  reopen();
  EXPECT_EQ(identify(kCsv1).value(), first.value());
  ASSERT_EQ(load().disks.size(), 1u);
  EXPECT_EQ(load().disks[0].key, kCsv1);
}

TEST_F(StateStoreTest, NoDiskEverGetsTheIdentityOfAnother) {
  reopen();
  const auto original = identify(kCsv1);
  DiskKey moved = kCsv1, renamed = kCsv1, converted = kCsv1;
  moved.path = "/srv/elsewhere";
  renamed.name = "csv9";
  converted.kind = io::BackingKind::block;
  std::vector<Result<DiskIdentity>> seen = {original};
  for (const DiskKey& key : {moved, renamed, converted, kCsv2}) {
    const auto identity = identify(key);
    ASSERT_TRUE(identity.has_value());
    for (const auto& other : seen) EXPECT_NE(*identity, *other);
    seen.push_back(identity);
  }
  EXPECT_EQ(identify(kCsv1).value(), original.value());
}

TEST_F(StateStoreTest, EqualIdentityIsRefused) {
  reopen();
  ASSERT_TRUE(identify(kCsv1).has_value());
  store_.reset();
  random_ = base::SeededRandom(1);  // draws the same bytes again
  reopen();
  const auto second = identify(kCsv2);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Errc::exists);
}

TEST_F(StateStoreTest, ReservationsComeBack) {
  reopen();
  const DiskIdentity a = *identify(kCsv1), b = *identify(kCsv2);
  EXPECT_TRUE(save(a, {1, 2, 0, 3}).has_value());
  EXPECT_TRUE(save(b, {9}).has_value());
  EXPECT_TRUE(save(b, {}).has_value());
  EXPECT_TRUE(save(a, {4, 5}).has_value());
  reopen();
  const StoredState state = load();
  ASSERT_EQ(state.disks.size(), 2u);
  EXPECT_EQ(state.disks[0].identity, a);
  EXPECT_EQ(state.disks[0].reservations, (std::vector<uint8_t>{4, 5}));
  EXPECT_TRUE(state.disks[1].reservations.empty());
}

TEST_F(StateStoreTest, ReservationsOfAnUnknownIdentityAreRefused) {
  reopen();
  const auto saved = save(DiskIdentity{1, 2, 3}, {1});
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, Errc::not_found);
  const auto large = save(*identify(kCsv1), std::vector<uint8_t>(kMaxReservationBytes + 1));
  ASSERT_FALSE(large.has_value());
  EXPECT_EQ(large.error().code, Errc::limit);
}

TEST_F(StateStoreTest, SavesAreCarriedOutInOrder) {
  reopen();
  const DiskIdentity a = *identify(kCsv1);
  std::vector<int> order;
  for (int i = 0; i < 20; ++i) {
    store_->save_reservations(a, {static_cast<uint8_t>(i)}, loop_,
                              [&order, i](Result<> r) noexcept {
                                EXPECT_TRUE(r.has_value());
                                order.push_back(i);
                              });
  }
  for (int i = 0; i < 20; ++i) loop_.run_one();
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(order[i], static_cast<int>(i));
  EXPECT_EQ(load().disks[0].reservations, std::vector<uint8_t>{19});
}

TEST_F(StateStoreTest, ClosingFinishesWhatIsQueued) {
  reopen();
  const DiskIdentity a = *identify(kCsv1);
  Result<> last = base::fail(Errc::cancelled, "");
  for (uint8_t i = 0; i < 10; ++i) store_->save_reservations(a, {i}, loop_, into(last));
  store_.reset();
  EXPECT_EQ(loop_.pending(), 10u);
  for (int i = 0; i < 10; ++i) loop_.run_one();
  EXPECT_TRUE(last.has_value());
  reopen();
  EXPECT_EQ(load().disks[0].reservations, std::vector<uint8_t>{9});
}

TEST_F(StateStoreTest, QueueIsBounded) {
  reopen();
  size_t refused = 0, answered = 0;
  const auto count = [&](Result<> result) noexcept {
    ++answered;
    if (result.error().code == Errc::limit) ++refused;
  };
  const DiskIdentity unknown{};  // costs no write
  // The first answer is not taken, so the store's thread stands still and its queue fills.
  StandingLoop standing;
  store_->save_reservations(unknown, {}, standing, [](Result<>) noexcept {});
  standing.wait_until_posting();
  for (size_t i = 0; i < kMaxQueuedSaves; ++i) {
    store_->save_reservations(unknown, {}, loop_, count);
  }
  EXPECT_EQ(loop_.pending(), 0u);
  for (int i = 0; i < 3; ++i) store_->save_reservations(unknown, {}, loop_, count);
  EXPECT_EQ(loop_.pending(), 3u);
  standing.go_on();
  for (size_t i = 0; i < kMaxQueuedSaves + 3; ++i) loop_.run_one();
  EXPECT_EQ(answered, kMaxQueuedSaves + 3);
  EXPECT_EQ(refused, 3u);
}

TEST_F(StateStoreTest, CreatedDisksAndAluaComeBack) {
  reopen();
  DiskConfig disk{.name = "new",
                  .backing = {.path = "/srv/new",
                              .size_bytes = 1 << 20,
                              .thin = false,
                              .block_size = 4096,
                              .read_only = true},
                  .removable = true,
                  .write_cache = true};
  DiskConfig block;
  block.name = "blk";
  block.backing.kind = io::BackingKind::block;
  block.backing.path = "/dev/x";
  Result<> done;
  for (const DiskConfig& d : {disk, block}) {
    store_->save_created_disk(d, loop_, into(done));
    loop_.run_one();
    ASSERT_TRUE(done.has_value());
  }
  disk.backing.size_bytes = 2 << 20;  // as after a resize
  store_->save_created_disk(disk, loop_, into(done));
  store_->save_alua(1, "standby", loop_, into(done));
  store_->save_alua(1, "active/optimized", loop_, into(done));
  store_->save_alua(65535, "unavailable", loop_, into(done));
  for (int i = 0; i < 4; ++i) loop_.run_one();
  reopen();
  StoredState state = load();
  EXPECT_THAT(state.created_disks, testing::ElementsAre(block, disk));
  EXPECT_EQ(state.alua,
            (std::map<uint16_t, std::string>{{1, "active/optimized"}, {65535, "unavailable"}}));
  store_->forget_created_disk("blk", loop_, into(done));
  loop_.run_one();
  EXPECT_TRUE(done.has_value());
  store_->forget_created_disk("blk", loop_, into(done));
  loop_.run_one();
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, Errc::not_found);
  reopen();
  EXPECT_THAT(load().created_disks, testing::ElementsAre(disk));
}

TEST_F(StateStoreTest, TwoStoresNeverShareADirectory) {
  reopen();
  const auto second = try_open();
  ASSERT_FALSE(second.has_value());
  EXPECT_THAT(second.error(), HasSubstr("another holdfast-targetd uses this state directory"));
  store_.reset();
  EXPECT_TRUE(try_open().has_value());
}

TEST_F(StateStoreTest, DamagedDatabaseIsNeverReplaced) {
  reopen();
  ASSERT_TRUE(identify(kCsv1).has_value());
  store_.reset();
  const std::string good = [&] {
    std::ifstream in(database(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  const auto with = [&](const std::string& content) {
    std::ofstream(database(), std::ios::binary) << content;
    const std::string error = open_error();
    EXPECT_THAT(error, HasSubstr(database()));
    EXPECT_THAT(error, HasSubstr("restore"));
    // Untouched, for whoever repairs it.
    EXPECT_EQ(std::filesystem::file_size(database()), content.size());
    return error;
  };
  EXPECT_THAT(with(""), HasSubstr("the file is empty"));
  with("this is not a database at all, but long enough to look like one...");
  with(good.substr(0, 4096));
  with(std::string(good.size(), '\0'));
  std::string torn = good;
  std::fill(torn.begin() + 4096 + 8, torn.begin() + 4096 + 64, '\xff');
  EXPECT_THAT(with(torn), HasSubstr("damaged"));
  std::ofstream(database(), std::ios::binary) << good;
  reopen();
  EXPECT_EQ(load().disks.size(), 1u);
}

TEST_F(StateStoreTest, MissingDatabaseIsNoticed) {
  reopen();
  store_.reset();
  std::filesystem::remove(database());
  EXPECT_THAT(open_error(), HasSubstr("is missing, but this directory had one"));
  EXPECT_FALSE(std::filesystem::exists(database()));
}

TEST_F(StateStoreTest, ChangedRowIsNoticed) {
  reopen();
  const DiskIdentity a = *identify(kCsv1);
  ASSERT_TRUE(save(a, {1, 2, 3}).has_value());
  store_.reset();
  sql("UPDATE disk SET reservations = x'010203ff'");
  reopen();
  const auto state = store_->load();
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code, Errc::corrupt);
  EXPECT_EQ(identify(kCsv1).error().code, Errc::corrupt);
}

TEST_F(StateStoreTest, OtherVersionsAndOtherDatabasesAreRefused) {
  reopen();
  store_.reset();
  sql("PRAGMA user_version = 3");
  EXPECT_THAT(open_error(), HasSubstr("written by a newer version"));
  sql("PRAGMA user_version = 0");
  EXPECT_THAT(open_error(), HasSubstr("its format 0 is unknown"));
  sql("PRAGMA user_version = 2; PRAGMA application_id = 7");
  EXPECT_THAT(open_error(), HasSubstr("not a state database of this target"));
}

TEST_F(StateStoreTest, UnusableDirectory) {
  store_.reset();
  const std::string file = directory_ + "/plain";
  std::ofstream(file) << "x";
  const auto opened = open_state_store({.state_dir = file + "/state"}, random_);
  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error(), HasSubstr("cannot create the state directory"));
}

// The limit makes the kernel refuse to extend files, as a full file system does.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    old_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit before_{};
  sighandler_t old_handler_ = SIG_DFL;
};

TEST_F(StateStoreTest, FullDiskLosesNothing) {
  reopen();
  const DiskIdentity a = *identify(kCsv1);
  ASSERT_TRUE(save(a, {1, 2, 3}).has_value());
  {
    const FileSizeLimit full(std::filesystem::file_size(database()) + 4096);
    const auto saved = save(a, std::vector<uint8_t>(200'000, 7));
    ASSERT_FALSE(saved.has_value());
    EXPECT_EQ(saved.error().code, Errc::no_space);
    EXPECT_EQ(load().disks[0].reservations, (std::vector<uint8_t>{1, 2, 3}));
  }
  EXPECT_TRUE(save(a, std::vector<uint8_t>(200'000, 8)).has_value());
  reopen();
  EXPECT_EQ(load().disks[0].reservations, std::vector<uint8_t>(200'000, 8));
}

TEST_F(StateStoreTest, FullDiskAtCreationLeavesNothing) {
  {
    const FileSizeLimit full(4096);
    EXPECT_THAT(open_error(), HasSubstr("cannot create the state database"));
  }
  reopen();
  EXPECT_TRUE(load().disks.empty());
}

// The child saves growing numbers and says which are acknowledged; it is killed at any moment.
void save_until_killed(const std::string& directory, int out) {
  base::SeededRandom random(1);
  PostLoop loop;
  auto store = open_state_store({.state_dir = directory}, random);
  if (!store) ::_exit(1);
  DiskIdentity identity{};
  (*store)->identify(kCsv1, loop, [&](Result<DiskRecord> r) noexcept { identity = r->identity; });
  loop.run_one();
  for (uint32_t i = 1;; ++i) {
    std::vector<uint8_t> bytes(8192, static_cast<uint8_t>(i));
    std::memcpy(bytes.data(), &i, sizeof(i));
    (*store)->save_reservations(identity, std::move(bytes), loop, [&](Result<> r) noexcept {
      if (!r || ::write(out, &i, sizeof(i)) != sizeof(i)) ::_exit(1);
    });
    loop.run_one();
  }
}

TEST_F(StateStoreTest, KillLosesNothingAcknowledged) {
  for (const uint32_t wanted : {1u, 4u, 9u}) {
    int pipe_fds[2];
    ASSERT_EQ(::pipe(pipe_fds), 0);
    const pid_t child = ::fork();
    if (child == 0) save_until_killed(directory_, pipe_fds[1]);
    ::close(pipe_fds[1]);
    uint32_t acknowledged = 0, value = 0;
    while (acknowledged < wanted && ::read(pipe_fds[0], &value, sizeof(value)) == sizeof(value)) {
      acknowledged = value;
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::read(pipe_fds[0], &value, sizeof(value)) == sizeof(value)) acknowledged = value;
    ::close(pipe_fds[0]);
    ASSERT_GE(acknowledged, wanted);
    reopen();
    const StoredState state = load();
    ASSERT_EQ(state.disks.size(), 1u);
    const std::vector<uint8_t>& bytes = state.disks[0].reservations;
    ASSERT_EQ(bytes.size(), 8192u);
    std::memcpy(&value, bytes.data(), sizeof(value));
    // The next one may have been stored without its acknowledgement having been seen.
    EXPECT_TRUE(value == acknowledged || value == acknowledged + 1) << value << acknowledged;
    for (size_t i = 4; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], static_cast<uint8_t>(value));
    store_.reset();
  }
}

}  // namespace
}  // namespace holdfast::target
