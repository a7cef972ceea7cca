#include "mpio/embedded_devices.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/log.h"
#include "mpio/link_sources.h"

namespace holdfast::mpio {

namespace {

constexpr const char* kLog = "mpio";
constexpr uint64_t kBufferBytes = kMinBufferMemory;

}  // namespace

std::expected<std::unique_ptr<EmbeddedDevices>, std::string> EmbeddedDevices::open(
    io::UringLoop& loop, base::Random& random, daemon::FileWorker& files, const Options& options) {
  std::unique_ptr<EmbeddedDevices> made(new EmbeddedDevices(loop, options.devices));
  auto book = SessionBook::open(options.state_dir, random, files);
  if (!book) return std::unexpected(std::move(book.error()));
  made->sessions_ = std::move(*book);
  auto buffers = io::BufferPool::create(kBufferBytes);
  if (!buffers) return std::unexpected(std::string(buffers.error().what));
  made->buffers_ = std::move(*buffers);
  std::vector<DeviceServiceOptions> wanted;
  for (const DeviceConfig& device : options.devices) {
    wanted.push_back({.config = device,
                      .config_file = options.config_file,
                      .initiator_name = options.initiator_name,
                      .in_cluster = true});
    if (auto assigned = made->sessions_->assign(wanted.back()); !assigned) {
      return std::unexpected(std::move(assigned.error()));
    }
  }
  // Durable before the first login.
  if (auto begun = made->sessions_->begin(); !begun) return std::unexpected(begun.error());
  for (DeviceServiceOptions& each : wanted) {
    made->sessions_->hand_over(each, loop);
    made->devices_.push_back(std::make_unique<DeviceService>(
        Path::Services{.loop = loop, .network = loop, .random = random}, *made->buffers_,
        std::move(each)));
  }
  return made;
}

EmbeddedDevices::~EmbeddedDevices() = default;

void EmbeddedDevices::start() {
  auto links = io::NetlinkLinkWatch::open(loop_, {});
  if (links) {
    links_ = std::move(*links);
    links_->add(*this);
  } else {
    LOG_WARNING(kLog, "links are not watched, lost ones are found by silence: {}",
                links.error().what);
  }
  for (const auto& device : devices_) device->start([]() noexcept {});
}

io::SharedBlockDevice* EmbeddedDevices::find(std::string_view name) {
  const auto found =
      std::ranges::find_if(devices_, [name](const auto& device) { return device->name() == name; });
  return found == devices_.end() ? nullptr : &(*found)->device();
}

std::vector<DeviceStatus> EmbeddedDevices::status() const {
  std::vector<DeviceStatus> out;
  for (const auto& device : devices_) out.push_back(device->status());
  return out;
}

void EmbeddedDevices::on_link(const io::LinkEvent& event) noexcept {
  for_each_source(configs_, *links_, event, [this](const io::Endpoint& source, bool up) {
    LOG_INFO(kLog, "the link of {} is {}", source.address_to_string(), up ? "up" : "down");
    for (const auto& device : devices_) device->link_changed(source, up);
  });
}

void EmbeddedDevices::stop(io::Task stopped) {
  stopped_ = std::move(stopped);
  running_ = devices_.size() + 1;
  for (const auto& device : devices_) device->stop([this]() noexcept { check_stopped(); });
  if (links_ == nullptr) return check_stopped();
  links_->remove(*this);
  links_->close([this]() noexcept { check_stopped(); });
}

void EmbeddedDevices::check_stopped() {
  if (--running_ == 0) loop_.post(std::exchange(stopped_, nullptr));
}

void EmbeddedDevices::finish() {
  std::vector<DeviceRemains> remains;
  std::ranges::transform(devices_, std::back_inserter(remains),
                         [](const auto& device) { return device->remains(); });
  sessions_->close(remains);
}

}  // namespace holdfast::mpio
