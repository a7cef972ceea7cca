#pragma once
// A real loop, used in two ways: LoopTest runs it on the test's own thread, from a first call to
// finish(); LoopThread runs it beside the test, which hands it one operation after the other.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "common/io/uring_loop.h"

namespace holdfast::io {

using namespace std::chrono_literals;

// An operation whose completion is a lambda.
class Call {
 public:
  explicit Call(std::function<void(int32_t)> callback) : callback_(std::move(callback)) {}
  operator Op&() { return op_; }  // NOLINT(google-explicit-constructor)
  bool busy() const { return op_.busy(); }

 private:
  void on_done(int32_t result) noexcept { callback_(result); }
  std::function<void(int32_t)> callback_;
  OpOf<Call, &Call::on_done> op_{*this};
};

class Alarm {
 public:
  explicit Alarm(std::function<void()> callback) : callback_(std::move(callback)) {}
  operator Timer&() { return timer_; }  // NOLINT(google-explicit-constructor)
  bool armed() const { return timer_.armed(); }

 private:
  void on_fired() noexcept { callback_(); }
  std::function<void()> callback_;
  TimerOf<Alarm, &Alarm::on_fired> timer_{*this};
};

class LoopTest : public ::testing::Test {
 protected:
  static constexpr Duration kTooLong = 10s;

  void open(const UringLoopOptions& options = {}) {
    auto opened = UringLoop::open(options);
    ASSERT_TRUE(opened.has_value()) << opened.error().what;
    loop_ = std::move(*opened);
  }
  UringLoop& loop() { return *loop_; }

  // Once per test. Returns after finish(), or fails.
  void run(std::function<void()> first) {
    if (loop_ == nullptr) open();
    Alarm guard([this] {
      ADD_FAILURE() << "the loop was not finished";
      loop_->stop();
    });
    loop_->post([&]() noexcept {
      loop_->start(guard, kTooLong);
      first();
    });
    loop_->run();
    loop_->stop(guard);
  }
  void finish() { loop_->stop(); }

  std::unique_ptr<UringLoop> loop_;
};

class LoopThread {
 public:
  explicit LoopThread(const UringLoopOptions& options = {}) {
    auto opened = UringLoop::open(options);
    EXPECT_TRUE(opened.has_value());
    loop_ = std::move(*opened);
    thread_ = std::thread([this] { loop_->run(); });
  }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  ~LoopThread() {
    loop_->stop();
    thread_.join();
  }

  UringLoop& loop() { return *loop_; }

  // On the loop; returns when it has run.
  void call(std::function<void()> work) {
    std::promise<void> done;
    loop_->post([&]() noexcept {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  // Submits one operation and returns its result. A completion from inside the submitting call, or
  // a second one, fails the test.
  int32_t complete(const std::function<void(Op&)>& submit) {
    std::promise<int32_t> done;
    std::unique_ptr<Call> op;
    bool inside = false;
    op = std::make_unique<Call>([&](int32_t result) {
      EXPECT_FALSE(inside) << "completed from inside the submitting call";
      done.set_value(result);
    });
    call([&] {
      inside = true;
      submit(*op);
      inside = false;
    });
    const int32_t result = done.get_future().get();
    call([] {});  // the completion has returned
    return result;
  }

 private:
  std::unique_ptr<UringLoop> loop_;
  std::thread thread_;
};

// 4096-aligned, as BlockDevice wants it.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size, uint8_t fill = 0)
      : bytes_(static_cast<uint8_t*>(std::aligned_alloc(4096, (size + 4095) / 4096 * 4096))),
        size_(size) {
    std::fill_n(bytes_, size, fill);
  }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  ~AlignedBytes() { std::free(bytes_); }

  base::MutableBytes all() { return {bytes_, size_}; }
  bool all_are(uint8_t value, size_t from, size_t length) const {
    for (size_t i = from; i < from + length; ++i) {
      if (bytes_[i] != value) return false;
    }
    return true;
  }
  bool all_are(uint8_t value) const { return all_are(value, 0, size_); }

 private:
  uint8_t* bytes_;
  size_t size_;
};

}  // namespace holdfast::io
