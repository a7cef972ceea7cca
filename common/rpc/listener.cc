#include "common/rpc/listener.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/log.h"

namespace holdfast::rpc {
namespace {

constexpr const char* kLog = "rpc";

// The one connection failed, not the listening socket (accept(2)).
bool is_of_connection(int32_t result) {
  return result == -ECONNABORTED || result == -EPROTO || result == -EINTR || result == -EAGAIN;
}

}  // namespace

Listener::Accepted::Accepted(Listener& all, const io::Endpoint& where)
    : from(where),
      link(all.parts_.loop, all.parts_.network, all.options_.connection, all.parts_.handler, all) {}

Listener::Listener(const Parts& parts, Options options)
    : parts_(parts), options_(std::move(options)) {}

Listener::~Listener() { ASSERT(ports_.empty() && accepted_.empty() && !closed_op_.busy()); }

base::Result<> Listener::start() {
  ASSERT(ports_.empty() && !closing_);
  std::vector<std::unique_ptr<Port>> ports;
  base::Result<> result;
  for (const io::Endpoint& address : options_.addresses) {
    ports.push_back(std::make_unique<Port>(*this, address));
    result = listen(*ports.back());
    if (!result.has_value() && result.error().sys != EADDRNOTAVAIL) break;
    result = {};
  }
  if (!result.has_value()) {
    for (const auto& port : ports) {
      if (port->socket != io::kNoSocket) parts_.network.close(port->socket);
    }
    return result;
  }
  ports_ = std::move(ports);
  for (const auto& port : ports_) {
    if (port->socket != io::kNoSocket) {
      accept(*port);
      continue;
    }
    LOG_WARNING(kLog, "not listening: {}: this host does not have the address; it is tried again",
                port->address.to_string());
    parts_.loop.start(port->retry, kAddressRetry);
  }
  return {};
}

base::Result<> Listener::listen(Port& port) {
  TRY_ASSIGN(port.socket, parts_.network.listen(port.address));
  LOG_INFO(kLog, "listening: {}", port.address.to_string());
  return {};
}

void Listener::accept(Port& port) { parts_.network.accept(port.accept_op, port.socket); }

void Listener::on_retry(Port& port) {
  if (port.socket == io::kNoSocket && !listen(port).has_value()) {
    return parts_.loop.start(port.retry, kAddressRetry);
  }
  accept(port);
}

void Listener::on_accepted(Port& port, int32_t result) {
  if (closing_) {
    if (result >= 0) parts_.network.close(result, true);
    return check_closed();
  }
  if (result < 0 && !is_of_connection(result)) {
    LOG_LIMITED(warning, kLog, "cannot accept: {}: {}", port.address.to_string(),
                std::strerror(-result));
    return parts_.loop.start(port.retry, kAcceptRetry);
  }
  if (result >= 0) {
    const io::Endpoint from = parts_.network.peer_endpoint(result);
    if (has_room(from)) {
      accepted_.push_back(std::make_unique<Accepted>(*this, from));
      accepted_.back()->link.connection().accept(parts_.identity.context(), result);
    } else {
      ++refused_;
      LOG_LIMITED(warning, kLog, "connection refused: too many that prove no name: from={}",
                  from.address_to_string());
      parts_.network.close(result, true);
    }
  }
  accept(port);
}

// False: it is not taken. Those that prove nothing must not keep nodes out, so the oldest of them
// gives way; what is ending counts too, as a socket each.
bool Listener::has_room(const io::Endpoint& from) {
  size_t same = 0;
  size_t all = 0;
  size_t ending = 0;
  Accepted* oldest = nullptr;
  for (const auto& each : accepted_) {
    if (each->state == State::ending) ++ending;
    if (each->state != State::handshake) continue;
    if (oldest == nullptr) oldest = each.get();
    ++all;
    if (std::ranges::equal(each->from.address(), from.address())) ++same;
  }
  if (same >= kMaxHandshakesPerAddress || all + ending >= 2 * kMaxHandshakes) return false;
  if (all >= kMaxHandshakes) begin_end(*oldest, "newer connections need its place");
  return true;
}

Listener::Accepted& Listener::of(const Link& link) {
  const auto found = std::ranges::find(accepted_, &link,
                                       [](const auto& each) -> const Link* { return &each->link; });
  ASSERT(found != accepted_.end());
  return **found;
}

Listener::Accepted* Listener::find_up(const std::string& node) {
  for (const auto& each : accepted_) {
    if (each->state == State::up && each->link.node() == node) return each.get();
  }
  return nullptr;
}

Link* Listener::find(const std::string& node) {
  Accepted* const found = find_up(node);
  return found == nullptr ? nullptr : &found->link;
}

size_t Listener::nodes() const {
  return static_cast<size_t>(std::ranges::count(accepted_, State::up, &Accepted::state));
}

size_t Listener::handshakes() const {
  return static_cast<size_t>(std::ranges::count(accepted_, State::handshake, &Accepted::state));
}

bool Listener::on_identified(Link& link) noexcept {
  Accepted& accepted = of(link);
  if (accepted.state != State::handshake) return false;
  Accepted* const older = find_up(link.node());
  const bool room = older != nullptr || nodes() < kMaxNodeLinks;
  const bool wanted = room && parts_.events.admits(link.node(), older != nullptr);
  if (!wanted) {
    ++refused_;
    LOG_LIMITED(warning, kLog, "node refused: node={} from={}{}", link.node(),
                accepted.from.to_string(), room ? "" : ": too many nodes");
    return false;
  }
  if (older != nullptr) begin_end(*older, "a newer connection of the node replaces it");
  return true;
}

void Listener::on_up(Link& link) noexcept {
  Accepted& accepted = of(link);
  accepted.state = State::up;
  LOG_INFO(kLog, "node connected: node={} from={}", link.node(), accepted.from.to_string());
  parts_.events.on_node_up(link);
}

void Listener::begin_end(Accepted& accepted, const char* why) {
  const State before = std::exchange(accepted.state, State::ending);
  accepted.link.connection().begin_close(why);
  if (before == State::up) {
    LOG_INFO(kLog, "node disconnected: node={}: {}", accepted.link.node(), why);
    parts_.events.on_node_down(accepted.link, {.kind = EndKind::closed, .why = why});
  }
}

void Listener::on_down(Link& link, const ConnectionEnd& end) noexcept {
  Accepted& accepted = of(link);
  const State before = std::exchange(accepted.state, State::ending);
  if (before == State::up) {
    LOG_WARNING(kLog, "node disconnected: node={}: {}", link.node(), describe(end));
    parts_.events.on_node_down(link, end);
  } else if (before == State::handshake && end.kind != EndKind::refused) {
    LOG_LIMITED(warning, kLog, "connection ended before it proved a name: from={}: {}",
                accepted.from.to_string(), describe(end));
  }
  std::erase_if(accepted_, [&](const auto& each) { return &each->link == &link; });
  check_closed();
}

void Listener::close(std::move_only_function<void() noexcept> done) {
  ASSERT(!closing_);
  closing_ = true;
  done_ = std::move(done);
  for (const auto& port : ports_) {
    parts_.loop.stop(port->retry);
    if (port->accept_op.busy()) parts_.network.cancel(port->accept_op);
  }
  parts_.loop.complete_soon(closed_op_, 0);
  // on_node_down() is called from the loop, as nothing calls back from inside a call.
  for (const auto& each : accepted_) {
    each->link.connection().begin_close("this node closes the connection");
  }
}

void Listener::check_closed() {
  if (!closing_ || closed_op_.busy()) return;
  // At once, whatever the connections do: a successor may want the address.
  std::erase_if(ports_, [&](const auto& port) {
    if (port->accept_op.busy()) return false;
    if (port->socket != io::kNoSocket) parts_.network.close(port->socket);
    return true;
  });
  if (!ports_.empty() || !accepted_.empty() || done_ == nullptr) return;
  std::exchange(done_, {})();  // may destroy this
}

}  // namespace holdfast::rpc
