#include "common/io/kernel_shared_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/pr.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <filesystem>

#include "common/io/file_backing.h"
#include "tests/unit/io/shared_device_fixture.h"

namespace holdfast::io {
namespace {

using base::Errc;
using Done = SharedBlockDevice::Done;
using Kind = BlockRequest::Kind;

constexpr uint64_t kMiB = 1024 * 1024;
constexpr unsigned long kReadKeys = 0xc01070ce;         // IOC_PR_READ_KEYS
constexpr unsigned long kReadReservation = 0x801070cf;  // IOC_PR_READ_RESERVATION

// Remembers what was asked and answers as told. On the worker's thread, one call at a time.
class ScriptedCalls final : public ReservationCalls {
 public:
  int call(int fd, unsigned long request, void* argument) override {
    if (stuck != nullptr) stuck->get_future().wait();
    fds.push_back(fd);
    asked.push_back(request);
    if (request == IOC_PR_REGISTER) std::memcpy(&registration, argument, sizeof(registration));
    if (request == IOC_PR_RESERVE) std::memcpy(&reservation, argument, sizeof(reservation));
    if (request == IOC_PR_PREEMPT_ABORT) std::memcpy(&preempt, argument, sizeof(preempt));
    if (request == IOC_PR_CLEAR) std::memcpy(&clear, argument, sizeof(clear));
    if (request == kReadKeys && status == 0) {
      struct {
        uint32_t generation, count;
        uint64_t* keys;
      } out{};
      std::memcpy(&out, argument, sizeof(out));
      EXPECT_GE(out.count, 3u);
      for (uint64_t i = 0; i < 3; ++i) out.keys[i] = 0x100 + i;
      out.generation = 9;
      out.count = 3;
      std::memcpy(argument, &out, sizeof(out));
    }
    if (request == kReadReservation && status == 0) {
      const struct {
        uint64_t key = 0x101;
        uint32_t generation = 9, type = PR_WRITE_EXCLUSIVE_ALL_REGS;
      } out;
      std::memcpy(argument, &out, sizeof(out));
    }
    return status;
  }

  int status = 0;
  std::unique_ptr<std::promise<void>> stuck;
  std::vector<int> fds;
  std::vector<unsigned long> asked;
  pr_registration registration{};
  pr_reservation reservation{};
  pr_preempt preempt{};
  pr_clear clear{};
};

class KernelSharedDeviceTest : public ::testing::Test, public SharedBlockDevice::Listener {
 protected:
  void TearDown() override {
    if (device_ == nullptr) return;
    std::promise<void> closed;
    thread_.call([&] { device_->close([&]() noexcept { closed.set_value(); }); });
    closed.get_future().wait();
    thread_.call([&] { device_.reset(); });
  }
  void on_block_event(const BlockEvent& event) override {
    events_.push_back(event.kind);
    if (event.kind == BlockEvent::Kind::capacity_changed) grown_.set_value();
  }
  void open(std::shared_ptr<Backing> backing, int fd, KernelSharedDevice::Options options) {
    thread_.call([&] {
      device_ = KernelSharedDevice::open(thread_.loop(), std::move(backing), fd, options).value();
      device_->set_listener(this);
    });
  }
  void open_scripted(Duration call_timeout = 10s) {
    held_->free = true;
    open(held_, 77, {.call_timeout = call_timeout, .calls = calls_});
  }
  template <class Call>
  Errc ask(Call call) {
    std::promise<base::Result<>> done;
    thread_.call([&] { call([&](base::Result<> result) noexcept { done.set_value(result); }); });
    const auto result = done.get_future().get();
    return result.has_value() ? Errc{} : result.error().code;
  }
  Errc use_key(uint64_t key) {
    return ask([&](Done done) { device_->use_key(key, std::move(done)); });
  }
  Errc reserve(ReservationType type) {
    return ask([&](Done done) { device_->reserve(type, std::move(done)); });
  }
  base::Result<ReservationState> read() {
    std::promise<base::Result<ReservationState>> state;
    thread_.call([&] {
      device_->read_reservations(
          [&](base::Result<ReservationState> result) noexcept { state.set_value(result); });
    });
    return state.get_future().get();
  }
  int32_t run(Kind kind, uint64_t offset, uint64_t length,
              std::vector<base::MutableBytes> data = {}) {
    auto request = make_request(kind, offset, length, std::move(data));
    std::promise<void> done;
    request->done = &done;
    thread_.call([&] { device_->submit(request->block); });
    done.get_future().wait();
    thread_.call([] {});
    return *request->result;
  }

