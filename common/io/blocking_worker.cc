#include "common/io/blocking_worker.h"

namespace holdfast::io {

std::shared_ptr<BlockingWorker> BlockingWorker::start() {
  std::shared_ptr<BlockingWorker> worker(new BlockingWorker);
  std::thread([worker] { worker->run(); }).detach();
  return worker;
}

bool BlockingWorker::submit(Task task) {
  {
    const MutexLock lock(mutex_);
    if (finishing_ || queue_.size() >= kMaxQueued) return false;
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
  return true;
}

void BlockingWorker::finish() {
  {
    const MutexLock lock(mutex_);
    finishing_ = true;
  }
  wake_.notify_one();
}

void BlockingWorker::run() {
  MutexLock lock(mutex_);
  while (true) {
    while (!finishing_ && queue_.empty()) wake_.wait(lock);
    if (queue_.empty()) return;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace holdfast::io
