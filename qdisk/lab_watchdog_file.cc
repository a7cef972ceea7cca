#include "qdisk/lab_watchdog_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "common/base/result.h"

namespace holdfast::qdisk {
namespace {

constexpr size_t kFileBytes = 4096;
constexpr std::string_view kMagicText = "HFLABWD1";
static_assert(kMagicText.size() == sizeof(uint64_t));
static_assert(std::atomic_ref<uint64_t>::is_always_lock_free);  // between processes, too

std::unexpected<std::string> failed(std::string_view what, const std::string& path) {
  return std::unexpected(fmt::format("cannot {} {}: {}", what, path, std::strerror(errno)));
}

}  // namespace

uint64_t lab_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::expected<LabWatchdogFile, std::string> LabWatchdogFile::create(const std::string& path) {
  TRY_ASSIGN(std::optional<daemon::Fd> locked, daemon::lock_file(path));
  if (!locked) return std::unexpected(fmt::format("another lab watchdog watches {}", path));
  struct stat status{};
  if (::fstat(locked->get(), &status) != 0) return failed("look at", path);
  if (status.st_size == 0 && ::ftruncate(locked->get(), kFileBytes) != 0) {
    return failed("make", path);
  }
  TRY_ASSIGN(LabWatchdogFile made, map(std::move(*locked), path));
  uint64_t magic = 0;
  std::memcpy(&magic, kMagicText.data(), sizeof(magic));
  // Zeroes are a new one. Until then it is nobody's.
  uint64_t found = 0;
  if (made.word(kMagic).compare_exchange_strong(found, magic) || found == magic) return made;
  return std::unexpected(fmt::format("{} is another file, and is left as it is", path));
}

std::expected<LabWatchdogFile, std::string> LabWatchdogFile::open(const std::string& path) {
  daemon::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0) return failed("open", path);
  TRY_ASSIGN(LabWatchdogFile opened, map(std::move(fd), path));
  if (std::memcmp(opened.words_, kMagicText.data(), kMagicText.size()) == 0) return opened;
  return std::unexpected(fmt::format("{} is not the file of a lab watchdog", path));
}

std::expected<LabWatchdogFile, std::string> LabWatchdogFile::map(daemon::Fd fd,
                                                                 const std::string& path) {
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return failed("look at", path);
  if (!S_ISREG(status.st_mode) || status.st_size != kFileBytes) {
    return std::unexpected(fmt::format("{} is not the file of a lab watchdog", path));
  }
  void* mapped = ::mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) return failed("map", path);
  return LabWatchdogFile(std::move(fd), static_cast<uint64_t*>(mapped));
}

LabWatchdogFile::LabWatchdogFile(LabWatchdogFile&& other) noexcept
    : fd_(std::move(other.fd_)), words_(std::exchange(other.words_, nullptr)) {}

LabWatchdogFile& LabWatchdogFile::operator=(LabWatchdogFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(words_, other.words_);
  return *this;
}

LabWatchdogFile::~LabWatchdogFile() {
  if (words_ != nullptr) ::munmap(words_, kFileBytes);
}

}  // namespace holdfast::qdisk
