#include "mpio/device_set.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace holdfast::mpio {

DeviceSet::~DeviceSet() { ASSERT(devices_.empty() && ending_ == 0); }

void DeviceSet::add(const Path::Services& services, io::BufferPool& buffers,
                    DeviceServiceOptions options, Done known) {
  ASSERT(!stopping_ && find(options.config.name) == nullptr);
  auto device = std::make_shared<DeviceHandle>(options.config.name, services.loop);
  devices_.push_back(device);
  services.loop.post([this, device, services, &buffers, options = std::move(options),
                      known = std::move(known)]() mutable noexcept {
    device->service = std::make_unique<DeviceService>(services, buffers, std::move(options));
    device->service->start([this, known = std::move(known)]() mutable noexcept {
      loop_.post([known = std::move(known)]() mutable noexcept { known(); });
    });
  });
}

std::shared_ptr<DeviceHandle> DeviceSet::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(devices_, [name](const auto& device) { return device->name == name; });
  return found == devices_.end() ? nullptr : *found;
}

void DeviceSet::remove(const std::vector<std::string>& names, Done gone) {
  ASSERT(!stopping_ && !gone_);
  gone_ = std::move(gone);
  for (const std::string& name : names) {
    if (auto device = find(name)) end(std::move(device));
  }
  check_gone();
}

void DeviceSet::stop(Done gone) {
  ASSERT(!stopping_);
  stopping_ = true;
  gone_ = std::move(gone);
  while (!devices_.empty()) end(devices_.back());
  check_gone();
}

void DeviceSet::end(std::shared_ptr<DeviceHandle> device) {
  ++ending_;
  std::erase(devices_, device);
  device->loop.post([this, device]() noexcept {
    device->service->stop([this, device]() noexcept {
      // It is destroyed where it lived, and not from within itself.
      device->loop.post([this, device]() noexcept {
        DeviceRemains remains = device->service->remains();
        device->service.reset();
        loop_.post([this, remains = std::move(remains)]() mutable noexcept {
          on_ended(std::move(remains));
        });
      });
    });
  });
}

void DeviceSet::on_ended(DeviceRemains remains) {
  remains_.push_back(std::move(remains));
  --ending_;
  check_gone();
}

void DeviceSet::check_gone() {
  if (ending_ > 0 || !gone_) return;
  loop_.post([gone = std::exchange(gone_, nullptr)]() mutable noexcept { gone(); });
}

void DeviceSet::apply(const std::vector<DeviceConfig>& devices,
                      const std::vector<ExportConfig>& exports) {
  for (const DeviceConfig& config : devices) {
    const auto device = find(config.name);
    if (device == nullptr) continue;
    device->loop.post([device, config, its = exports_of(exports, config.name)]() noexcept {
      device->service->apply(config, its);
    });
  }
}

void DeviceSet::link_changed(const io::Endpoint& source, bool up) {
  for (const auto& device : devices_) {
    device->loop.post(
        [device, source, up]() noexcept { device->service->link_changed(source, up); });
  }
}

}  // namespace holdfast::mpio
