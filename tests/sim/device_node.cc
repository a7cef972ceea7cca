#include "tests/sim/device_node.h"

#include <cerrno>

#include "common/scsi/report_luns.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {

constexpr uint64_t kPoolBytes = 4 * 1024 * 1024;
constexpr Duration kStopLimit = 10s;

mpio::DeviceOptions device_options(const DeviceNode::Options& options) {
  mpio::DeviceOptions device{.name = "disk",
                             .policy = mpio::Policy::failover,
                             .no_path_timeout = options.no_path_timeout,
                             .in_cluster = options.in_cluster,
                             .left = options.left,
                             .session_keys = options.session_keys};
  for (size_t i = 0; i < options.addresses.size(); ++i) {
    const std::string portal = std::string(DeviceNode::kPortals[i]) + ":3260";
    mpio::PathSettings path{.name = portal, .lun = scsi::encode_lun(uint16_t{0})};
    path.session.portal = io::Endpoint::parse(portal).value();
    path.session.connect.source = io::Endpoint::parse(options.addresses[i] + ":0").value();
    path.session.login.initiator_name = "iqn.2026-11.org.holdfast:" + options.host;
    path.session.login.target_name = kTargetName;
    path.session.login.isid = 0x80'0000'000000 + i;
    device.paths.push_back(std::move(path));
  }
  return device;
}

}  // namespace

DeviceNode::DeviceNode(SimWorld& world, SimFabric& fabric, Options options)
    : options_(std::move(options)),
      world_(world),
      process_(world.make_process(options_.host)),
      loop_(process_.make_loop()),
      network_(fabric, loop_),
      links_(fabric, loop_, options_.addresses),
      random_(world.fork_random()),
      buffers_(io::BufferPool::create(kPoolBytes).value()),
      device_({loop_, network_, random_}, *buffers_, device_options(options_)) {
  device_.set_listener(this);
  links_.add(*this);
}

DeviceNode::~DeviceNode() {
  links_.remove(*this);
  process_.kill();
}

void DeviceNode::start() {
  in_loop([this] { device_.start(); });
}

bool DeviceNode::stop() {
  const auto stopped = std::make_shared<bool>(false);
  in_loop([&] { device_.stop([stopped]() noexcept { *stopped = true; }); });
  return world_.run_until([&] { return *stopped; }, kStopLimit);
}

bool DeviceNode::up() const {
  return device_.known() &&
         std::ranges::all_of(device_.paths(), [](const auto& path) { return path->carries_io(); });
}

bool DeviceNode::all_in(mpio::PathState state) const {
  return std::ranges::all_of(device_.paths(),
                             [state](const auto& path) { return path->state() == state; });
}

// --- requests ---

DeviceNode::Request& DeviceNode::make(Kind kind, uint64_t place, uint8_t value) {
  Request& made = *requests_.emplace_back(std::make_unique<Request>(*this));
  std::ranges::fill(made.memory, value);
  made.part = {made.memory.data(), made.memory.size()};
  made.request.kind = kind;
  if (kind == Kind::flush) return made;
  made.request.offset = place * kBytes;
  made.request.length = kBytes;
  made.request.data = {&made.part, 1};
  return made;
}

void DeviceNode::submit(const Requests& requests) {
  in_loop([&] {
    for (Request* each : requests) {
      each->began = world_.now();
      each->result.reset();
      device_.submit(each->request);
    }
  });
}

DeviceNode::Request& DeviceNode::submit(Kind kind, uint64_t place, uint8_t value) {
  Request& made = make(kind, place, value);
  submit({&made});
  return made;
}

void DeviceNode::cancel(Request& request) {
  in_loop([&] { device_.cancel(request.request); });
}

void DeviceNode::fail_queue() {
  in_loop([this] { device_.fail_queue(); });
}

std::shared_ptr<bool> DeviceNode::wait_ghosts(const Request& request) {
  const auto gone = std::make_shared<bool>(false);
  in_loop([&] {
    device_.wait_ghosts(request.request.offset, request.request.length,
                        [gone](base::Result<> result) noexcept { *gone = result.has_value(); });
  });
  return gone;
}

int32_t DeviceNode::finish(Request& request, Duration within) {
  world_.run_until([&] { return request.done(); }, within);
  return request.result.value_or(-EINPROGRESS);
}

void DeviceNode::on_done(Request& request, int32_t result) {
  request.result = result;
  request.ended = world_.now();
  request.place = ended_++;
  ++request.times;
  request.longest = std::max(request.longest, request.ended - request.began);
  if (!request.again || result < 0) return;
  request.result.reset();
  request.began = world_.now();
  device_.submit(request.request);
}

// --- events ---

size_t DeviceNode::count(EventKind kind) const {
  return static_cast<size_t>(std::ranges::count(told_, kind, &Told::kind));
}

std::optional<Duration> DeviceNode::first(EventKind kind, const std::string& path) const {
  for (const Told& each : told_) {
    if (each.kind == kind && (path.empty() || each.path == path)) return each.at;
  }
  return std::nullopt;
}

void DeviceNode::on_block_event(const io::BlockEvent& event) {
  told_.push_back({event.kind, event.path, world_.now()});
}

void DeviceNode::on_link(const io::LinkEvent& event) noexcept {
  for (const std::string& address : options_.addresses) {
    const auto endpoint = io::Endpoint::parse(address + ":0").value();
    const auto where = links_.find(endpoint);
    if (where.has_value() && where->interface == event.interface) {
      device_.link_changed(endpoint, event.up);
    }
  }
}

}  // namespace holdfast::sim
