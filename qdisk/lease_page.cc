#include "qdisk/lease_page.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/daemon/durable_file.h"

namespace holdfast::qdisk {

namespace {

constexpr size_t kPageBytes = 4096;
constexpr uint64_t kMagic = 0x3145'5341'454c'4651;  // "QFLEASE1"
constexpr size_t kMagicWord = 0, kSequenceWord = 1, kLeaseWord = 2, kFirstWord = 3;
constexpr size_t kFields = 8;
constexpr size_t kWords = kFields + kMaxVolumes;
constexpr size_t kBootWord = 128, kUsersWord = 130, kUserWords = 8;
constexpr uint64_t kIsUser = 1, kRuns = 2;
static_assert(kFirstWord + kWords <= kBootWord);
static_assert((kUserWords - 1) * sizeof(uint64_t) > LeaseUsers::kMaxName);
static_assert((kUsersWord + LeaseUsers::kMax * kUserWords) * sizeof(uint64_t) <= kPageBytes);
// The writer needs far less than a microsecond; it may be stopped in the midst of it.
constexpr int kMaxTries = 1000;

using Packed = std::array<uint64_t, kWords>;

uint64_t load(const uint64_t& word, std::memory_order order) {
  // It is only read: std::atomic_ref of C++23 takes no const.
  return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(order);
}

void store(uint64_t& word, uint64_t value, std::memory_order order) {
  std::atomic_ref<uint64_t>(word).store(value, order);
}

uint64_t word_of(io::Instant at) { return static_cast<uint64_t>(at.time_since_epoch().count()); }
io::Instant instant_of(uint64_t word) {
  return io::Instant(io::Duration(static_cast<int64_t>(word)));
}

Packed pack(const LeaseView& view) {
  Packed out{word_of(view.confirmed_at),
             uint64_t{view.life.node} << 32 | view.life.incarnation,
             view.key,
             view.epoch,
             view.members.bits(),
             view.fenced,
             view.fenced_timed,
             word_of(view.lease_until)};
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    const VolumeView& volume = view.volumes[i];
    out[kFields + i] =
        uint64_t{volume.token} << 40 | uint64_t{volume.coordinator} << 32 | volume.term;
  }
  return out;
}

LeaseView unpack(const Packed& in) {
  LeaseView out{.lease_until = instant_of(in[7]),
                .confirmed_at = instant_of(in[0]),
                .life = {static_cast<NodeId>(in[1] >> 32), static_cast<Incarnation>(in[1])},
                .key = in[2],
                .epoch = in[3],
                .members = NodeSet(in[4]),
                .fenced = in[5],
                .fenced_timed = in[6] != 0};
  for (size_t i = 0; i < kMaxVolumes; ++i) {
    const uint64_t word = in[kFields + i];
    out.volumes[i] = {.coordinator = static_cast<NodeId>(word >> 32),
                      .term = static_cast<uint32_t>(word),
                      .token = (word >> 40 & 1) != 0};
  }
  return out;
}

std::optional<LeaseView> read_view(const uint64_t* words) {
  using std::memory_order::acquire, std::memory_order::relaxed;
  for (int tries = 0; tries < kMaxTries; ++tries) {
    const uint64_t before = load(words[kSequenceWord], acquire);
    if (before % 2 != 0) continue;
    Packed packed;
    for (size_t i = 0; i < packed.size(); ++i) {
      packed[i] = load(words[kFirstWord + i], relaxed);
    }
    std::atomic_thread_fence(acquire);
    if (load(words[kSequenceWord], relaxed) == before) return unpack(packed);
  }
  return std::nullopt;
}

std::unexpected<std::string> failed(const char* what, const std::string& path, int error) {
  return std::unexpected(fmt::format("{} {}: {}", what, path, std::strerror(error)));
}

std::expected<uint64_t*, std::string> map(const std::string& path, int fd, int protection) {
  void* const at = ::mmap(nullptr, kPageBytes, protection, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return failed("cannot map", path, errno);
  return static_cast<uint64_t*>(at);
}

// New, or of any version: not a file of somebody else that was named by mistake.
bool may_become_page(int fd, off_t size) {
  if (size == 0) return true;
  uint64_t magic = 0;
  if (size != kPageBytes || ::pread(fd, &magic, sizeof(magic), 0) != sizeof(magic)) return false;
  return magic == 0 || (magic ^ kMagic) << CHAR_BIT == 0;  // the last letter is the version
}

}  // namespace

std::expected<LeasePage, std::string> LeasePage::open(const std::string& path) {
  std::error_code ignored;  // then the file cannot be opened, which is said
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  daemon::Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file.get() < 0) return failed("cannot open", path, errno);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return failed("cannot look at", path, errno);
  if (!S_ISREG(status.st_mode)) return std::unexpected(path + ": no regular file");
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return failed("cannot lock", path, errno);
    return std::unexpected(path + ": another daemon writes this lease page: stop it, or choose " +
                           "another `lease_page`");
  }
  if (!may_become_page(file.get(), status.st_size)) {
    return std::unexpected(path + ": holds something else than a lease page: remove it, or " +
                           "choose another `lease_page`");
  }
  // A page without room on its disk would end the daemon in the midst of a write.
  if (const int error = ::posix_fallocate(file.get(), 0, kPageBytes); error != 0) {
    return failed("cannot make", path, error);
  }
  const auto words = map(path, file.get(), PROT_READ | PROT_WRITE);
  if (!words) return std::unexpected(words.error());
  return LeasePage(*words, std::move(file));
}

