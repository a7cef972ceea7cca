#include "mpio/isid_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"

namespace holdfast::mpio {
namespace {

constexpr std::string_view kMagic = "holdfast-isids 1";
constexpr size_t kMaxFileBytes = size_t{32} << 20;  // 65535 lines of any length that we write
constexpr uint32_t kLastQualifier = 0xffff;
constexpr uint64_t kRandomType = uint64_t{2} << 46;  // T = 10b

std::string errno_text() { return std::strerror(errno); }

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

uint32_t checksum(std::string_view text) {
  base::Crc32c crc;
  crc.update(base::as_bytes(text));
  return crc.value();
}

template <class T>
bool read_hex(std::string_view text, size_t digits, T& out) {
  if (text.size() != digits) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  return error == std::errc() && end == text.data() + text.size();
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    text.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

std::string key_of(const IsidStore::Owner& owner) {
  return fmt::format("{} {} {} {}", owner.device, owner.portal,
                     owner.source.empty() ? "-" : owner.source, owner.index);
}

}  // namespace

std::expected<std::unique_ptr<IsidStore>, std::string> IsidStore::open(const std::string& state_dir,
                                                                       base::Random& random) {
  std::error_code error;
  std::filesystem::create_directories(state_dir, error);
  if (error) {
    return std::unexpected(
        fmt::format("cannot make the state directory {}: {}", state_dir, error.message()));
  }
  const std::string path = state_dir + "/lock";
  Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.get() < 0) {
    return std::unexpected(fmt::format("cannot open {}: {}", path, errno_text()));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return std::unexpected(
        errno == EWOULDBLOCK
            ? fmt::format("another holdfast-mpiod uses the state directory {}: two daemons must "
                          "never use the same ISIDs; stop it or choose another `state_dir`",
                          state_dir)
            : fmt::format("cannot lock {}: {}", path, errno_text()));
  }
  std::unique_ptr<IsidStore> store(new IsidStore(state_dir, lock.release()));
  if (auto loaded = store->load(random); !loaded) return std::unexpected(loaded.error());
  return store;
}

IsidStore::~IsidStore() { ::close(lock_); }

std::expected<void, std::string> IsidStore::load(base::Random& random) {
  const Fd opened(::open(file().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (opened.get() < 0 && errno == ENOENT) {
    std::array<uint8_t, 3> drawn{};
    random.fill(drawn);
    random_ = uint32_t{drawn[0]} << 16 | uint32_t{drawn[1]} << 8 | drawn[2];
    changed_ = true;
    return save();
  }
  if (opened.get() < 0) {
    return std::unexpected(fmt::format("cannot read {}: {}", file(), errno_text()));
  }
  std::string text;
  std::array<char, 65536> part;
  ssize_t count = 1;
  while (count > 0 && text.size() <= kMaxFileBytes) {
    count = ::read(opened.get(), part.data(), part.size());
    if (count > 0) text.append(part.data(), static_cast<size_t>(count));
  }
  if (count < 0) return std::unexpected(fmt::format("cannot read {}: {}", file(), errno_text()));
  if (!parse(text)) {
    return std::unexpected(fmt::format(
        "{} is damaged: put back a copy of it. Only if no session of this node is left at any "
        "target may it be removed: then new ISIDs are drawn, and old sessions are not reinstated",
        file()));
  }
  return {};
}

bool IsidStore::parse(std::string_view text) {
  const size_t end = text.rfind("end ");
  uint32_t sum = 0;
  if (end == std::string_view::npos || !text.ends_with('\n') ||
      !read_hex(text.substr(end + 4, text.size() - end - 5), 8, sum) ||
      sum != checksum(text.substr(0, end))) {
    return false;
  }
  const std::vector<std::string_view> lines = lines_of(text.substr(0, end));
  if (lines.size() < 2 || lines[0] != kMagic || !lines[1].starts_with("random ") ||
      !read_hex(lines[1].substr(7), 6, random_)) {
    return false;
  }
  std::set<uint16_t> seen;
  for (size_t i = 2; i < lines.size(); ++i) {
    uint16_t qualifier = 0;
    if (lines[i].size() < 6 || lines[i][4] != ' ' ||
        !read_hex(lines[i].substr(0, 4), 4, qualifier)) {
      return false;
    }
    if (!seen.insert(qualifier).second) return false;
    if (!qualifiers_.emplace(lines[i].substr(5), qualifier).second) return false;
    next_ = std::max(next_, uint32_t{qualifier} + 1);
  }
  return true;
}

std::expected<uint64_t, std::string> IsidStore::assign(const Owner& owner) {
  const std::string key = key_of(owner);
  auto found = qualifiers_.find(key);
  if (found == qualifiers_.end()) {
    if (next_ > kLastQualifier) {
      return std::unexpected(
          fmt::format("{}: all {} ISIDs of this node are used up", file(), kLastQualifier));
    }
    found = qualifiers_.emplace(key, static_cast<uint16_t>(next_++)).first;
    changed_ = true;
  }
  return kRandomType | uint64_t{random_} << 16 | found->second;
}

std::string IsidStore::text() const {
  std::string out = fmt::format("{}\nrandom {:06x}\n", kMagic, random_);
  for (const auto& [owner, qualifier] : qualifiers_) {
    out += fmt::format("{:04x} {}\n", qualifier, owner);
  }
  return out + fmt::format("end {:08x}\n", checksum(out));
}

// A new file takes the place of the old one: at no moment is there half of one.
std::expected<void, std::string> IsidStore::save() {
  if (!changed_) return {};
  const std::string fresh = file() + ".new";
  const auto failed = [&fresh] {
    return std::unexpected(fmt::format("cannot write {}: {}", fresh, errno_text()));
  };
  const Fd out(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (out.get() < 0 || !write_all(out.get(), text()) || ::fsync(out.get()) != 0) return failed();
  if (::rename(fresh.c_str(), file().c_str()) != 0) return failed();
  const Fd directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0) return failed();
  changed_ = false;
  return {};
}

}  // namespace holdfast::mpio
