#include "tests/sim/device_user.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/scsi/report_luns.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {

constexpr Duration kTickMin = 200us;
constexpr Duration kTickMax = 20ms;
constexpr uint64_t kHotBlocks = 24;  // where requests meet each other and each other's ghosts
constexpr uint64_t kMostBlocks = 64;
constexpr size_t kMostExtents = 4;
constexpr uint64_t kPoolBytes = 4 * 1024 * 1024;
using Noted = mpio::DeviceOptions::Noted;

mpio::DeviceOptions with_paths(const DeviceUser::Options& options,
                               decltype(mpio::DeviceOptions::note) note) {
  mpio::DeviceOptions device = options.device;
  device.name = "disk";
  device.lun = options.lun;
  for (size_t i = 0; i < options.portals.size(); ++i) {
    mpio::PathSettings path{.name = options.portals[i], .lun = scsi::encode_lun(options.lun)};
    path.session.portal = io::Endpoint::parse(options.portals[i]).value();
    path.session.connect.source = io::Endpoint::parse(options.addresses[i] + ":0").value();
    path.session.login.initiator_name = "iqn.2026-11.org.holdfast:" + options.host;
    path.session.login.target_name = kTargetName;
    path.session.login.isid = 0x80'0000'000000 + i;
    if (const auto noted = options.legacy.traces.find(path.session.login.isid);
        noted != options.legacy.traces.end()) {
      path.traces = noted->second;
    }
    device.paths.push_back(std::move(path));
  }
  if (options.crashes) device.note = std::move(note);
  return device;
}

}  // namespace

DeviceUser::DeviceUser(Judge& judge, SimFabric& fabric, Options options)
    : judge_(judge),
      options_(std::move(options)),
      traces_(options_.legacy.traces),
      world_(judge.world()),
      process_(world_.make_process(options_.host)),
      loop_(process_.make_loop()),
      network_(fabric, loop_),
      links_(fabric, loop_, options_.addresses),
      random_(world_.fork_random()),
      device_random_(world_.fork_random()),
      buffers_(io::BufferPool::create(kPoolBytes).value()),
      device_({loop_, network_, device_random_}, *buffers_,
              with_paths(options_,
                         [this](uint64_t isid, std::set<mpio::SessionTrace> traces, Noted noted) {
                           const bool done = random_.below(8) != 0;  // else the disk is full
                           if (done) traces_[isid] = std::move(traces);
                           loop_.post([done, noted = std::move(noted)]() mutable noexcept {
                             noted(done);
                           });
                         })),
      unit_(*judge.units().front()),
      open_(options_.legacy.open) {
  for (uint32_t i = 0; i < options_.depth; ++i) {
    operations_.push_back(std::make_unique<Operation>(*this));
  }
  links_.add(*this);
}

DeviceUser::~DeviceUser() {
  links_.remove(*this);
  process_.kill();
}

void DeviceUser::start() {
  loop_.post([this]() noexcept {
    device_.start();
    if (options_.key != 0) device_.use_key(options_.key, [](base::Result<>) noexcept {});
    on_tick();
  });
}

DeviceUser::Options DeviceUser::crash() {
  Options next = options_;
  const Duration now = world_.now();
  for (const auto& operation : operations_) {
    if (!operation->request.busy()) continue;
    if (operation->read != 0) unit_.data.cancel_read(operation->read);
    for (const uint64_t look : operation->looks) unit_.data.cancel_read(look);
    if (operation->write != 0) open_.push_back({operation->write, operation->range, now});
  }
  process_.kill();
  next.legacy = {.traces = traces_, .open = open_};
  return next;
}

// Nothing of the process before lands once the device has fenced it.
void DeviceUser::await_legacy() {
  if (std::exchange(legacy_awaited_, true)) return;
  for (const Open& each : options_.legacy.open) {
    device_.wait_ghosts(each.range.first * DataModel::kSectorBytes,
                        each.range.count * DataModel::kSectorBytes,
                        [this, write = each.write](base::Result<> gone) noexcept {
                          if (gone.has_value()) write_gone(write);
                        });
  }
}

void DeviceUser::write_gone(WriteId write) {
  unit_.data.write_failed(write, world_.now());
  std::erase_if(open_, [write](const Open& each) { return each.write == write; });
}

void DeviceUser::stop() {
  stopping_ = true;
  loop_.post([this]() noexcept { device_.stop([this]() noexcept { stopped_ = true; }); });
}

bool DeviceUser::settled() const {
  return busy_ == 0 && !verifying_ && legacy_awaited_ && open_.empty() &&
         device_.ghosts().empty() && device_.fences().empty() &&
         std::ranges::all_of(device_.paths(), [](const auto& path) { return path->carries_io(); });
}

void DeviceUser::on_link(const io::LinkEvent& event) noexcept {
  for (const std::string& address : options_.addresses) {
    const auto endpoint = io::Endpoint::parse(address + ":0").value();
    const auto where = links_.find(endpoint);
    if (where.has_value() && where->interface == event.interface) {
      device_.link_changed(endpoint, event.up);
    }
  }
}

