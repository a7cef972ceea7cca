#pragma once
// Which sessions the devices of this daemon have, and which an earlier process of it has left at
// their targets: the IsidStore in terms of devices. docs/mpio.md, "What a killed process leaves".

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "common/daemon/file_worker.h"
#include "mpio/device_service.h"
#include "mpio/isid_store.h"

namespace holdfast::mpio {

// Owner: main. Blocking; used by one thread at a time: main's before devices begin and after they
// have ended, that of `files` between.
class SessionBook {
 public:
  // `files` outlives it. The error is for the administrator.
  static std::expected<std::unique_ptr<SessionBook>, std::string> open(const std::string& state_dir,
                                                                       base::Random& random,
                                                                       daemon::FileWorker& files);

  // Gives a device its ISIDs, which are not to be used before begin().
  std::expected<void, std::string> assign(DeviceServiceOptions& device);
  // What was assigned is durable.
  std::expected<void, std::string> begin() { return store_->begin(); }
  // Gives a device all that is left, of which it takes what is of its unit, and the way to note
  // more, to be used on its `loop`.
  void hand_over(DeviceServiceOptions& device, io::Loop& loop);
  // A device has ended while others go on: who comes to its unit next is to fence what it left.
  void leave(const DeviceRemains& remains);
  // All devices have ended: the next process is to know what they left. Precondition: `files` is
  // idle.
  void close(const std::vector<DeviceRemains>& remains);

 private:
  SessionBook(std::unique_ptr<IsidStore> store, daemon::FileWorker& files)
      : store_(std::move(store)), files_(files) {}
  void note(io::Loop& loop, uint64_t isid, std::set<SessionTrace> traces,
            DeviceOptions::Noted noted);

  std::unique_ptr<IsidStore> store_;
  daemon::FileWorker& files_;
};

}  // namespace holdfast::mpio
