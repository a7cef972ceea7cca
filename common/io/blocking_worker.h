#pragma once
// A thread for calls that can block and have no io_uring operation: opening, locking, SEEK_HOLE.
// One per backing, so that a dead file server stops only its own disk.

#include <deque>
#include <memory>
#include <thread>

#include "common/io/loop.h"
#include "common/io/mutex.h"

namespace holdfast::io {

class BlockingWorker : public std::enable_shared_from_this<BlockingWorker> {
 public:
  static constexpr size_t kMaxQueued = 1024;

  // The thread holds a reference to the worker, so a call that never returns delays nobody's
  // destructor: the last owner lets go and the thread ends after its call.
  static std::shared_ptr<BlockingWorker> start();
  ~BlockingWorker() = default;

  // False when too much is queued already; the task is then dropped unrun.
  bool submit(Task task);
  // No more tasks; queued ones still run. Called by the owner before it lets go.
  void finish();

 private:
  BlockingWorker() = default;
  void run();

  Mutex mutex_;
  Condition wake_;
  std::deque<Task> queue_ HOLDFAST_GUARDED_BY(mutex_);
  bool finishing_ HOLDFAST_GUARDED_BY(mutex_) = false;
};

}  // namespace holdfast::io
