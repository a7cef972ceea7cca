#pragma once
// One configured device with its exports: what the daemon runs for it, all on one loop.
//
// Owner: main. Every call but the constructor comes on the loop's thread.

#include <memory>
#include <string>
#include <vector>

#include "mpio/config.h"
#include "mpio/device.h"
#include "mpio/device_status.h"
#include "mpio/fence_test.h"
#include "mpio/nbd_server.h"

namespace holdfast::mpio {

struct DeviceServiceOptions {
  DeviceConfig config;
  std::vector<ExportConfig> exports;
  std::string config_file;  // for messages
  std::string initiator_name;
  std::vector<uint64_t> isids;   // one for each path: portals in order, each with its sessions
  uint64_t fence_test_isid = 0;  // of the session that a fence test makes
  std::vector<std::set<SessionTrace>> traces;  // of the isids
  std::vector<LeftSession> left;               // DeviceOptions::left
  decltype(DeviceOptions::note) note;
  bool in_cluster = false;  // DeviceOptions::in_cluster
};

class DeviceService final : private io::SharedBlockDevice::Listener {
 public:
  DeviceService(const Path::Services& services, io::BufferPool& buffers,
                DeviceServiceOptions options);
  ~DeviceService() override;

  // `known` once, when the device has been reached and its exports are served; not if it is stopped
  // before.
  void start(std::move_only_function<void() noexcept> known);
  // `stopped` once: exports are closed, paths logged out.
  void stop(std::move_only_function<void() noexcept> stopped);

  DeviceStatus status() const;
  // Once stopped.
  DeviceRemains remains() const { return device_.remains(); }
  const std::string& name() const { return options_.config.name; }
  // Its listener is this service.
  io::SharedBlockDevice& device() { return device_; }

  // Administration. False: there is no such path.
  void set_policy(Policy policy);
  bool set_path_enabled(std::string_view path, bool enabled);
  // A configuration without reload_obstacles(), and the exports of this device: what is now in
  // force is the file's.
  void apply(const DeviceConfig& config, const std::vector<ExportConfig>& exports);
  void link_changed(const io::Endpoint& source, bool up);
  // Answers with sentences, within kFenceTestLimit. One at a time.
  void test_fence(FenceTest::Done done);

 private:
  struct Export {
    std::unique_ptr<NbdServer> server;
    bool serving = false;
    bool ending = false;  // it goes, or the device does
    std::string problem;
  };

  void on_block_event(const io::BlockEvent& event) override;
  void on_known(int32_t) noexcept;
  void add_export(const ExportConfig& config);
  void begin_exports();
  void end_export(Export& made);
  void on_export_ended(const NbdServer* server);
  void on_retry() noexcept { begin_exports(); }
  void check_stopped();
  std::string origin_of(std::string_view key) const;
  void add_effective(DeviceStatus& out) const;
  void add_fences(DeviceStatus& out) const;
  PathStatus status_of(Path& path) const;

  Path::Services services_;
  io::BufferPool& buffers_;
  DeviceServiceOptions options_;
  Device device_;
  std::vector<Export> exports_;
  std::vector<std::string> set_at_run_time_;  // keys
  std::unique_ptr<FenceTest> fence_test_;
  bool told_known_ = false;
  bool stopping_ = false;
  bool device_stopped_ = false;
  std::move_only_function<void() noexcept> known_;
  std::move_only_function<void() noexcept> stopped_;
  io::OpOf<DeviceService, &DeviceService::on_known> known_op_{*this};
  io::TimerOf<DeviceService, &DeviceService::on_retry> retry_timer_{*this};
};

}  // namespace holdfast::mpio
