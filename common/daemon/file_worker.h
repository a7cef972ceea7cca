#pragma once
// Reads and writes a daemon's files on a thread of its own, in the order asked for: storage that
// hangs below one of them must stop neither the control loop nor the control socket.

#include <atomic>
#include <memory>

#include "common/io/blocking_worker.h"

namespace holdfast::daemon {

// Owner: main, which makes it after the SignalWatch. Calls from any thread.
class FileWorker {
 public:
  FileWorker() : worker_(io::BlockingWorker::start()) {}
  FileWorker(const FileWorker&) = delete;
  FileWorker& operator=(const FileWorker&) = delete;
  // What still runs is not waited for. See busy().
  ~FileWorker() { worker_->finish(); }

  // False: too many wait already.
  bool submit(io::Task task);
  // Something runs or waits, and uses what it was given: that must not be destroyed then.
  bool busy() const { return *unfinished_ > 0; }

 private:
  std::shared_ptr<io::BlockingWorker> worker_;
  std::shared_ptr<std::atomic<size_t>> unfinished_ = std::make_shared<std::atomic<size_t>>(0);
};

}  // namespace holdfast::daemon
