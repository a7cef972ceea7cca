#include "common/io/kernel_shared_device.h"

#include <linux/pr.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/base/log.h"

namespace holdfast::io {
namespace {

using base::Errc;
using base::Result;

constexpr const char* kLog = "kernel-device";
constexpr int kReservationConflict = 0x18;  // PR_STS_RESERVATION_CONFLICT, a SCSI status
constexpr size_t kMaxKeys = 4096;           // 64 nodes with 64 paths each

// Of kernels newer than the header that we are built with.
struct ReadKeys {
  uint32_t generation;
  uint32_t num_keys;  // in: room; out: how many there are
  uint64_t keys_ptr;
};
struct ReadReservation {
  uint64_t key;
  uint32_t generation;
  uint32_t type;
};
constexpr unsigned long kReadKeys = _IOWR('p', 206, ReadKeys);
constexpr unsigned long kReadReservation = _IOR('p', 207, ReadReservation);

// The kernel numbers the types without SCSI's gaps.
struct TypeName {
  ReservationType ours;
  uint32_t kernel;
};
constexpr std::array<TypeName, 7> kTypes = {{
    {ReservationType::none, 0},
    {ReservationType::write_exclusive, PR_WRITE_EXCLUSIVE},
    {ReservationType::exclusive_access, PR_EXCLUSIVE_ACCESS},
    {ReservationType::write_exclusive_registrants_only, PR_WRITE_EXCLUSIVE_REG_ONLY},
    {ReservationType::exclusive_access_registrants_only, PR_EXCLUSIVE_ACCESS_REG_ONLY},
    {ReservationType::write_exclusive_all_registrants, PR_WRITE_EXCLUSIVE_ALL_REGS},
    {ReservationType::exclusive_access_all_registrants, PR_EXCLUSIVE_ACCESS_ALL_REGS},
}};

uint32_t to_kernel(ReservationType type) {
  for (const TypeName& each : kTypes) {
    if (each.ours == type) return each.kernel;
  }
  return 0;
}

ReservationType from_kernel(uint32_t type) {
  for (const TypeName& each : kTypes) {
    if (each.kernel == type) return each.ours;
  }
  return ReservationType::none;
}

Result<> to_result(int status) {
  if (status == 0) return {};
  if (status == kReservationConflict) {
    return base::fail(Errc::permission, "reservation conflict");
  }
  if (status > 0) return base::fail(Errc::io, "the device failed the reservation command");
  switch (-status) {
    case ENOTTY:
    case EOPNOTSUPP:
      return base::fail(Errc::unsupported,
                        "the kernel offers no persistent reservations for this device", -status);
    case EPERM:
    case EACCES:
      return base::fail(
          Errc::io, "the kernel refuses reservations: no CAP_SYS_ADMIN, or a partition", -status);
    default:
      return base::fail(Errc::io, "the reservation ioctl failed", -status);
  }
}

class KernelCalls final : public ReservationCalls {
 public:
  int call(int fd, unsigned long request, void* argument) override {
    const int status = ioctl(fd, request, argument);
    return status < 0 ? -errno : status;
  }
};

// Of a kernel that does not know the ioctl: ENOTTY, or what its driver makes of unknown ones.
int unknown_is_notty(int status) { return status == -EINVAL ? -ENOTTY : status; }

Result<ReservationState> read_state(ReservationCalls& calls, int fd) {
  ReservationState state;
  state.keys.resize(kMaxKeys);
  ReadKeys keys{.generation = 0,
                .num_keys = kMaxKeys,
                .keys_ptr = reinterpret_cast<uint64_t>(state.keys.data())};
  TRY(to_result(unknown_is_notty(calls.call(fd, kReadKeys, &keys))));
  if (keys.num_keys > kMaxKeys) return base::fail(Errc::limit, "more keys than are looked at");
  state.keys.resize(keys.num_keys);
  ReadReservation held{};
  TRY(to_result(unknown_is_notty(calls.call(fd, kReadReservation, &held))));
  // A change between the two calls: the caller would see a state that never was.
  if (held.generation != keys.generation) {
    return base::fail(Errc::busy, "reservations change; ask again");
  }
  state.generation = keys.generation;
  state.type = from_kernel(held.type);
  state.holder_key = held.key;
  return state;
}

auto without_state(SharedBlockDevice::Done done) {
  return [done = std::move(done)](Result<ReservationState> result) mutable noexcept {
    done(result.has_value() ? Result<>{} : std::unexpected(result.error()));
  };
}

}  // namespace

// Owner: the tasks that it is in. Whoever is first, the result or the deadline, answers.
struct KernelSharedDevice::Call {
  Call(KernelSharedDevice& owner, Answer done) : device(owner), answer(std::move(done)) {}
  void on_deadline() noexcept {
    device.answered(*this, base::fail(Errc::timed_out, "the device does not answer"));
  }

