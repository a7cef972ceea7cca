#include "common/io/blocking_worker.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <vector>

namespace holdfast::io {
namespace {

using namespace std::chrono_literals;

TEST(BlockingWorker, RunsTasksInOrderOnAnotherThread) {
  const std::shared_ptr<BlockingWorker> worker = BlockingWorker::start();
  std::vector<int> order;
  std::promise<void> done;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(worker->submit([&, i, self = std::this_thread::get_id()]() noexcept {
      EXPECT_NE(std::this_thread::get_id(), self);
      order.push_back(i);
      if (i == 99) done.set_value();
    }));
  }
  done.get_future().wait();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  worker->finish();
}

TEST(BlockingWorker, QueueIsBoundedAndARefusedTaskIsDropped) {
  const std::shared_ptr<BlockingWorker> worker = BlockingWorker::start();
  std::promise<void> started, release;
  std::shared_future<void> released = release.get_future().share();
  ASSERT_TRUE(worker->submit([&, released]() noexcept {
    started.set_value();
    released.wait();
  }));
  started.get_future().wait();
  std::atomic<size_t> ran{0};
  for (size_t i = 0; i < BlockingWorker::kMaxQueued; ++i) {
    ASSERT_TRUE(worker->submit([&ran]() noexcept { ++ran; }));
  }
  bool refused_ran = false;
  auto token = std::make_shared<int>();
  EXPECT_FALSE(worker->submit([&refused_ran, token]() noexcept { refused_ran = true; }));
  EXPECT_EQ(token.use_count(), 1);
  release.set_value();
  std::promise<void> done;
  while (!worker->submit([&done]() noexcept { done.set_value(); })) std::this_thread::yield();
  done.get_future().wait();
  EXPECT_EQ(ran, BlockingWorker::kMaxQueued);
  EXPECT_FALSE(refused_ran);
  worker->finish();
}

TEST(BlockingWorker, FinishingRunsWhatIsQueuedAndTakesNoMore) {
  const std::shared_ptr<BlockingWorker> worker = BlockingWorker::start();
  std::promise<void> release, last;
  std::shared_future<void> released = release.get_future().share();
  ASSERT_TRUE(worker->submit([released]() noexcept { released.wait(); }));
  ASSERT_TRUE(worker->submit([&last]() noexcept { last.set_value(); }));
  worker->finish();
  EXPECT_FALSE(worker->submit([]() noexcept {}));
  release.set_value();
  last.get_future().wait();
}

TEST(BlockingWorker, ACallThatDoesNotReturnDelaysNoOwner) {
  std::shared_ptr<BlockingWorker> worker = BlockingWorker::start();
  const std::weak_ptr<BlockingWorker> watch = worker;
  std::promise<void> started, release;
  std::shared_future<void> released = release.get_future().share();
  ASSERT_TRUE(worker->submit([&started, released]() noexcept {
    started.set_value();
    released.wait();
  }));
  started.get_future().wait();
  worker->finish();
  worker.reset();  // returns although the call has not
  EXPECT_FALSE(watch.expired());
  release.set_value();
  for (int i = 0; i < 1000 && !watch.expired(); ++i) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(watch.expired());  // the thread has ended and let go of it
}

}  // namespace
}  // namespace holdfast::io
