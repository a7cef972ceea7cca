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
  std::unique_ptr<SessionBook> book(new SessionBook(std::move(*store), files));
  for (const IsidStore::Left& left : book->store_->left()) book->left_to_nobody_.insert(left.isid);
  return book;
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
      options.noted_groups.push_back(store_->portal_group(*isid));
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

void SessionBook::hand_over(const std::vector<DeviceConfig>& all, DeviceServiceOptions& options,
                            io::Loop& loop) {
  const DeviceConfig& device = options.config;
  // Its own sessions, under whatever name of this node, and those of devices of its target that
  // have another name now, or are gone: they may have been the same disk.
  for (const IsidStore::Left& left : store_->left()) {
    const std::string& name = left.owner.device;
    const bool configured = std::ranges::find(all, name, &DeviceConfig::name) != all.end();
    if (left.owner.target != device.target || (configured && name != device.name)) continue;
    left_to_nobody_.erase(left.isid);
    options.left.push_back({.path = left.owner.portal,
                            .initiator_name = left.owner.initiator,
                            .isid = left.isid,
                            .portal_group_tag = left.portal_group_tag});
  }
  options.note_group = [this, &loop](uint64_t isid, uint16_t tag, DeviceOptions::Noted noted) {
    note_group(loop, isid, tag, std::move(noted));
  };
}

void SessionBook::leave(const std::vector<uint64_t>& unfenced) {
  store_->leave(unfenced);
  left_to_nobody_.insert(unfenced.begin(), unfenced.end());
}

// On the device's thread. The disk may take its time.
void SessionBook::note_group(io::Loop& loop, uint64_t isid, uint16_t tag,
                             DeviceOptions::Noted noted) {
  auto shared = std::make_shared<DeviceOptions::Noted>(std::move(noted));
  const auto answer = [&loop, shared](bool done) {
    loop.post([shared, done]() noexcept { (*shared)(done); });
  };
  const bool taken = files_.submit([this, isid, tag, answer]() noexcept {
    const auto saved = store_->note_portal_group(isid, tag);
    if (!saved) LOG_ERROR(kLog, "a path is not used: {}", saved.error());
    answer(saved.has_value());
  });
  if (!taken) answer(false);
}

void SessionBook::close(std::vector<uint64_t> unfenced) {
  unfenced.insert(unfenced.end(), left_to_nobody_.begin(), left_to_nobody_.end());
  if (auto closed = store_->close(unfenced); !closed) {
    LOG_WARNING(kLog, "{}: the next start takes it that writes of this one may still land",
                closed.error());
  }
}

}  // namespace holdfast::mpio