  LoopThread thread_;
  std::shared_ptr<HeldBacking> held_ = std::make_shared<HeldBacking>(4 * kMiB);
  std::shared_ptr<ScriptedCalls> calls_ = std::make_shared<ScriptedCalls>();
  std::unique_ptr<KernelSharedDevice> device_;
  std::vector<BlockEvent::Kind> events_;
  std::promise<void> grown_;
};

TEST_F(KernelSharedDeviceTest, RegistersWhateverWasRegisteredBefore) {
  open_scripted();
  EXPECT_EQ(use_key(0), Errc{});  // nothing to take back
  EXPECT_TRUE(calls_->asked.empty());
  EXPECT_EQ(use_key(0xabc), Errc{});
  EXPECT_EQ(calls_->fds.at(0), 77);
  EXPECT_EQ(calls_->registration.new_key, 0xabcu);
  EXPECT_EQ(calls_->registration.flags, uint32_t{PR_FL_IGNORE_KEY});
  EXPECT_EQ(use_key(0), Errc{});
  EXPECT_EQ(calls_->registration.old_key, 0xabcu);
  EXPECT_EQ(calls_->registration.new_key, 0u);
  EXPECT_EQ(calls_->registration.flags, 0u);
}

TEST_F(KernelSharedDeviceTest, TypesAreTheKernels) {
  open_scripted();
  ASSERT_EQ(use_key(5), Errc{});
  using enum ReservationType;
  const std::pair<ReservationType, uint32_t> pairs[] = {
      {write_exclusive, PR_WRITE_EXCLUSIVE},
      {exclusive_access, PR_EXCLUSIVE_ACCESS},
      {write_exclusive_registrants_only, PR_WRITE_EXCLUSIVE_REG_ONLY},
      {exclusive_access_registrants_only, PR_EXCLUSIVE_ACCESS_REG_ONLY},
      {write_exclusive_all_registrants, PR_WRITE_EXCLUSIVE_ALL_REGS},
      {exclusive_access_all_registrants, PR_EXCLUSIVE_ACCESS_ALL_REGS}};
  for (const auto& [ours, kernels] : pairs) {
    EXPECT_EQ(reserve(ours), Errc{});
    EXPECT_EQ(calls_->reservation.type, kernels);
    EXPECT_EQ(calls_->reservation.key, 5u);
  }
}

TEST_F(KernelSharedDeviceTest, PreemptNamesTheOwnKeyFirst) {
  open_scripted();
  ASSERT_EQ(use_key(5), Errc{});
  EXPECT_EQ(ask([&](Done done) {
              device_->preempt_and_abort(6, ReservationType::write_exclusive_registrants_only,
                                         std::move(done));
            }),
            Errc{});
  EXPECT_EQ(calls_->preempt.old_key, 5u);
  EXPECT_EQ(calls_->preempt.new_key, 6u);
  EXPECT_EQ(calls_->preempt.type, uint32_t{PR_WRITE_EXCLUSIVE_REG_ONLY});
  EXPECT_EQ(ask([&](Done done) { device_->clear_reservations(std::move(done)); }), Errc{});
  EXPECT_EQ(calls_->clear.key, 5u);
}

TEST_F(KernelSharedDeviceTest, ReadsKeysAndReservation) {
  open_scripted();
  const auto state = read();
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->generation, 9u);
  EXPECT_EQ(state->keys, (std::vector<uint64_t>{0x100, 0x101, 0x102}));
  EXPECT_EQ(state->holder_key, 0x101u);
  EXPECT_EQ(state->type, ReservationType::write_exclusive_all_registrants);
}

TEST_F(KernelSharedDeviceTest, AKeyThatIsNotThereAnyMoreIsFoundWhenItIsAskedFor) {
  open_scripted();
  const auto verify = [&] { return ask([&](Done done) { device_->verify_key(std::move(done)); }); };
  EXPECT_EQ(verify(), Errc::invalid_argument);
  ASSERT_EQ(use_key(0x101), Errc{});  // one of those that the kernel tells
  EXPECT_EQ(verify(), Errc{});
  EXPECT_TRUE(events_.empty());
  ASSERT_EQ(use_key(5), Errc{});
  EXPECT_EQ(verify(), Errc::permission);
  EXPECT_EQ(events_, std::vector{BlockEvent::Kind::key_lost});
  EXPECT_EQ(run(Kind::flush, 0, 0), -EBADE);
}

TEST_F(KernelSharedDeviceTest, WhatTheKernelAnswers) {
  open_scripted();
  const std::pair<int, Errc> pairs[] = {
      {0x18, Errc::permission},         {2, Errc::io},      {-ENOTTY, Errc::unsupported},
      {-EOPNOTSUPP, Errc::unsupported}, {-EPERM, Errc::io}, {-EIO, Errc::io}};
  for (const auto& [status, code] : pairs) {
    calls_->status = status;
    EXPECT_EQ(use_key(5), code) << status;
    EXPECT_EQ(read().error().code, code) << status;
  }
}

TEST_F(KernelSharedDeviceTest, AConflictFencesUntilReadmitted) {
  open_scripted();
  AlignedBytes memory(4096);
  held_->free_result = -EBADE;
  EXPECT_EQ(run(Kind::flush, 0, 0), -EBADE);  // without a key: just an error
  EXPECT_TRUE(events_.empty());
  EXPECT_EQ(ask([&](Done done) { device_->readmit(std::move(done)); }), Errc::invalid_argument);
  ASSERT_EQ(use_key(5), Errc{});
  EXPECT_EQ(run(Kind::flush, 0, 0), -EBADE);
  EXPECT_EQ(events_, std::vector{BlockEvent::Kind::key_lost});
  const size_t before = held_->calls.size();
  EXPECT_EQ(run(Kind::read, 0, 4096, {memory.all()}), -EBADE);
  EXPECT_EQ(held_->calls.size(), before);
  EXPECT_EQ(events_.size(), 1u);
  EXPECT_EQ(ask([&](Done done) { device_->readmit(std::move(done)); }), Errc{});
  EXPECT_EQ(run(Kind::read, 0, 4096, {memory.all()}), 4096);
}

TEST_F(KernelSharedDeviceTest, ACallThatNeverEndsHasItsTime) {
  calls_->stuck = std::make_unique<std::promise<void>>();
  open_scripted(20ms);
  EXPECT_EQ(use_key(5), Errc::timed_out);
  TearDown();  // nor does it keep the device from closing
  calls_->stuck->set_value();
}

// A loop device: the kernel's, without reservations.
class LoopDevice {
 public:
  LoopDevice() {
    EXPECT_EQ(ftruncate(file_, static_cast<off_t>(4 * kMiB)), 0);
    const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    // Others take free numbers too.
    while (fd_ < 0) {
      path_ = "/dev/loop" + std::to_string(ioctl(control, LOOP_CTL_GET_FREE));
      fd_ = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
      if (fd_ < 0) break;
      if (ioctl(fd_, LOOP_SET_FD, file_) == 0) break;
      ::close(std::exchange(fd_, -1));
      if (errno != EBUSY) break;
    }
    ::close(control);
    EXPECT_GE(fd_, 0) << path_;
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice() {
    ioctl(fd_, LOOP_CLR_FD, 0);
    ::close(fd_);
    ::close(file_);
  }
  void grow(uint64_t size_bytes) const {
    EXPECT_EQ(ftruncate(file_, static_cast<off_t>(size_bytes)), 0);
    EXPECT_EQ(ioctl(fd_, LOOP_SET_CAPACITY, 0), 0);
  }
  const std::string& path() const { return path_; }

 private:
  int file_ = ::open(::testing::TempDir().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  int fd_ = -1;
  std::string path_;
};

class KernelLoopDeviceTest : public KernelSharedDeviceTest {
 protected:
  std::shared_ptr<FileBacking> open_backing(bool shared) {
    auto worker = BlockingWorker::start();
    auto opened = FileBacking::open(
        {.kind = BackingKind::block, .path = loop_.path(), .shared = shared}, worker);
    if (!opened.has_value()) worker->finish();
    return opened.has_value() ? *opened : nullptr;
  }
  void open_loop() {
    auto backing = open_backing(true);
    ASSERT_NE(backing, nullptr);
    const int fd = backing->fd();
    open(std::move(backing), fd, {.size_poll = 20ms});
  }
  LoopDevice loop_;
};

TEST_F(KernelLoopDeviceTest, CarriesRequestsOfAllKinds) {
  open_loop();
  EXPECT_EQ(device_->info().size_bytes, 4 * kMiB);
  std::vector<uint8_t> data(8193, 3);
  const auto odd = base::MutableBytes(data).subspan(1);
  EXPECT_EQ(run(Kind::write, 0, 8192, {odd}), 8192);
  EXPECT_EQ(run(Kind::compare_and_write, 0, 4096, {odd}), 0);
  EXPECT_EQ(run(Kind::write_zeroes, 512, 512), 0);
  EXPECT_EQ(run(Kind::discard, 4096, 4096), 0);
  EXPECT_EQ(run(Kind::flush, 0, 0), 0);
  EXPECT_EQ(run(Kind::read, 0, 8192, {odd}), 8192);
  EXPECT_EQ(odd[511], 3);
  EXPECT_EQ(odd[512], 0);
  EXPECT_EQ(odd[1024], 3);
  EXPECT_EQ(odd[4096], 0);
}

TEST_F(KernelLoopDeviceTest, ReservationsAreAClearError) {
  open_loop();
  EXPECT_EQ(use_key(7), Errc::unsupported);
  EXPECT_EQ(reserve(ReservationType::write_exclusive), Errc::unsupported);
  EXPECT_EQ(read().error().code, Errc::unsupported);
}

TEST_F(KernelLoopDeviceTest, GrowthIsNoticed) {
  open_loop();
  loop_.grow(6 * kMiB);
  ASSERT_EQ(grown_.get_future().wait_for(10s), std::future_status::ready);
  EXPECT_EQ(device_->info().size_bytes, 6 * kMiB);
}

TEST_F(KernelLoopDeviceTest, SeveralMayShareItOneMayClaimIt) {
  {
    const auto first = open_backing(true), second = open_backing(true);
    EXPECT_NE(first, nullptr);
    EXPECT_NE(second, nullptr);
    EXPECT_EQ(open_backing(false), nullptr);
  }
  const auto alone = open_backing(false);
  EXPECT_NE(alone, nullptr);
  EXPECT_EQ(open_backing(true), nullptr);
}

}  // namespace
}  // namespace holdfast::io