LeasePage::~LeasePage() {
  if (words_ != nullptr) ::munmap(words_, kPageBytes);
}

// A reader that looks at the lease's word alone must never see a longer lease than those words say
// that it reads with it; an evicted life's ends first of all.
void LeasePage::write(const LeaseView& view) {
  using std::memory_order::relaxed, std::memory_order::release;
  const uint64_t until = word_of(view.lease_until);
  if (until < load(words_[kLeaseWord], relaxed)) store(words_[kLeaseWord], until, release);
  const uint64_t sequence = load(words_[kSequenceWord], relaxed) | 1;  // a dead writer left it odd
  store(words_[kSequenceWord], sequence, relaxed);
  std::atomic_thread_fence(release);
  const Packed packed = pack(view);
  for (size_t i = 0; i < packed.size(); ++i) store(words_[kFirstWord + i], packed[i], relaxed);
  store(words_[kSequenceWord], sequence + 1, release);
  store(words_[kLeaseWord], until, release);
  store(words_[kMagicWord], kMagic, release);
}

std::optional<LeaseView> LeasePage::last() const {
  if (load(words_[kMagicWord], std::memory_order::acquire) != kMagic) return std::nullopt;
  return read_view(words_);
}

LeaseUsers::Table LeasePage::users(const Uuid& boot) const {
  LeaseUsers::Table out{};
  if (boot == Uuid{} || std::memcmp(&words_[kBootWord], boot.data(), boot.size()) != 0) return out;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t* const words = &words_[kUsersWord + i * kUserWords];
    if ((words[0] & kIsUser) == 0) continue;
    const auto* const name = reinterpret_cast<const char*>(words + 1);
    out[i] = {.name = std::string(name, ::strnlen(name, LeaseUsers::kMaxName)),
              .runs = (words[0] & kRuns) != 0};
  }
  return out;
}

// The flag word last: it makes the user one.
void LeasePage::write_users(const Uuid& boot, const LeaseUsers::Table& users) {
  for (size_t i = 0; i < users.size(); ++i) {
    uint64_t* const words = &words_[kUsersWord + i * kUserWords];
    const LeaseUser& user = users[i];
    std::array<uint64_t, kUserWords - 1> name{};
    std::memcpy(name.data(), user.name.data(), std::min(user.name.size(), LeaseUsers::kMaxName));
    if (std::memcmp(words + 1, name.data(), sizeof(name)) != 0) {
      store(words[0], 0, std::memory_order::relaxed);
      std::atomic_signal_fence(std::memory_order::seq_cst);  // a signal ends it, not the power
      std::memcpy(words + 1, name.data(), sizeof(name));
    }
    const uint64_t flags = user.name.empty() ? 0 : kIsUser | (user.runs ? kRuns : 0);
    store(words[0], flags, std::memory_order::release);
  }
  std::memcpy(&words_[kBootWord], boot.data(), boot.size());
}

std::expected<LeaseReader, std::string> LeaseReader::open(const std::string& path) {
  const daemon::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.get() < 0) return failed("cannot open", path, errno);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return failed("cannot look at", path, errno);
  if (!S_ISREG(status.st_mode) || status.st_size != kPageBytes) {
    return std::unexpected(path + ": no lease page");
  }
  const auto words = map(path, file.get(), PROT_READ);
  if (!words) return std::unexpected(words.error());
  LeaseReader reader(*words);
  if (load(reader.words_[kMagicWord], std::memory_order::acquire) != kMagic) {
    return std::unexpected(path + ": no lease page, or of another version, or not written yet");
  }
  return reader;
}

LeaseReader::~LeaseReader() {
  if (words_ != nullptr) ::munmap(const_cast<uint64_t*>(words_), kPageBytes);
}

bool LeaseReader::valid(io::Instant now) const {
  return now < instant_of(load(words_[kLeaseWord], std::memory_order::acquire));
}

std::optional<LeaseView> LeaseReader::read() const { return read_view(words_); }

}  // namespace holdfast::qdisk
