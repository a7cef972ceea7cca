#pragma once
// The file between a daemon and holdfast-lab-watchdog, the watchdog's test double. It outlives
// both: a daemon that was killed has not disarmed. In a tmpfs, as its times begin anew with each
// boot.
//
// Layout: 4096 bytes, words of this machine, all but the first changed atomically:
//
//    0  magic       "HFLABWD1"
//    8  deadline    in ns of CLOCK_BOOTTIME: it fires then. 0: disarmed. 1: it has fired
//   16  fired_at    ... the last time; 0: never. Stays when it is armed again
//   24  watched_at  when the double has last looked; older than kWatchedWithin: it is not there
//
// A client takes the deadline that it has read or written itself, and no other, for a new one: one
// that comes late, after it has fired or another client has armed it, changes nothing.

#include <atomic>
#include <cstdint>
#include <expected>
#include <string>

#include "common/daemon/durable_file.h"

namespace holdfast::qdisk {

inline constexpr uint64_t kLabDisarmed = 0;
inline constexpr uint64_t kLabFired = 1;
// The double looks every 50 ms.
inline constexpr uint64_t kLabWatchedWithinNs = 1'000'000'000;

// CLOCK_BOOTTIME: the same in all processes, and it goes on while the machine sleeps.
uint64_t lab_now_ns();

// The mapped file. One thread's.
class LabWatchdogFile {
 public:
  // For the double: makes it if it is absent, and locks it against a second double.
  static std::expected<LabWatchdogFile, std::string> create(const std::string& path);
  // For a client: it is there already.
  static std::expected<LabWatchdogFile, std::string> open(const std::string& path);
  LabWatchdogFile(LabWatchdogFile&& other) noexcept;
  LabWatchdogFile& operator=(LabWatchdogFile&& other) noexcept;
  ~LabWatchdogFile();

  uint64_t deadline() const { return word(kDeadline).load(); }
  void set_deadline(uint64_t value) { word(kDeadline).store(value); }
  // False: it is not `from` any more, and stays.
  bool replace_deadline(uint64_t from, uint64_t to) {
    return word(kDeadline).compare_exchange_strong(from, to);
  }
  uint64_t fired_at() const { return word(kFiredAt).load(); }
  void set_fired_at(uint64_t now) { word(kFiredAt).store(now); }
  uint64_t watched_at() const { return word(kWatchedAt).load(); }
  void set_watched_at(uint64_t now) { word(kWatchedAt).store(now); }

 private:
  enum Word : uint8_t { kMagic, kDeadline, kFiredAt, kWatchedAt };

  LabWatchdogFile(daemon::Fd fd, uint64_t* words) : fd_(std::move(fd)), words_(words) {}
  static std::expected<LabWatchdogFile, std::string> map(daemon::Fd fd, const std::string& path);
  std::atomic_ref<uint64_t> word(Word which) const { return std::atomic_ref(words_[which]); }

  daemon::Fd fd_;  // the double's has its lock
  uint64_t* words_ = nullptr;
};

}  // namespace holdfast::qdisk