void DeviceUser::on_tick() noexcept {
  if (stopping_) return;
  if (device_.known()) await_legacy();
  for (const auto& operation : operations_) {
    if (!device_.known()) break;
    if (!quiet_ && !operation->request.busy() && random_.below(3) != 0) issue_one(*operation);
    if (operation->request.busy() && random_.below(2000) < options_.cancel_percent) {
      device_.cancel(operation->request);
    }
  }
  if (verifying_ && !operations_.front()->request.busy()) read_whole();
  loop_.start(timer_, Duration(kTickMin.count() + static_cast<int64_t>(random_.below(
                                                      uint64_t((kTickMax - kTickMin).count())))));
}

// --- requests ---

void DeviceUser::issue_one(Operation& operation) {
  const uint64_t count = 1 + random_.below(random_.below(8) == 0 ? kMostBlocks : 8);
  const uint64_t within = random_.below(4) == 0 || count > kHotBlocks ? unit_.blocks : kHotBlocks;
  operation.range = unit_.sectors(random_.below(within - count + 1), count);
  operation.write = operation.read = 0;
  const Duration now = world_.now();
  const size_t bytes = operation.range.count * DataModel::kSectorBytes;
  const uint64_t what = options_.shared ? (random_.below(2) == 0 ? 0 : 90) : random_.below(100);
  if (what < 35) {
    operation.read = unit_.data.begin_read(now);
    operation.memory.assign(bytes, 0xee);
    issue(operation, Kind::read);
  } else if (what < 75) {
    operation.write = unit_.data.begin_write(now, operation.range, false);
    operation.memory.resize(bytes);
    DataModel::fill(operation.memory, operation.write);
    issue(operation, Kind::write);
  } else if (what < 84) {
    operation.write = unit_.data.begin_write(now, operation.range, true);
    operation.memory.clear();
    operation.request.may_deallocate = random_.below(2) == 0;
    issue(operation, random_.below(2) == 0 ? Kind::write_zeroes : Kind::discard);
  } else if (what < 94) {
    begin_swap(operation);
  } else if (what < 97) {
    operation.memory.clear();
    operation.extents.assign(kMostExtents, {});
    for (size_t i = 0; i < kMostExtents; ++i) operation.looks.push_back(unit_.data.begin_read(now));
    issue(operation, Kind::status);
  } else {
    operation.memory.clear();
    issue(operation, Kind::flush);
  }
}

void DeviceUser::begin_swap(Operation& operation) {
  constexpr size_t kBytes = DataModel::kSectorBytes;
  const uint64_t blocks = std::min<uint64_t>(operation.range.count / unit_.sectors_per_block(), 8);
  operation.range.count = blocks * unit_.sectors_per_block();
  const size_t half = operation.range.count * kBytes;
  operation.compared.resize(half);
  for (uint64_t i = 0; i < operation.range.count; ++i) {
    DataModel::fill(base::MutableBytes(operation.compared).subspan(i * kBytes, kBytes),
                    unit_.data.likely_value(operation.range.first + i));
  }
  operation.read = unit_.data.begin_read(world_.now());
  operation.write = unit_.data.begin_write(world_.now(), operation.range, false);
  operation.memory = operation.compared;
  operation.memory.resize(2 * half);
  DataModel::fill(base::MutableBytes(operation.memory).subspan(half), operation.write);
  issue(operation, Kind::compare_and_write);
}

// The memory in pieces of any length: more than one command can carry, too.
void DeviceUser::cut(Operation& operation) {
  operation.parts.clear();
  uint8_t* at = operation.memory.data();
  size_t bytes = operation.memory.size();
  const size_t most = operation.request.kind == Kind::compare_and_write
                          ? initiator::kMaxDataIovecs
                          : 4 * initiator::kMaxDataIovecs;
  const size_t piece = random_.below(4) == 0 ? 400 : bytes;
  while (bytes > 0) {
    const bool last = operation.parts.size() + 1 == most;
    const size_t part = last ? bytes : std::min<size_t>(bytes, 1 + random_.below(piece));
    operation.parts.push_back({at, part});
    at += part;
    bytes -= part;
  }
}

void DeviceUser::issue(Operation& operation, Kind kind) {
  ++busy_;
  operation.began = world_.now();
  io::BlockRequest& request = operation.request;
  request.kind = kind;
  cut(operation);
  request.offset = operation.range.first * DataModel::kSectorBytes;
  request.length = operation.range.count * DataModel::kSectorBytes;
  request.data = operation.parts;
  request.extents = operation.extents;
  request.durability = random_.below(4) == 0 ? io::Durability::durable : io::Durability::cached;
  request.timeout = {};
  if (random_.below(100) < options_.timeout_percent && !verifying_) {
    request.timeout = 1ms * (10 << random_.below(10));
  }
  world_.trace("kind {} sectors {}+{} write {} in {} parts, timeout {} ms", int(kind),
               operation.range.first, operation.range.count, operation.write,
               operation.parts.size(), request.timeout.count() / 1'000'000);
  device_.submit(request);
}

