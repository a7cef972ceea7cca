#pragma once
// A block device of the kernel as a SharedBlockDevice: FileSharedDevice, with persistent
// reservations through the kernel's ioctls (linux/pr.h). The kernel passes them on to SCSI and NVMe
// disks and to device-mapper multipath; what it does not pass on is Errc::unsupported. Where
// several paths lie below, the kernel registers on all of them.
//
// A reservation conflict (-EBADE) means that this node is fenced: from then on every request ends
// with -EBADE at once, until the owner decides readmit() or use_key(). Nobody else tells this
// device that its key has gone: the event comes with the first request that fails.

#include "common/io/blocking_worker.h"
#include "common/io/file_shared_device.h"

namespace holdfast::io {

// The ioctls, for tests to replace. Called on the worker; blocks.
class ReservationCalls {
 public:
  virtual ~ReservationCalls() = default;
  // 0; -errno; or the positive status of the device (0x18: reservation conflict).
  virtual int call(int fd, unsigned long request, void* argument) = 0;
};

class KernelSharedDevice final : public FileSharedDevice {
 public:
  struct Options {
    Duration size_poll = std::chrono::seconds(5);  // the kernel does not tell that it has grown
    Duration call_timeout = std::chrono::seconds(30);
    std::shared_ptr<ReservationCalls> calls;  // null: the kernel's
  };
  // On the loop's own thread. The backing is one of BackingKind::block, `shared` where several
  // daemons of this host use the device; `fd` is its descriptor.
  static base::Result<std::unique_ptr<KernelSharedDevice>> open(Loop& loop,
                                                                std::shared_ptr<Backing> backing,
                                                                int fd, Options options);
  ~KernelSharedDevice() override;

  void use_key(uint64_t key, Done done) override;
  void readmit(Done done) override;
  // Errc::unsupported as with read_reservations().
  void verify_key(Done done) override;
  void reserve(ReservationType type, Done done) override;
  void preempt_and_abort(uint64_t victim, ReservationType type, Done done) override;
  void clear_reservations(Done done) override;
  // Errc::unsupported with kernels that can only change reservations, not read them.
  void read_reservations(GotState done) override;

  void close(Task closed) override;

 private:
  using Answer = std::move_only_function<void(base::Result<ReservationState>) noexcept>;
  using Work =
      std::move_only_function<base::Result<ReservationState>(ReservationCalls&, int fd) noexcept>;
  struct Call;

  KernelSharedDevice(Loop& loop, std::shared_ptr<Backing> backing, int fd, Options options);
  void on_conflict() override;
  int32_t refusal() const override { return fenced_ ? -EBADE : 0; }
  void run(Work work, Answer answer);
  void answered(Call& call, base::Result<ReservationState> result);
  // Answers in a later step of the loop.
  void refuse(Done done, base::Errc code, const char* why);
  void register_key(uint64_t old_key, uint64_t key, Done done);
  void on_poll() noexcept;

  const int fd_;
  Options options_;
  std::shared_ptr<BlockingWorker> worker_;
  uint64_t key_ = 0;
  bool fenced_ = false;
  bool polling_ = false;
  TimerOf<KernelSharedDevice, &KernelSharedDevice::on_poll> poll_timer_{*this};
};

}  // namespace holdfast::io
