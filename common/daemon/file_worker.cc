#include "common/daemon/file_worker.h"

#include <utility>

namespace holdfast::daemon {

bool FileWorker::submit(io::Task task) {
  ++*unfinished_;
  const bool taken =
      worker_->submit([unfinished = unfinished_, task = std::move(task)]() mutable noexcept {
        task();
        task = nullptr;
        --*unfinished;
      });
  if (!taken) --*unfinished_;
  return taken;
}

}  // namespace holdfast::daemon
