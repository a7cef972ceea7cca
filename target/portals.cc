#include "target/portals.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/base/log.h"

namespace holdfast::target {
namespace {

constexpr const char* kLog = "portal";

// The one connection failed, not the listener (accept(2)).
bool is_of_connection(int32_t result) {
  return result == -ECONNABORTED || result == -EPROTO || result == -EINTR || result == -EAGAIN;
}

}  // namespace

std::vector<Portal> portals_of(const Config& config) {
  std::vector<Portal> portals;
  for (const PortalGroupConfig& group : config.portal_groups) {
    for (const io::Endpoint& endpoint : group.portals) portals.push_back({endpoint, group.tag});
  }
  return portals;
}

Portals::~Portals() {
  for (const auto& listener : listeners_) loop_.stop(listener->retry);
}

void Portals::set_max_connections(uint32_t count) {
  max_connections_ = count;
  while (placing_.size() < shards_.count()) placing_.push_back(std::make_unique<Placing>());
}

Portals::Listener* Portals::find(const io::Endpoint& endpoint) {
  for (const auto& listener : listeners_) {
    if (!listener->closing && listener->portal.endpoint == endpoint) return listener.get();
  }
  return nullptr;
}

std::vector<std::string> Portals::prepare(const std::vector<Portal>& wanted,
                                          bool wait_for_addresses) {
  ASSERT(prepared_.empty());
  std::vector<std::string> problems;
  for (const Portal& portal : wanted) {
    if (find(portal.endpoint) != nullptr) continue;
    const base::Result<io::Socket> socket = network_.listen(portal.endpoint);
    if (socket.has_value()) {
      prepared_.push_back(std::make_unique<Listener>(*this, portal, *socket));
      continue;
    }
    const base::Error& error = socket.error();
    if (wait_for_addresses && error.sys == EADDRNOTAVAIL) {
      prepared_.push_back(std::make_unique<Listener>(*this, portal, io::kNoSocket));
      prepared_.back()->trouble = error.sys;
      continue;
    }
    std::string why = error.what;
    if (error.sys == EACCES || error.sys == EPERM) {
      why = "no permission: ports below 1024 need root or CAP_NET_BIND_SERVICE";
    } else if (error.sys != 0 && error.sys != EADDRINUSE && error.sys != EADDRNOTAVAIL) {
      why += fmt::format(" ({})", std::strerror(error.sys));
    }
    problems.push_back(fmt::format("portal {} of portal group {} cannot be listened on: {}",
                                   portal.endpoint.to_string(), portal.portal_group_tag, why));
  }
  const auto absent = [](const auto& each) { return each->socket == io::kNoSocket; };
  if (wait_for_addresses && !prepared_.empty() && std::ranges::all_of(prepared_, absent)) {
    problems.push_back("this host has none of the portals' addresses");
  }
  if (!problems.empty()) rollback();
  wanted_ = wanted;
  return problems;
}

void Portals::rollback() {
  for (const auto& listener : prepared_) {
    if (listener->socket != io::kNoSocket) network_.close(listener->socket);
  }
  prepared_.clear();
}

void Portals::commit() {
  for (const auto& listener : listeners_) {
    const auto portal = std::ranges::find(wanted_, listener->portal.endpoint, &Portal::endpoint);
    if (portal == wanted_.end()) {
      begin_close(*listener);
    } else {
      listener->portal.portal_group_tag = portal->portal_group_tag;
    }
  }
  for (auto& listener : prepared_) {
    if (listener->socket == io::kNoSocket) {
      LOG_WARNING(
          kLog, "not listening: portal={}: this host does not have the address; it is tried again",
          listener->portal.endpoint.to_string());
      loop_.start(listener->retry, kAddressRetry);
    } else {
      LOG_INFO(kLog, "listening: portal={} tag={}", listener->portal.endpoint.to_string(),
               listener->portal.portal_group_tag);
      accept(*listener);
    }
    listeners_.push_back(std::move(listener));
  }
  prepared_.clear();
}

void Portals::accept(Listener& listener) { network_.accept(listener.accept_op, listener.socket); }

void Portals::on_retry(Listener& listener) {
  if (listener.socket != io::kNoSocket) return accept(listener);
  const base::Result<io::Socket> socket = network_.listen(listener.portal.endpoint);
  if (!socket.has_value()) {
    listener.trouble = socket.error().sys;
    return loop_.start(listener.retry, kAddressRetry);
  }
  listener.socket = *socket;
  listener.trouble = 0;
  LOG_INFO(kLog, "listening: portal={} tag={}", listener.portal.endpoint.to_string(),
           listener.portal.portal_group_tag);
  accept(listener);
}

void Portals::on_accepted(Listener& listener, int32_t result) {
  if (listener.closing) {
    if (result >= 0) network_.close(result, true);
    end_close(listener);
    return;
  }
  if (result < 0 && !is_of_connection(result)) {
    listener.trouble = -result;
    // Connections that never log in must not keep sessions from coming back.
    const bool full = result == -EMFILE || result == -ENFILE;
    const bool gives_way = full && drop_oldest_login();
    LOG_LIMITED(warning, kLog,
                "cannot accept: portal={}: {}; with too few file descriptors: raise "
                "LimitNOFILE or lower max_connections",
                listener.portal.endpoint.to_string(), std::strerror(-result));
    loop_.start(listener.retry, gives_way ? kAcceptRetryAfterDrop : kAcceptRetry);
    return;
  }
  listener.trouble = 0;
  if (result >= 0) place(result, listener.portal.portal_group_tag);
  accept(listener);
}

// False: there is none that is not told to go already.
bool Portals::drop_oldest_login() {
  size_t makes_room = 0;  // the shard with the most of them
  uint32_t most = 0;
  for (size_t i = 0; i < placing_.size(); ++i) {
    const uint32_t logging_in = shards_.load(i).logging_in;
    const uint32_t dropping = placing_[i]->dropping.load(std::memory_order_acquire);
    if (logging_in > dropping && logging_in - dropping > most) {
      most = logging_in - dropping;
      makes_room = i;
    }
  }
  if (most == 0) return false;
  ++refused_;
  Placing& room = *placing_[makes_room];
  room.dropping.fetch_add(1, std::memory_order_relaxed);
  shards_.tell(makes_room, [&room](ShardControl& shard) {
    shard.drop_oldest_login();
    room.dropping.fetch_sub(1, std::memory_order_release);
  });
  return true;
}

void Portals::place(io::Socket socket, uint16_t portal_group_tag) {
  ++accepted_;
  uint32_t total = 0;
  size_t best = 0;
  ShardLoad best_load;
  for (size_t i = 0; i < placing_.size(); ++i) {
    ShardLoad load = shards_.load(i);
    const uint32_t dropping = placing_[i]->dropping.load(std::memory_order_acquire);
    load.connections += placing_[i]->adopting.load(std::memory_order_acquire);
    total += load.connections - std::min(dropping, load.connections);
    const bool better = load.connections != best_load.connections
                            ? load.connections < best_load.connections
                            : load.busy_permille < best_load.busy_permille;
    if (i == 0 || better) {
      best = i;
      best_load = load;
    }
  }
  // Connections that never log in must not keep others out: the oldest of them gives way. Sessions
  // never do.
  if (total >= max_connections_ && !drop_oldest_login()) {
    ++refused_;
    LOG_LIMITED(warning, kLog, "connection refused: max_connections={} reached: peer={}",
                max_connections_, network_.peer_endpoint(socket).to_string());
    network_.close(socket, true);
    return;
  }
  Placing& placing = *placing_[best];
  placing.adopting.fetch_add(1, std::memory_order_relaxed);
  shards_.tell(best, [socket, portal_group_tag, &placing](ShardControl& shard) {
    shard.adopt(socket, portal_group_tag);
    placing.adopting.fetch_sub(1, std::memory_order_release);
  });
}

void Portals::begin_close(Listener& listener) {
  if (listener.closing) return;
  listener.closing = true;
  LOG_INFO(kLog, "no longer listening: portal={}", listener.portal.endpoint.to_string());
  if (listener.accept_op.busy()) {
    network_.cancel(listener.accept_op);
    return;
  }
  loop_.stop(listener.retry);
  // Not destroyed here: whoever calls may be walking through the listeners.
  loop_.post([this, gone = &listener]() noexcept { end_close(*gone); });
}

void Portals::end_close(Listener& listener) {
  if (listener.socket != io::kNoSocket) network_.close(listener.socket);
  std::erase_if(listeners_, [&](const auto& entry) { return entry.get() == &listener; });
  if (listeners_.empty() && on_closed_) std::exchange(on_closed_, {})();
}

void Portals::close(std::move_only_function<void() noexcept> done) {
  rollback();
  for (const auto& listener : listeners_) begin_close(*listener);
  if (listeners_.empty()) {
    loop_.post([done = std::move(done)]() mutable noexcept { done(); });
    return;
  }
  on_closed_ = std::move(done);
}

std::vector<PortalStatus> Portals::status() const {
  std::vector<PortalStatus> all;
  for (const auto& listener : listeners_) {
    if (listener->closing) continue;
    PortalStatus status{.address = listener->portal.endpoint.to_string(),
                        .portal_group_tag = listener->portal.portal_group_tag,
                        .state = "listening"};
    if (listener->trouble != 0) {
      status.state = fmt::format("failed: {}", listener->trouble == EADDRNOTAVAIL
                                                   ? "this host does not have the address now"
                                                   : std::strerror(listener->trouble));
    }
    all.push_back(std::move(status));
  }
  return all;
}

}  // namespace holdfast::target
