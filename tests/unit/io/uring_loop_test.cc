#include "common/io/uring_loop.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {
namespace {

class UringLoopTest : public LoopTest {
 protected:
  // What happened, in order.
  std::string log_;
};

Duration thread_cpu_time() {
  timespec used{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

TEST_F(UringLoopTest, NothingCompletesInsideTheSubmittingCall) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
  ASSERT_EQ(write(pipe[1], "x", 1), 1);  // ready before it is asked for
  char byte = 0;
  bool inside = false;
  int left = 3;
  const auto done = [&](int32_t) {
    EXPECT_FALSE(inside);
    if (--left == 0) finish();
  };
  Call soon(done), turn_end(done), read(done);
  run([&] {
    inside = true;
    loop().complete_soon(soon, 0);
    loop().at_turn_end(turn_end);
    io_uring_prep_read(loop().prepare(read), pipe[0], &byte, 1, 0);
    for (Call* call : {&soon, &turn_end, &read}) EXPECT_TRUE(call->busy());
    inside = false;
  });
  EXPECT_EQ(left, 0);
  EXPECT_EQ(byte, 'x');
  close(pipe[0]);
  close(pipe[1]);
}

TEST_F(UringLoopTest, TimersFireInTheOrderOfTheirDeadlines) {
  Instant before{}, at_last{};
  Alarm last([&] {
    log_ += 'c';
    at_last = loop().now();
    finish();
  });
  Alarm first([&] { log_ += 'a'; }), twin([&] { log_ += 'b'; });
  run([&] {
    before = loop().now();
    loop().start(last, 20ms);
    loop().start(first, 5ms);
    loop().start(twin, 5ms);  // equal deadlines: as they were armed
  });
  EXPECT_EQ(log_, "abc");
  EXPECT_GE(at_last - before, 20ms);
}

TEST_F(UringLoopTest, ATimerArmedAgainFiresOnceAtTheNewTime) {
  int fired = 0;
  Alarm timer([&] { ++fired; });
  Alarm end([&] { finish(); });
  run([&] {
    loop().start(timer, 1h);
    loop().start(timer, 1ms);
    EXPECT_TRUE(timer.armed());
    loop().start(end, 20ms);
  });
  EXPECT_EQ(fired, 1);
  EXPECT_FALSE(timer.armed());
}

TEST_F(UringLoopTest, AStoppedTimerDoesNotFire) {
  int fired = 0;
  Alarm stopped([&] { ++fired; });
  Alarm sibling([&] { ++fired; });
  // Due in the same turn as the sibling, which it stops.
  Alarm stopper([&] { loop().stop(sibling); });
  Alarm end([&] { finish(); });
  run([&] {
    loop().start(stopped, 1ms);
    loop().stop(stopped);
    EXPECT_FALSE(stopped.armed());
    loop().stop(stopped);  // not armed: nothing happens
    loop().start(stopper, 2ms);
    loop().start(sibling, 2ms);
    loop().start(end, 20ms);
  });
  EXPECT_EQ(fired, 0);
}

TEST_F(UringLoopTest, ATimerWithoutDelayDoesNotKeepOthersFromRunning) {
  int fired = 0;
  Alarm* self = nullptr;
  Call other([&](int32_t) { finish(); });
  Alarm again([&] {
    if (++fired == 1) loop().complete_soon(other, 0);
    ASSERT_LT(fired, 100) << "it fires again and again within one turn";
    loop().start(*self, 0ns);
  });
  self = &again;
  run([&] { loop().start(again, 0ns); });
  loop().stop(again);
  EXPECT_GE(fired, 1);
}

TEST_F(UringLoopTest, TimeStandsStillWithinATurn) {
  run([&] {
    const Instant at_first = loop().now();
    const timespec pause{.tv_sec = 0, .tv_nsec = 2'000'000};
    nanosleep(&pause, nullptr);
    EXPECT_EQ(loop().now(), at_first);
    loop().post([&, at_first]() noexcept {
      EXPECT_GE(loop().now() - at_first, 2ms);
      finish();
    });
  });
}

TEST_F(UringLoopTest, SoonComesInOrderAndTheTurnsEndAfterIt) {
  Call a([&](int32_t result) { log_ += std::to_string(result); });
  Call b([&](int32_t result) { log_ += std::to_string(result); });
  Call end([&](int32_t result) {
    EXPECT_EQ(result, 0);
    log_ += 'e';
    finish();
  });
  run([&] {
    loop().at_turn_end(end);
    loop().complete_soon(a, 1);
    loop().complete_soon(b, -2);
  });
  EXPECT_EQ(log_, "1-2e");
}

TEST_F(UringLoopTest, AnOperationSubmittedAgainByItsCallbackWaitsForTheNextTurn) {
  Call* self = nullptr;
  int rounds = 0;
  Call again([&](int32_t) {
    log_ += 'r';
    if (++rounds < 3) loop().complete_soon(*self, 0);
    if (rounds == 3) finish();
  });
  Call end([&](int32_t) { log_ += 'e'; });
  self = &again;
  run([&] {
    loop().complete_soon(again, 0);
    loop().at_turn_end(end);
  });
  EXPECT_EQ(log_, "rerr");  // the end of the first turn comes before the second round
}

TEST_F(UringLoopTest, OneFlushAtTheEndOfABatchOfCompletions) {
  constexpr int kReads = 20;
  const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(zero, 0);
  std::array<char, kReads> bytes{};
  int reads = 0, flushes = 0, read_before_flush = 0;
  Call flush([&](int32_t) {
    ++flushes;
    read_before_flush = reads;
    if (reads == kReads) finish();
  });
  std::vector<std::unique_ptr<Call>> calls;
  run([&] {
    for (char& byte : bytes) {
      calls.push_back(std::make_unique<Call>([&](int32_t result) {
        EXPECT_EQ(result, 1);
        ++reads;
        if (!flush.busy()) loop().at_turn_end(flush);
      }));
      io_uring_prep_read(loop().prepare(*calls.back(), 1), zero, &byte, 1, 0);
    }
  });
  // All of them were submitted at once and complete at once.
  EXPECT_EQ(flushes, 1);
  EXPECT_EQ(read_before_flush, kReads);
  close(zero);
}

TEST_F(UringLoopTest, PostsFromOtherThreadsArriveInTheirOrder) {
  constexpr int kThreads = 4, kPosts = 500;
  std::array<int, kThreads> next{};
  int total = 0;
  const auto loop_thread = std::this_thread::get_id();
  std::vector<std::thread> threads;
  run([&] {
    for (size_t thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < kPosts; ++i) {
          loop().post([&, thread, i]() noexcept {
            EXPECT_EQ(std::this_thread::get_id(), loop_thread);
            EXPECT_EQ(next[thread]++, i);
            if (++total == kThreads * kPosts) finish();
          });
        }
      });
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total, kThreads * kPosts);
}

TEST_F(UringLoopTest, APostWakesASleepingLoop) {
  std::thread poster;
  Instant asleep{};
  run([&] {
    asleep = loop().now();
    poster = std::thread([&] {
      std::this_thread::sleep_for(20ms);
      loop().post([&]() noexcept { finish(); });
    });
  });
  poster.join();
  EXPECT_LT(loop().now() - asleep, 500ms);  // it would have slept a second
}

TEST_F(UringLoopTest, StopComesFromAnyThread) {
  std::thread stopper;
  run([&] { stopper = std::thread([&] { loop().stop(); }); });
  stopper.join();
}

TEST_F(UringLoopTest, ACancelledOperationCompletesOnce) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
  char byte = 0;
  int completed = 0;
  int32_t of_read = 0, of_soon = 0;
  Call read([&](int32_t result) {
    ++completed;
    of_read = result;
  });
  Call soon([&](int32_t result) { of_soon = result; });
  Alarm cancel([&] {
    loop().cancel(read);
    loop().cancel(read);  // twice does no harm
  });
  Alarm end([&] { finish(); });
  run([&] {
    io_uring_prep_read(loop().prepare(read), pipe[0], &byte, 1, 0);
    loop().complete_soon(soon, 7);
    loop().cancel(soon);  // it completes in this turn anyway, with its result
    loop().start(cancel, 5ms);
    loop().start(end, 30ms);
  });
  EXPECT_EQ(completed, 1);
  EXPECT_EQ(of_read, -ECANCELED);
  EXPECT_EQ(of_soon, 7);
  loop().cancel(read);  // idle: nothing happens
  close(pipe[0]);
  close(pipe[1]);
}

