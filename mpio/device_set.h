#pragma once
// The devices of the daemon, each on the loop of one of its threads, and how they come and go while
// it runs.
//
// Owner: main. All calls and callbacks on the control loop.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/io/buffer_pool.h"
#include "mpio/device_service.h"

namespace holdfast::mpio {

struct DeviceHandle {
  DeviceHandle(std::string device, io::Loop& its_loop)
      : name(std::move(device)), loop(its_loop), last{.name = name} {}

  const std::string name;
  io::Loop& loop;
  // On its loop's thread only: what is posted there finds it, from add() to the end of the device.
  std::unique_ptr<DeviceService> service;
  DeviceStatus last;  // the control loop's: as it last answered
};

class DeviceSet {
 public:
  using Done = std::move_only_function<void() noexcept>;
  using Devices = std::vector<std::shared_ptr<DeviceHandle>>;

  explicit DeviceSet(io::Loop& loop) : loop_(loop) {}
  DeviceSet(const DeviceSet&) = delete;
  DeviceSet& operator=(const DeviceSet&) = delete;
  ~DeviceSet();  // empty, or no thread runs any more

  // Makes a device and starts it on services.loop; the services and buffers outlive it. `known`
  // once, when it has been reached; not if it ends before.
  void add(const Path::Services& services, io::BufferPool& buffers, DeviceServiceOptions options,
           Done known);
  // Ends those of these names, and waits until they have ended: their clients are cut off, their
  // sessions logged out. One at a time.
  void remove(const std::vector<std::string>& names, Done gone);
  // The same with all, also while a remove() is under way, whose `gone` then never comes.
  void stop(Done gone);

  // All that are neither ending nor gone.
  const Devices& devices() const { return devices_; }
  std::shared_ptr<DeviceHandle> find(std::string_view name) const;  // nullptr: there is none
  // Of all that have ended since the last call.
  std::vector<DeviceRemains> take_remains() { return std::exchange(remains_, {}); }

  // What a configuration without reload_obstacles() says of the devices that are here.
  void apply(const std::vector<DeviceConfig>& devices, const std::vector<ExportConfig>& exports);
  void link_changed(const io::Endpoint& source, bool up);

 private:
  void end(std::shared_ptr<DeviceHandle> device);
  void on_ended(DeviceRemains remains);
  void check_gone();

  io::Loop& loop_;
  Devices devices_;
  size_t ending_ = 0;
  bool stopping_ = false;
  Done gone_;
  std::vector<DeviceRemains> remains_;
};

}  // namespace holdfast::mpio
