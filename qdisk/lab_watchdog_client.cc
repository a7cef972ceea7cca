#include "qdisk/lab_watchdog_client.h"

#include <fmt/chrono.h>

#include "common/base/log.h"

namespace holdfast::qdisk {
namespace {

using base::Errc;

constexpr const char* kLog = "watchdog";

}  // namespace

bool LabWatchdogClient::watched() const {
  const uint64_t seen = file_->watched_at();
  const uint64_t now = now_();
  return seen != 0 && (seen > now || now - seen < kLabWatchedWithinNs);
}

base::Result<> LabWatchdogClient::arm(io::Duration timeout) {
  if (timeout <= io::Duration::zero()) {
    return base::fail(Errc::invalid_argument, "the time `watchdog` must be more than 0");
  }
  if (!file_) {
    auto opened = LabWatchdogFile::open(path_);
    if (!opened) {
      LOG_ERROR(kLog, "{}", opened.error());
      return base::fail(Errc::not_found,
                        "the file of the lab watchdog cannot be used: start "
                        "holdfast-lab-watchdog with the same one");
    }
    file_ = std::move(*opened);
  }
  if (!watched()) {
    return base::fail(Errc::not_found, "no holdfast-lab-watchdog watches the file: start it");
  }
  timeout_ = timeout;
  deadline_ = now_() + static_cast<uint64_t>(timeout.count());
  // Whatever was there: an earlier daemon's, or that it has fired.
  file_->set_deadline(deadline_);
  LOG_WARNING(kLog, "armed: {}", describe());
  return {};
}

// The deadline counts from before it is written: a pause between the two makes it fire sooner.
void LabWatchdogClient::pet() noexcept {
  if (deadline_ == 0) return;
  const uint64_t deadline = now_() + static_cast<uint64_t>(timeout_.count());
  if (file_->replace_deadline(deadline_, deadline)) deadline_ = deadline;
}

base::Result<> LabWatchdogClient::disarm() {
  if (deadline_ == 0) return {};
  if (file_->replace_deadline(deadline_, kLabDisarmed) || file_->deadline() == kLabDisarmed) {
    deadline_ = 0;
    return {};
  }
  if (file_->deadline() == kLabFired) return base::fail(Errc::closed, "the watchdog has fired");
  return base::fail(Errc::busy, "another process has armed the watchdog since: it goes on");
}

std::string LabWatchdogClient::describe() const {
  return fmt::format(
      "test double (lab): NOT a watchdog, {}{}", path_,
      deadline_ == 0
          ? std::string()
          : fmt::format(", {}", std::chrono::duration_cast<std::chrono::milliseconds>(timeout_)));
}

std::optional<std::string> LabWatchdogClient::problem() const {
  if (deadline_ == 0) return std::nullopt;
  if (const uint64_t deadline = file_->deadline(); deadline != deadline_) {
    if (deadline == kLabFired) return path_ + ": the watchdog has fired";
    if (deadline == kLabDisarmed) return path_ + ": another process has disarmed the watchdog";
    return path_ + ": another process has armed the watchdog since";
  }
  if (!watched()) return path_ + ": no holdfast-lab-watchdog watches the file any more";
  return std::nullopt;
}

}  // namespace holdfast::qdisk
