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
  // Gives a device of these what is left for it to fence, and the way to note more, to be used on
  // its `loop`.
  void hand_over(const std::vector<DeviceConfig>& all, DeviceServiceOptions& device,
                 io::Loop& loop);
  // A device has ended while others go on, and of these sessions writes may still land: who comes
  // to its target next is to fence them.
  void leave(const std::vector<uint64_t>& unfenced);
  // The devices have ended, and of these sessions writes may still land: the next process is to
  // know. Precondition: `files` is idle.
  void close(std::vector<uint64_t> unfenced);

 private:
  SessionBook(std::unique_ptr<IsidStore> store, daemon::FileWorker& files)
      : store_(std::move(store)), files_(files) {}
  void note_group(io::Loop& loop, uint64_t isid, uint16_t tag, DeviceOptions::Noted noted);

  std::unique_ptr<IsidStore> store_;
  daemon::FileWorker& files_;
  std::set<uint64_t> left_to_nobody_;  // no device of the configuration is of their target
};

}  // namespace holdfast::mpio