void DeviceUser::verify() { verifying_ = true; }

void DeviceUser::read_whole() {
  Operation& operation = *operations_.front();
  operation.range = unit_.sectors(0, unit_.blocks);
  operation.write = 0;
  operation.read = unit_.data.begin_read(world_.now());
  operation.memory.assign(operation.range.count * DataModel::kSectorBytes, 0xee);
  issue(operation, Kind::read);
}

// --- answers ---

bool DeviceUser::expected_error(Kind kind, int32_t result) const {
  switch (result) {
    case -ETIMEDOUT:
    case -ECANCELED:
      return true;
    case -EILSEQ:
      return kind == Kind::compare_and_write;
    case -EUCLEAN:  // it cannot be read back what became of it
      return kind == Kind::compare_and_write;
    default:
      return false;
  }
}

void DeviceUser::on_done(Operation& operation, int32_t result) {
  --busy_;
  const Kind kind = operation.request.kind;
  world_.trace("kind {} sectors {}+{} write {}: {}", int(kind), operation.range.first,
               operation.range.count, operation.write, result);
  ++(result == -ETIMEDOUT ? judge_.unknown : judge_.commands);
  if (result < 0 && !expected_error(kind, result)) {
    judge_.check(fmt::format("kind {}: error {}", int(kind), result));
  }
  if (kind == Kind::compare_and_write) swap_ended(operation, result);
  if (kind == Kind::read) read_ended(operation, result);
  if (kind == Kind::status) status_ended(operation, result);
  if (operation.write != 0) write_ended(operation, result);
}

void DeviceUser::read_ended(Operation& operation, int32_t result) {
  if (result < 0) return unit_.data.cancel_read(operation.read);
  judge_.check(
      unit_.data.end_read(operation.read, world_.now(), operation.range, operation.memory));
  if (&operation == operations_.front().get()) verifying_ = false;
}

// What is said to be a hole is read as zeroes by whoever copies the unit: no data may be there.
void DeviceUser::status_ended(Operation& operation, int32_t result) {
  const std::vector<uint64_t> looks = std::exchange(operation.looks, {});
  const io::BlockRequest& request = operation.request;
  const size_t count = result < 0 ? 0 : request.extent_count;
  if (result >= 0 && count == 0) judge_.check("a status without an extent");
  DataModel::Range left = operation.range;
  for (size_t i = 0; i < looks.size(); ++i) {
    const bool counts = i < count && left.count > 0;
    const io::Extent extent = counts ? request.extents[i] : io::Extent{};
    const uint64_t sectors = std::min(extent.length_bytes / DataModel::kSectorBytes, left.count);
    if (sectors > 0 && extent.state == io::ExtentState::deallocated) {
      const std::vector<uint8_t> zeroes(sectors * DataModel::kSectorBytes);
      judge_.check(unit_.data.end_read(looks[i], world_.now(), {left.first, sectors}, zeroes));
    } else {
      unit_.data.cancel_read(looks[i]);
    }
    left = {left.first + sectors, left.count - sectors};
  }
}

void DeviceUser::swap_ended(Operation& operation, int32_t result) {
  DataModel& data = unit_.data;
  if (result >= 0) {
    judge_.check(data.swap_succeeded(operation.write, operation.read, world_.now(), operation.range,
                                     operation.compared));
  } else if (result == -EILSEQ) {
    judge_.check(
        data.swap_miscompared(operation.read, world_.now(), operation.range, operation.compared));
  } else {
    data.cancel_read(operation.read);
  }
}

void DeviceUser::write_ended(Operation& operation, int32_t result) {
  DataModel& data = unit_.data;
  const Duration now = world_.now();
  const WriteId write = operation.write;
  if (result >= 0) {
    data.write_acknowledged(write, now, true);
    // The promise: what was of unknown fate when this one began does not land on top of it.
    for (const Open& each : open_) {
      if (each.ended <= operation.began)
        data.overwritten(each.write, operation.range, operation.began);
    }
    return;
  }
  if (result == -EILSEQ) return judge_.check(data.write_refused(write));
  if (result != -ETIMEDOUT) return data.write_failed(write, now);
  open_.push_back({write, operation.range, now});
  device_.wait_ghosts(operation.request.offset, operation.request.length,
                      [this, write](base::Result<> gone) noexcept {
                        if (gone.has_value()) write_gone(write);  // else the device ends
                      });
}

std::string DeviceUser::describe() const {
  std::string text =
      fmt::format("{} under way, {} open, {} ghosts, {} fences, {} waiting", busy_, open_.size(),
                  device_.ghosts().size(), device_.fences().size(), device_.waiting());
  for (const auto& path : device_.paths()) {
    text += fmt::format("; {} {} ({})", path->settings().name, to_string(path->state()),
                        path->machine().reason());
  }
  return text;
}

}  // namespace holdfast::sim
