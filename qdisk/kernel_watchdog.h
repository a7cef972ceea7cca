#pragma once
// The kernel's watchdog, /dev/watchdog: hardware that resets the host, or the kernel's own softdog.
//
// A process that dies without disarm() leaves it running, and the host is reset unless another
// daemon takes over in time: that is what it is for. It must be the only user of the device
// (systemd's RuntimeWatchdogSec is another).

#include <memory>

#include "qdisk/watchdog.h"

namespace holdfast::qdisk {

// The kernel's, for tests to replace. Each returns 0 or more, or -errno.
class WatchdogCalls {
 public:
  virtual ~WatchdogCalls() = default;
  virtual int open(const std::string& path) = 0;  // the descriptor; it starts the device
  virtual int call(int fd, unsigned long request, void* argument) = 0;
  virtual int write(int fd, char byte) = 0;
  virtual void close(int fd) = 0;
  // Somebody has started it and not stopped it. False where the kernel does not say.
  virtual bool running(const std::string& path) = 0;
};

class KernelWatchdog final : public Watchdog {
 public:
  // null: the kernel's.
  explicit KernelWatchdog(std::string path, std::shared_ptr<WatchdogCalls> calls = nullptr);
  KernelWatchdog(const KernelWatchdog&) = delete;
  KernelWatchdog& operator=(const KernelWatchdog&) = delete;
  ~KernelWatchdog() override;

  // The device counts whole seconds: those that `timeout` has, at least one. Errc::unsupported: the
  // device cannot do what is wanted of it, or not so soon; Errc::busy: it is in use.
  base::Result<> arm(io::Duration timeout) override;
  void pet() noexcept override;
  // Errc::unsupported: this device cannot be stopped (nowayout), and must be petted on.
  base::Result<> disarm() override;
  bool armed() const override { return fd_ >= 0; }
  std::string describe() const override;
  bool real() const override { return true; }
  std::optional<std::string> problem() const override;

 private:
  base::Result<int> open_device();
  base::Result<int> set_timeout(int fd, int wanted_s);
  base::Result<> prepare(int fd, int wanted_s);
  void give_back(int fd, bool was_running);

  const std::string path_;
  const std::shared_ptr<WatchdogCalls> calls_;
  int fd_ = -1;  // open: armed
  std::string identity_;
  int timeout_s_ = 0;
  int pet_error_ = 0;  // errno of the last pet; 0: it succeeded
};

}  // namespace holdfast::qdisk
