#include "common/io/backing_opener.h"

#include "common/io/file_backing.h"
#include "common/io/memory_backing.h"

namespace holdfast::io {

void SystemBackingOpener::claim(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) == 0) claims_->add(FileClaims::key_of(status), path);
}

void SystemBackingOpener::open(const BackingSpec& spec, Loop& reply_to, Opened done) {
  if (spec.kind == BackingKind::memory) {
    reply_to.post(
        [spec, done = std::move(done)]() mutable noexcept { done(MemoryBacking::open(spec)); });
    return;
  }
  auto worker = BlockingWorker::start();
  const bool taken = worker->submit(
      [spec, worker, claims = claims_, &reply_to, done = std::move(done)]() mutable noexcept {
        base::Result<std::shared_ptr<Backing>> opened = FileBacking::open(spec, worker, claims);
        if (!opened.has_value()) worker->finish();
        reply_to.post([opened = std::move(opened), done = std::move(done)]() mutable noexcept {
          done(std::move(opened));
        });
      });
  ASSERT(taken);  // a new worker has room
}

}  // namespace holdfast::io
