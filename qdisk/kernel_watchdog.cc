#include "qdisk/kernel_watchdog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/watchdog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {
namespace {

using base::Errc;
using base::Result;

constexpr const char* kLog = "watchdog";
constexpr uint32_t kWanted = WDIOF_SETTIMEOUT | WDIOF_MAGICCLOSE | WDIOF_KEEPALIVEPING;
constexpr char kMagic = 'V';  // the kernel stops the device at close() after this

class KernelCalls final : public WatchdogCalls {
 public:
  int open(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
  }
  int call(int fd, unsigned long request, void* argument) override {
    const int status = ::ioctl(fd, request, argument);
    return status < 0 ? -errno : status;
  }
  int write(int fd, char byte) override {
    const ssize_t count = ::write(fd, &byte, 1);
    return count < 0 ? -errno : static_cast<int>(count);
  }
  void close(int fd) override { ::close(fd); }
  bool running(const std::string& path) override {
    // /dev/watchdog is another name of the first.
    std::string name = path.substr(path.rfind('/') + 1);
    if (name == "watchdog") name = "watchdog0";
    const int fd =
        ::open(fmt::format("/sys/class/watchdog/{}/state", name).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    std::array<char, 16> state{};
    const ssize_t count = ::read(fd, state.data(), state.size());
    ::close(fd);
    return count > 0 &&
           std::string_view(state.data(), static_cast<size_t>(count)).starts_with("active");
  }
};

// Whole seconds, and no more of them than there are.
Result<int> seconds_of(io::Duration timeout) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(timeout).count();
  if (whole < 1) {
    return base::fail(Errc::invalid_argument,
                      "the kernel's watchdogs count whole seconds: the time `watchdog` must be 1 s "
                      "or more");
  }
  return static_cast<int>(std::min<int64_t>(whole, std::numeric_limits<int>::max()));
}

}  // namespace

KernelWatchdog::KernelWatchdog(std::string path, std::shared_ptr<WatchdogCalls> calls)
    : path_(std::move(path)),
      calls_(calls != nullptr ? std::move(calls) : std::make_shared<KernelCalls>()) {}

KernelWatchdog::~KernelWatchdog() {
  if (fd_ < 0) return;
  LOG_WARNING(kLog, "{} is left running: it resets the host within {} s", path_, timeout_s_);
  calls_->close(fd_);
}

Result<> KernelWatchdog::arm(io::Duration timeout) {
  TRY_ASSIGN(const int wanted_s, seconds_of(timeout));
  if (fd_ >= 0) {
    TRY_ASSIGN(timeout_s_, set_timeout(fd_, wanted_s));
    pet();
    return {};
  }
  const bool was_running = calls_->running(path_);
  TRY_ASSIGN(const int fd, open_device());
  if (auto prepared = prepare(fd, wanted_s); !prepared) {
    give_back(fd, was_running);
    return prepared;
  }
  fd_ = fd;
  pet_error_ = 0;
  LOG_INFO(kLog, "armed: {}{}", describe(),
           was_running ? ", which an earlier daemon had left running" : "");
  return {};
}

Result<int> KernelWatchdog::open_device() {
  const int fd = calls_->open(path_);
  switch (fd) {
    case -EBUSY:
      return base::fail(Errc::busy,
                        "the watchdog is in use: systemd has it where RuntimeWatchdogSec is set",
                        EBUSY);
    case -ENOENT:
    case -ENODEV:
    case -ENXIO:
      return base::fail(Errc::not_found,
                        "there is no such watchdog: load the driver of the host's, or softdog",
                        -fd);
    default:
      break;
  }
  if (fd < 0) return base::fail(Errc::io, "the watchdog cannot be opened", -fd);
  return fd;
}

