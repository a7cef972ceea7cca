#include "mpio/session_book.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "mpiod";

}  // namespace

std::expected<std::unique_ptr<SessionBook>, std::string> SessionBook::open(
    const std::string& state_dir, base::Random& random, daemon::FileWorker& files) {
  auto store = IsidStore::open(state_dir, random);
  if (!store) return std::unexpected(store.error());
  return std::unique_ptr<SessionBook>(new SessionBook(std::move(*store), files));
}

std::expected<void, std::string> SessionBook::assign(DeviceServiceOptions& options) {
  const DeviceConfig& device = options.config;
  for (const PortalConfig& portal : device.portals) {
    const std::string address = portal.address.to_string();
    const std::string source = portal.source ? portal.source->address_to_string() : "";
    for (uint32_t index = 0; index < device.sessions_per_portal; ++index) {
      const auto isid = store_->assign({.initiator = options.initiator_name,
                                        .device = device.name,
                                        .target = device.target,
                                        .portal = address,
                                        .source = source,
                                        .index = index});
      if (!isid) return std::unexpected(isid.error());
      options.isids.push_back(*isid);
      options.traces.push_back(store_->traces(*isid));
    }
  }
  const auto extra = store_->assign({.initiator = options.initiator_name,
                                     .device = device.name,
                                     .target = device.target,
                                     .portal = "fence-test",
                                     .source = ""});
  if (!extra) return std::unexpected(extra.error());
  options.fence_test_isid = *extra;
  return {};
}

void SessionBook::hand_over(DeviceServiceOptions& device, io::Loop& loop) {
  device.left = store_->left();
  device.note = [this, &loop](uint64_t isid, std::set<SessionTrace> traces,
                              DeviceOptions::Noted noted) {
    note(loop, isid, std::move(traces), std::move(noted));
  };
}

void SessionBook::leave(const DeviceRemains& remains) {
  for (const LeftSession& each : remains.fenced) store_->fenced(each);
  store_->leave(remains.unfenced);
}

// On the device's thread. The disk may take its time.
void SessionBook::note(io::Loop& loop, uint64_t isid, std::set<SessionTrace> traces,
                       DeviceOptions::Noted noted) {
  auto shared = std::make_shared<DeviceOptions::Noted>(std::move(noted));
  const auto answer = [&loop, shared](bool done) {
    loop.post([shared, done]() noexcept { (*shared)(done); });
  };
  const bool taken =
      files_.submit([this, isid, traces = std::move(traces), answer]() mutable noexcept {
        const auto saved = store_->note(isid, std::move(traces));
        if (!saved) LOG_ERROR(kLog, "a path is not used: {}", saved.error());
        answer(saved.has_value());
      });
  if (!taken) answer(false);
}

void SessionBook::close(const std::vector<DeviceRemains>& remains) {
  for (const DeviceRemains& each : remains) leave(each);
  if (auto closed = store_->close(); !closed) {
    LOG_WARNING(kLog, "{}: the next start takes it that writes of this one may still land",
                closed.error());
  }
}

}  // namespace holdfast::mpio
