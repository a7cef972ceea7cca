#include "common/daemon/file_worker.h"

#include <gtest/gtest.h>

#include <future>

namespace holdfast::daemon {
namespace {

TEST(FileWorker, IsBusyUntilTheLastTaskHasEnded) {
  std::promise<void> hang, ended;
  bool first_done = false;
  FileWorker files;
  EXPECT_FALSE(files.busy());
  ASSERT_TRUE(files.submit([&]() noexcept {
    hang.get_future().wait();
    first_done = true;
  }));
  ASSERT_TRUE(files.submit([&]() noexcept {
    EXPECT_TRUE(first_done);  // in order
    ended.set_value();
  }));
  EXPECT_TRUE(files.busy());
  hang.set_value();
  ended.get_future().wait();
  while (files.busy()) std::this_thread::yield();
}

TEST(FileWorker, ATaskThatHangsHoldsUpNobodysEnd) {
  const auto hang = std::make_shared<std::promise<void>>();
  {
    FileWorker files;
    ASSERT_TRUE(files.submit([hang]() noexcept { hang->get_future().wait(); }));
    EXPECT_TRUE(files.busy());
  }
  hang->set_value();
}

TEST(FileWorker, RefusesWhenTooManyWait) {
  const auto hang = std::make_shared<std::promise<void>>();
  FileWorker files;
  size_t taken = 0;
  ASSERT_TRUE(files.submit([hang]() noexcept { hang->get_future().wait(); }));
  while (taken <= io::BlockingWorker::kMaxQueued && files.submit([]() noexcept {})) ++taken;
  EXPECT_GE(taken, io::BlockingWorker::kMaxQueued - 1);
  EXPECT_LE(taken, io::BlockingWorker::kMaxQueued);
  hang->set_value();
}

}  // namespace
}  // namespace holdfast::daemon