Result<> KernelWatchdog::prepare(int fd, int wanted_s) {
  watchdog_info info{};
  if (const int status = calls_->call(fd, WDIOC_GETSUPPORT, &info); status < 0) {
    return base::fail(Errc::unsupported, "that is no watchdog: it does not say what it can do",
                      -status);
  }
  // `identity` need not end with a NUL.
  const auto* identity = reinterpret_cast<const char*>(&info.identity);
  identity_.assign(identity, ::strnlen(identity, sizeof(info.identity)));
  if ((info.options & kWanted) != kWanted) {
    return base::fail(Errc::unsupported,
                      "the watchdog cannot do all of: set its timeout, be petted, be stopped");
  }
  if ((info.options & WDIOF_ALARMONLY) != 0) {
    return base::fail(Errc::unsupported, "the watchdog does not reset the host");
  }
  TRY_ASSIGN(timeout_s_, set_timeout(fd, wanted_s));
  if (const int status = calls_->call(fd, WDIOC_KEEPALIVE, nullptr); status < 0) {
    return base::fail(Errc::io, "the watchdog cannot be petted", -status);
  }
  return {};
}

// A device takes the nearest that it can; some have one only.
Result<int> KernelWatchdog::set_timeout(int fd, int wanted_s) {
  int answer_s = wanted_s;
  if (const int status = calls_->call(fd, WDIOC_SETTIMEOUT, &answer_s); status < 0) {
    return base::fail(Errc::unsupported,
                      "the watchdog does not take the time `watchdog` as its timeout", -status);
  }
  if (answer_s > wanted_s || answer_s < 1) {
    LOG_ERROR(kLog, "{} ({}) fires {} s after its last pet, and at most {} s are allowed", path_,
              identity_, answer_s, wanted_s);
    // It counts in the old way, too, where it was armed before.
    if (fd == fd_ && timeout_s_ > 0) calls_->call(fd, WDIOC_SETTIMEOUT, &timeout_s_);
    return base::fail(Errc::unsupported,
                      "the watchdog fires later than the time `watchdog` allows: make that (and "
                      "`takeover`) longer, or use another watchdog");
  }
  return answer_s;
}

// Opening it has started it. What an earlier daemon had left running must go on: what lived by that
// daemon's lease may live still.
void KernelWatchdog::give_back(int fd, bool was_running) {
  if (was_running) {
    LOG_ERROR(kLog, "{} was left running by an earlier daemon, and is: it resets the host", path_);
  } else if (calls_->write(fd, kMagic) < 0) {
    LOG_ERROR(kLog, "{} cannot be stopped again: it resets the host", path_);
  }
  calls_->close(fd);
}

void KernelWatchdog::pet() noexcept {
  if (fd_ < 0) return;
  const int status = calls_->call(fd_, WDIOC_KEEPALIVE, nullptr);
  const int error = status < 0 ? -status : 0;
  if (error != 0 && pet_error_ == 0) {
    LOG_ERROR(kLog, "{} cannot be petted ({}): it resets the host within {} s", path_,
              std::strerror(error), timeout_s_);
  }
  pet_error_ = error;
}

Result<> KernelWatchdog::disarm() {
  if (fd_ < 0) return {};
  // close() after the magic tells nobody when the kernel does not stop it; this does, where the
  // driver knows it.
  int off = WDIOS_DISABLECARD;
  const int stopped = calls_->call(fd_, WDIOC_SETOPTIONS, &off);
  if (stopped == -EBUSY) {
    return base::fail(Errc::unsupported,
                      "the kernel does not let this watchdog be stopped (nowayout): it must be "
                      "petted on, else it resets the host",
                      EBUSY);
  }
  if (const int status = calls_->write(fd_, kMagic); status < 0 && stopped < 0) {
    return base::fail(Errc::io, "the watchdog cannot be stopped", -status);
  }
  calls_->close(std::exchange(fd_, -1));
  pet_error_ = 0;
  LOG_INFO(kLog, "disarmed: {} ({})", path_, identity_);
  return {};
}

std::string KernelWatchdog::describe() const {
  if (fd_ < 0) return path_;
  return fmt::format("{} ({}), {} s", path_, identity_, timeout_s_);
}

std::optional<std::string> KernelWatchdog::problem() const {
  if (pet_error_ == 0) return std::nullopt;
  return fmt::format("{} cannot be petted ({}): the host is reset within {} s", path_,
                     std::strerror(pet_error_), timeout_s_);
}

}  // namespace holdfast::qdisk
