#pragma once
// Multipath devices inside another daemon of a cluster (the quorum daemon, the shared volume), all
// on its one loop: docs/mpio.md, "Embedded in another daemon".
//
// Owner: main. open() and finish() block, before the loop runs and after it; the other calls come
// on the loop's thread.

#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/netlink_link_watch.h"
#include "mpio/device_service.h"
#include "mpio/session_book.h"

namespace holdfast::mpio {

class EmbeddedDevices final : private io::LinkListener {
 public:
  struct Options {
    std::vector<DeviceConfig> devices;
    std::string initiator_name;
    std::string state_dir;    // of this daemon alone
    std::string config_file;  // for messages
  };

  // Makes the ISIDs durable. The error is for the administrator. `random` and `files` outlive it.
  static std::expected<std::unique_ptr<EmbeddedDevices>, std::string> open(
      io::UringLoop& loop, base::Random& random, daemon::FileWorker& files, const Options& options);
  ~EmbeddedDevices() override;

  // All begin to log in; none is waited for.
  void start();
  // Null: there is no such device. It may be used at once: what is asked of it waits for a path,
  // within its own time and `no_path_timeout`.
  io::SharedBlockDevice* find(std::string_view name);
  std::vector<DeviceStatus> status() const;
  // Once; `stopped` when all paths have logged out, within the bounds of Device::stop().
  void stop(io::Task stopped);
  // Stopped: the next process is to know what was left.
  void finish();

 private:
  EmbeddedDevices(io::UringLoop& loop, std::vector<DeviceConfig> devices)
      : loop_(loop), configs_(std::move(devices)) {}
  void on_link(const io::LinkEvent& event) noexcept override;
  void check_stopped();

  io::UringLoop& loop_;
  const std::vector<DeviceConfig> configs_;
  std::unique_ptr<SessionBook> sessions_;
  std::unique_ptr<io::BufferPool> buffers_;
  std::vector<std::unique_ptr<DeviceService>> devices_;
  std::unique_ptr<io::NetlinkLinkWatch> links_;
  size_t running_ = 0;  // devices, and the watch
  io::Task stopped_;
};

}  // namespace holdfast::mpio
