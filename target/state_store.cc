#include "target/state_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>

#include "common/daemon/durable_file.h"
#include "common/daemon/edge_thread.h"
#include "common/io/mutex.h"
#include "target/state_database.h"

namespace holdfast::target {
namespace {

using base::Errc;
using base::Result;

// Written to the lock file once the database exists: a database that vanishes later is noticed.
constexpr std::string_view kInUse = "state.db was created here\n";
constexpr auto kLockRetry = std::chrono::milliseconds(20);

std::string errno_text() { return std::strerror(errno); }

// The directory's lock: held as long as the file is open.
class LockFile {
 public:
  LockFile() = default;
  LockFile(LockFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  LockFile& operator=(LockFile&&) = delete;
  ~LockFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  static std::expected<LockFile, std::string> take(const std::string& path,
                                                   std::chrono::milliseconds wait) {
    LockFile lock;
    lock.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock.fd_ < 0) {
      return std::unexpected(fmt::format("cannot open the lock file {}: {}", path, errno_text()));
    }
    auto left = wait;
    while (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) {
        return std::unexpected(fmt::format("cannot lock {}: {}", path, errno_text()));
      }
      if (left <= std::chrono::milliseconds(0)) {
        return std::unexpected(fmt::format(
            "another holdfast-targetd uses this state directory ({} is locked): stop it, or give "
            "this one a `state_dir` of its own",
            path));
      }
      std::this_thread::sleep_for(kLockRetry);
      left -= kLockRetry;
    }
    return lock;
  }

  bool marked() const {
    char text[kInUse.size()] = {};
    return ::pread(fd_, text, sizeof(text), 0) == static_cast<ssize_t>(sizeof(text)) &&
           std::string_view(text, sizeof(text)) == kInUse;
  }
  bool mark() const {
    return ::pwrite(fd_, kInUse.data(), kInUse.size(), 0) == static_cast<ssize_t>(kInUse.size()) &&
           ::fsync(fd_) == 0;
  }

 private:
  int fd_ = -1;
};

class SqliteStateStore final : public StateStore {
 public:
  SqliteStateStore(LockFile lock, StateDatabase database, base::Random& random)
      : lock_(std::move(lock)), database_(std::move(database)), random_(random) {
    thread_ = daemon::start_edge_thread("hf-state", [this] { run(); });
  }
  ~SqliteStateStore() override {
    {
      const io::MutexLock guard(queue_mutex_);
      stopping_ = true;
    }
    queue_changed_.notify_one();
    thread_.join();
  }

  Result<StoredState> load() override {
    const io::MutexLock guard(database_mutex_);
    return database_.load();
  }

  void identify(DiskKey key, io::Loop& reply_to, Identified done) override {
    enqueue<DiskRecord>(reply_to, std::move(done),
                        [this, key = std::move(key)](StateDatabase& database) {
                          return database.identify(key, random_);
                        });
  }
  void renew(DiskKey key, io::Loop& reply_to, Identified done) override {
    enqueue<DiskRecord>(reply_to, std::move(done),
                        [this, key = std::move(key)](StateDatabase& database) {
                          return database.renew(key, random_);
                        });
  }
  void note_served(const DiskIdentity& identity, uint64_t bytes, io::Loop& reply_to,
                   Done done) override {
    enqueue<void>(reply_to, std::move(done), [identity, bytes](StateDatabase& database) {
      return database.note_served(identity, bytes);
    });
  }
  void save_reservations(const DiskIdentity& identity, std::vector<uint8_t> bytes,
                         io::Loop& reply_to, Done done) override {
    enqueue<void>(reply_to, std::move(done),
                  [identity, bytes = std::move(bytes)](StateDatabase& database) {
                    return database.save_reservations(identity, bytes);
                  });
  }
  void save_created_disk(DiskConfig disk, io::Loop& reply_to, Done done) override {
    enqueue<void>(reply_to, std::move(done), [disk = std::move(disk)](StateDatabase& database) {
      return database.save_created_disk(disk);
    });
  }
  void forget_created_disk(std::string name, io::Loop& reply_to, Done done) override {
    enqueue<void>(reply_to, std::move(done), [name = std::move(name)](StateDatabase& database) {
      return database.forget_created_disk(name);
    });
  }
  void save_alua(uint16_t tag, std::string state, io::Loop& reply_to, Done done) override {
    enqueue<void>(reply_to, std::move(done),
                  [tag, state = std::move(state)](StateDatabase& database) {
                    return database.save_alua(tag, state);
                  });
  }

 private:
  using Job = std::move_only_function<void(StateDatabase&)>;

  template <class T, class Work>
  void enqueue(io::Loop& reply_to, std::move_only_function<void(Result<T>) noexcept> done,
               Work work) {
    const auto reply = [&reply_to](auto callback, Result<T> result) {
      reply_to.post(
          [callback = std::move(callback), result]() mutable noexcept { callback(result); });
    };
    {
      const io::MutexLock guard(queue_mutex_);
      if (queue_.size() < kMaxQueuedSaves) {
        queue_.push_back([reply, done = std::move(done),
                          work = std::move(work)](StateDatabase& database) mutable {
          const base::Result<> there = database.check_in_place();
          reply(std::move(done),
                there.has_value() ? work(database) : std::unexpected(there.error()));
        });
        queue_changed_.notify_one();
        return;
      }
    }
    reply(std::move(done), base::fail(Errc::limit, "too many changes wait for the state database"));
  }

  void run() {
    io::MutexLock lock(queue_mutex_);
    for (;;) {
      while (!stopping_ && queue_.empty()) queue_changed_.wait(lock);
      if (queue_.empty()) return;
      Job job = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      {
        const io::MutexLock guard(database_mutex_);
        job(database_);
      }
      lock.lock();
    }
  }

  LockFile lock_;  // released last: nobody opens the database while it is still open here
  io::Mutex database_mutex_;
  StateDatabase database_ HOLDFAST_GUARDED_BY(database_mutex_);
  base::Random& random_;
  io::Mutex queue_mutex_;
  io::Condition queue_changed_;
  std::deque<Job> queue_ HOLDFAST_GUARDED_BY(queue_mutex_);
  bool stopping_ HOLDFAST_GUARDED_BY(queue_mutex_) = false;
  std::thread thread_;
};

}  // namespace

std::expected<std::unique_ptr<StateStore>, std::string> open_state_store(
    const StateStoreOptions& options, base::Random& random) {
  const std::string& directory = options.state_dir;
  TRY(daemon::make_directory(directory));
  auto lock = LockFile::take(directory + "/lock", options.lock_wait);
  if (!lock) return std::unexpected(std::move(lock.error()));
  const std::string path = directory + "/state.db";
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) {
      return std::unexpected(fmt::format("cannot look at {}: {}", path, errno_text()));
    }
    if (lock->marked()) {
      return std::unexpected(fmt::format(
          "the state database {} is missing, but this directory had one: restore it from a backup, "
          "or, to start with new disk identities and no reservations, first shut down every "
          "initiator and then remove {}/lock",
          path, directory));
    }
    if (auto created = StateDatabase::create(path); !created) {
      return std::unexpected(std::move(created.error()));
    }
  }
  if (!lock->marked() && !(daemon::sync_directory(directory) && lock->mark())) {
    return std::unexpected(
        fmt::format("cannot write to the state directory {}: {}", directory, errno_text()));
  }
  auto database = StateDatabase::open(path);
  if (!database) return std::unexpected(std::move(database.error()));
  return std::make_unique<SqliteStateStore>(std::move(*lock), std::move(*database), random);
}

}  // namespace holdfast::target
