#pragma once
// A daemon's side of holdfast-lab-watchdog: a watchdog for a host of the lab, which is a group of
// processes. NOT a watchdog for a host that matters: it fires only while the machine's kernel runs
// the double.

#include <functional>
#include <optional>

#include "qdisk/lab_watchdog_file.h"
#include "qdisk/watchdog.h"

namespace holdfast::qdisk {

class LabWatchdogClient final : public Watchdog {
 public:
  using Now = std::function<uint64_t()>;  // lab_now_ns(), for tests to replace

  explicit LabWatchdogClient(std::string path, Now now = lab_now_ns)
      : path_(std::move(path)), now_(std::move(now)) {}

  // Errc::not_found: no double watches the file.
  base::Result<> arm(io::Duration timeout) override;
  void pet() noexcept override;
  // Errc::closed: it has fired; Errc::busy: another process has armed it since, and it goes on.
  base::Result<> disarm() override;
  bool armed() const override { return deadline_ != 0 && file_->deadline() == deadline_; }
  std::string describe() const override;
  bool real() const override { return false; }
  std::optional<std::string> problem() const override;

 private:
  bool watched() const;

  const std::string path_;
  const Now now_;
  std::optional<LabWatchdogFile> file_;
  io::Duration timeout_{};
  uint64_t deadline_ = 0;  // as this client has written it; 0: not armed
};

}  // namespace holdfast::qdisk