TEST_F(UringLoopTest, MoreThanTheQueuesHoldIsNotLost) {
  open({.sq_entries = 8, .cq_entries = 16});
  constexpr int kReads = 300;
  const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(zero, 0);
  std::array<char, kReads> bytes{};
  int done = 0;
  std::vector<std::unique_ptr<Call>> calls;
  run([&] {
    for (char& byte : bytes) {
      calls.push_back(std::make_unique<Call>([&](int32_t result) {
        EXPECT_EQ(result, 1);
        if (++done == kReads) finish();
      }));
      io_uring_prep_read(loop().prepare(*calls.back(), 1), zero, &byte, 1, 0);
    }
  });
  EXPECT_EQ(done, kReads);
  close(zero);
}

TEST_F(UringLoopTest, AShortTransferIsAnErrorWhereAWholeOneWasExpected) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
  std::array<char, 8> bytes{};
  int32_t short_read = 0, free_read = 0, failed = 0;
  Call failing([&](int32_t result) {
    failed = result;
    finish();
  });
  Call taking([&](int32_t result) {
    free_read = result;
    io_uring_prep_read(loop().prepare(failing, 8), -1, bytes.data(), 8, 0);
  });
  Call expecting([&](int32_t result) {
    short_read = result;
    EXPECT_EQ(write(pipe[1], "abc", 3), 3);
    io_uring_prep_read(loop().prepare(taking), pipe[0], bytes.data(), 8, 0);
  });
  run([&] {
    EXPECT_EQ(write(pipe[1], "abc", 3), 3);
    io_uring_prep_read(loop().prepare(expecting, 8), pipe[0], bytes.data(), 8, 0);
  });
  EXPECT_EQ(short_read, -EIO);
  EXPECT_EQ(free_read, 3);
  EXPECT_EQ(failed, -EBADF);  // the kernel's own word is kept
  close(pipe[0]);
  close(pipe[1]);
}

TEST_F(UringLoopTest, SpinningEndsWhenTheLoopIsIdle) {
  open({.spin_us = 500});
  Call* self = nullptr;
  int rounds = 0;
  const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  char byte = 0;
  Duration busy_until{};
  Alarm end([&] { finish(); });
  Call read([&](int32_t) {
    if (++rounds < 200) {  // short gaps: now it may spin
      io_uring_prep_read(loop().prepare(*self), zero, &byte, 1, 0);
      return;
    }
    busy_until = thread_cpu_time();
    loop().start(end, 200ms);
  });
  self = &read;
  run([&] { io_uring_prep_read(loop().prepare(read), zero, &byte, 1, 0); });
  EXPECT_LT(thread_cpu_time() - busy_until, 50ms);
  close(zero);
}

}  // namespace
}  // namespace holdfast::io