  KernelSharedDevice& device;
  Answer answer;  // null: done with
  TimerOf<Call, &Call::on_deadline> deadline{*this};
};

Result<std::unique_ptr<KernelSharedDevice>> KernelSharedDevice::open(
    Loop& loop, std::shared_ptr<Backing> backing, int fd, Options options) {
  if (options.calls == nullptr) options.calls = std::make_shared<KernelCalls>();
  std::unique_ptr<KernelSharedDevice> device(
      new KernelSharedDevice(loop, std::move(backing), fd, std::move(options)));
  TRY(device->attach());
  loop.start(device->poll_timer_, device->options_.size_poll);
  return device;
}

KernelSharedDevice::KernelSharedDevice(Loop& loop, std::shared_ptr<Backing> backing, int fd,
                                       Options options)
    : FileSharedDevice(loop, std::move(backing)),
      fd_(fd),
      options_(std::move(options)),
      worker_(BlockingWorker::start()) {}

KernelSharedDevice::~KernelSharedDevice() { worker_->finish(); }

void KernelSharedDevice::run(Work work, Answer answer) {
  begin_call();
  auto call = std::make_shared<Call>(*this, std::move(answer));
  loop_.start(call->deadline, options_.call_timeout);
  // The file and the calls live as long as the ioctl, which may outlive this device.
  const bool taken = worker_->submit([call, work = std::move(work), backing = backing_, fd = fd_,
                                      &loop = loop_, calls = options_.calls]() mutable noexcept {
    auto result = work(*calls, fd);
    loop.post([call = std::move(call), result = std::move(result)]() mutable noexcept {
      if (call->answer) call->device.answered(*call, std::move(result));
    });
  });
  if (taken) return;
  loop_.post([call]() noexcept {
    if (!call->answer) return;
    call->device.answered(*call, base::fail(Errc::busy, "too many reservation calls wait"));
  });
}

void KernelSharedDevice::answered(Call& call, Result<ReservationState> result) {
  loop_.stop(call.deadline);
  std::exchange(call.answer, nullptr)(std::move(result));
  end_call();
}

void KernelSharedDevice::refuse(Done done, Errc code, const char* why) {
  loop_.post(
      [done = std::move(done), code, why]() mutable noexcept { done(base::fail(code, why)); });
}

void KernelSharedDevice::register_key(uint64_t old_key, uint64_t key, Done done) {
  const bool ignore = key != 0;  // whatever a dead process of this node has left
  run(
      [=](ReservationCalls& calls, int fd) noexcept -> Result<ReservationState> {
        pr_registration registration{};
        registration.old_key = ignore ? 0 : old_key;
        registration.new_key = key;
        registration.flags = ignore ? PR_FL_IGNORE_KEY : 0;
        TRY(to_result(calls.call(fd, IOC_PR_REGISTER, &registration)));
        return ReservationState{};
      },
      [this, key, done = std::move(done)](Result<ReservationState> result) mutable noexcept {
        if (!result.has_value()) return done(std::unexpected(result.error()));
        key_ = key;
        fenced_ = false;
        done({});
      });
}

void KernelSharedDevice::use_key(uint64_t key, Done done) {
  if (key != 0 || key_ != 0) return register_key(key_, key, std::move(done));
  loop_.post([done = std::move(done)]() mutable noexcept { done({}); });
}

void KernelSharedDevice::readmit(Done done) {
  if (key_ == 0) return refuse(std::move(done), Errc::invalid_argument, "there is no key to use");
  register_key(0, key_, std::move(done));
}

void KernelSharedDevice::verify_key(Done done) {
  if (key_ == 0) return refuse(std::move(done), Errc::invalid_argument, "this node has no key");
  read_reservations(
      [this, done = std::move(done)](Result<ReservationState> state) mutable noexcept {
        if (!state.has_value()) return done(std::unexpected(state.error()));
        if (std::ranges::find(state->keys, key_) != state->keys.end()) return done({});
        on_conflict();
        done(base::fail(Errc::permission, "this node's key is gone"));
      });
}

void KernelSharedDevice::reserve(ReservationType type, Done done) {
  run(
      [key = key_, type](ReservationCalls& calls, int fd) noexcept -> Result<ReservationState> {
        pr_reservation reservation{};
        reservation.key = key;
        reservation.type = to_kernel(type);
        TRY(to_result(calls.call(fd, IOC_PR_RESERVE, &reservation)));
        return ReservationState{};
      },
      without_state(std::move(done)));
}

void KernelSharedDevice::preempt_and_abort(uint64_t victim, ReservationType type, Done done) {
  run(
      [key = key_, victim, type](ReservationCalls& calls,
                                 int fd) noexcept -> Result<ReservationState> {
        pr_preempt preempt{};
        // Whatever their names suggest: old_key becomes the command's RESERVATION KEY, which is the
        // preempting one, and new_key its SERVICE ACTION RESERVATION KEY, the victim
        // (SPC-4 5.13.11).
        preempt.old_key = key;
        preempt.new_key = victim;
        preempt.type = to_kernel(type);
        TRY(to_result(calls.call(fd, IOC_PR_PREEMPT_ABORT, &preempt)));
        return ReservationState{};
      },
      without_state(std::move(done)));
}

void KernelSharedDevice::clear_reservations(Done done) {
  run(
      [key = key_](ReservationCalls& calls, int fd) noexcept -> Result<ReservationState> {
        pr_clear clear{};
        clear.key = key;
        TRY(to_result(calls.call(fd, IOC_PR_CLEAR, &clear)));
        return ReservationState{};
      },
      without_state(std::move(done)));
}

void KernelSharedDevice::read_reservations(GotState done) {
  run([](ReservationCalls& calls, int fd) noexcept { return read_state(calls, fd); },
      std::move(done));
}

void KernelSharedDevice::on_conflict() {
  if (key_ == 0 || fenced_) return;
  fenced_ = true;
  tell(BlockEvent::Kind::key_lost, "reservation conflict");
}

void KernelSharedDevice::on_poll() noexcept {
  loop_.start(poll_timer_, options_.size_poll);
  if (std::exchange(polling_, true)) return;
  grow(info().size_bytes, [this](Result<> result) noexcept {
    polling_ = false;
    if (!result.has_value()) LOG_LIMITED(warning, kLog, "{}", result.error().what);
  });
}

void KernelSharedDevice::close(Task closed) {
  loop_.stop(poll_timer_);
  FileSharedDevice::close(std::move(closed));
}

}  // namespace holdfast::io
