#include "tests/sim/sim_fabric.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>

namespace holdfast::sim {

using namespace std::chrono_literals;

SimFabric::SimFabric(SimWorld& world, const FabricOptions& options)
    : world_(world), options_(options) {
  world_.watch(*this);
}

SimFabric::~SimFabric() { world_.unwatch(*this); }

void SimFabric::block(const std::string& from, const std::string& to) {
  world_.trace("net: {} -> {} blocked", from, to);
  links_[{from, to}].blocked = true;
}

void SimFabric::heal(const std::string& from, const std::string& to) {
  world_.trace("net: {} -> {} healed", from, to);
  links_[{from, to}].blocked = false;
  retry_stalled();
}

void SimFabric::isolate(const std::string& address) {
  world_.trace("net: {} isolated", address);
  isolated_.insert(address);
}

void SimFabric::heal_all() {
  world_.trace("net: healed");
  for (auto& [key, link] : links_) link.blocked = false;
  isolated_.clear();
  retry_stalled();
}

void SimFabric::set_delay(const std::string& from, const std::string& to, Duration low,
                          Duration high) {
  Link& link = links_[{from, to}];
  link.has_delay = true;
  link.delay_min = low;
  link.delay_max = high;
}

void SimFabric::reset(io::Socket socket) {
  End* end = find(socket);
  if (end == nullptr || end->kind != Kind::stream) return;
  const io::Socket remote = end->remote;
  on_reset(socket, ECONNRESET);
  on_reset(remote, ECONNRESET);
}

size_t SimFabric::reset_between(const std::string& a, const std::string& b) {
  std::vector<io::Socket> found;
  for (const auto& [id, end] : ends_) {
    if (end.kind == Kind::stream && end.error == 0 && end.local.address_to_string() == a &&
        end.peer.address_to_string() == b) {
      found.push_back(id);
    }
  }
  world_.trace("net: {} connections between {} and {} reset", found.size(), a, b);
  for (const io::Socket id : found) reset(id);
  return found.size();
}

size_t SimFabric::sockets_of(const SimProcess& process) const {
  return static_cast<size_t>(std::ranges::count_if(ends_, [&](const auto& entry) {
    return entry.second.owner == &process && !entry.second.closed && entry.second.accepted;
  }));
}

size_t SimFabric::connections_of(const SimProcess& process) const {
  return static_cast<size_t>(std::ranges::count_if(ends_, [&](const auto& entry) {
    const End& end = entry.second;
    return end.owner == &process && end.kind == Kind::stream && !end.closed && end.accepted;
  }));
}

const SimProcess* SimFabric::peer_process(io::Socket socket) const {
  const End* end = find(socket);
  const End* remote = end == nullptr ? nullptr : find(end->remote);
  return remote == nullptr ? nullptr : remote->owner;
}

size_t SimFabric::unread_output(io::Socket socket) const {
  const End* end = find(socket);
  return end == nullptr ? 0 : end->output.size();
}

SimFabric::End* SimFabric::find(io::Socket id) {
  const auto found = ends_.find(id);
  return found == ends_.end() ? nullptr : &found->second;
}

const SimFabric::End* SimFabric::find(io::Socket id) const {
  const auto found = ends_.find(id);
  return found == ends_.end() ? nullptr : &found->second;
}

SimFabric::End& SimFabric::must_find(io::Socket id) {
  End* end = find(id);
  ASSERT(end != nullptr && !end->closed);  // a socket used after its close
  return *end;
}

SimFabric::End& SimFabric::make_end(Kind kind, SimProcess& owner) {
  const io::Socket id = next_socket_++;
  End& end = ends_[id];
  end.id = id;
  end.kind = kind;
  end.owner = &owner;
  end.window_edge = options_.receive_buffer;
  return end;
}

void SimFabric::erase(io::Socket id) { ends_.erase(id); }

bool SimFabric::blocked(const io::Endpoint& from, const io::Endpoint& to) const {
  const std::string a = from.address_to_string();
  const std::string b = to.address_to_string();
  if (isolated_.contains(a) || isolated_.contains(b)) return true;
  if (links_down_.contains(a) || links_down_.contains(b)) return true;
  const auto link = links_.find({a, b});
  return link != links_.end() && link->second.blocked;
}

Duration SimFabric::delay(const io::Endpoint& from, const io::Endpoint& to) {
  const auto link = links_.find({from.address_to_string(), to.address_to_string()});
  if (link != links_.end() && link->second.has_delay) {
    return world_.between(link->second.delay_min, link->second.delay_max);
  }
  return world_.between(options_.delay_min, options_.delay_max);
}

io::Endpoint SimFabric::with_port(const io::Endpoint& endpoint, uint16_t port) const {
  socklen_t length = 0;
  sockaddr_storage address = endpoint.to_sockaddr(&length);
  const uint16_t wire_port = htons(port);
  if (endpoint.is_v6()) {
    std::memcpy(&reinterpret_cast<sockaddr_in6&>(address).sin6_port, &wire_port, sizeof(wire_port));
  } else {
    std::memcpy(&reinterpret_cast<sockaddr_in&>(address).sin_port, &wire_port, sizeof(wire_port));
  }
  return io::Endpoint::from(address);
}

void SimFabric::finish_waiter(Waiter& waiter, int32_t result) {
  if (waiter.loop != nullptr) waiter.loop->finish(waiter.op, result);
}

base::Result<io::Socket> SimFabric::listen(SimLoop& loop, const io::Endpoint& endpoint) {
  for (const auto& [id, end] : ends_) {
    if (end.kind == Kind::listener && end.local == endpoint) {
      return base::fail(base::Errc::exists, "address in use by another listener", EADDRINUSE);
    }
  }
  End& end = make_end(Kind::listener, loop.process());
  end.local = endpoint.port() == 0 ? with_port(endpoint, next_port_++) : endpoint;
  world_.trace("net: {} listens on {}", loop.name(), end.local.to_string());
  return end.id;
}

void SimFabric::accept(SimLoop& loop, uint64_t op, io::Socket listener) {
  End& end = must_find(listener);
  ASSERT(end.kind == Kind::listener);
  end.acceptors.push_back({&loop, op, {}});
  world_.after(world_.between(0us, 5us), [this, listener] {
    if (End* found = find(listener)) complete_accepts(*found);
  });
}

void SimFabric::complete_accepts(End& listener) {
  std::erase_if(listener.acceptors, [](const Waiter& waiter) { return !waiter.waiting(); });
  if (listener.shut) {
    for (Waiter& waiter : listener.acceptors) finish_waiter(waiter, -EINVAL);
    return;
  }
  while (!listener.acceptors.empty() && !listener.accept_queue.empty()) {
    const io::Socket child = listener.accept_queue.front();
    listener.accept_queue.pop_front();
    End* end = find(child);
    if (end == nullptr) continue;  // reset while it waited
    end->accepted = true;
    finish_waiter(listener.acceptors.front(), child);
    listener.acceptors.pop_front();
  }
}

base::Result<io::Socket> SimFabric::open_stream(SimLoop& loop, const io::Endpoint& peer,
                                                const io::ConnectOptions& options) {
  End& end = make_end(Kind::idle, loop.process());
  end.peer = peer;
  end.local = with_port(options.source, next_port_++);
  end.user_timeout = options.user_timeout;
  end.reset_at_exit = options.reset_at_exit;
  if (next_port_ < 40'000) next_port_ = 40'000;
  return end.id;
}

void SimFabric::connect(SimLoop& loop, uint64_t op, io::Socket id, const io::Endpoint& peer) {
  End& end = must_find(id);
  ASSERT(end.kind == Kind::idle);  // a socket is good for one connect
  end.kind = Kind::connecting;
  end.peer = peer;
  end.connector = {&loop, op, {}};
  send_syn(id);
  Duration patience = options_.connect_timeout;
  if (end.user_timeout > Duration::zero()) patience = std::min(patience, end.user_timeout);
  world_.after(patience, [this, id] { fail_connect(id, ETIMEDOUT); });
}

void SimFabric::fail_connect(io::Socket id, int error) {
  End* end = find(id);
  if (end == nullptr || end->kind != Kind::connecting || end->error != 0) return;
  end->error = error;
  finish_waiter(end->connector, -error);
}

void SimFabric::send_syn(io::Socket id) {
  End* end = find(id);
  if (end == nullptr || end->kind != Kind::connecting || end->error != 0) return;
  world_.after(delay(end->local, end->peer), [this, id] { on_syn(id); });
}

void SimFabric::on_syn(io::Socket id) {
  End* client = find(id);
  if (client == nullptr || client->kind != Kind::connecting || client->error != 0) return;
  if (blocked(client->local, client->peer) || blocked(client->peer, client->local)) {
    client->stalled_syn = true;
    return;
  }
  End* listener = nullptr;
  for (auto& [listener_id, end] : ends_) {
    if (end.kind == Kind::listener && !end.local_only && !end.shut &&
        end.local.port() == client->peer.port() &&
        (end.local.is_unspecified() || end.local == client->peer)) {
      listener = &end;
    }
  }
  if (listener == nullptr) {
    world_.after(delay(client->peer, client->local),
                 [this, id] { fail_connect(id, ECONNREFUSED); });
  } else if (listener->accept_queue.size() >= options_.backlog) {
    world_.after(1s, [this, id] { send_syn(id); });
  } else {
    establish(*client, *listener);
  }
}

void SimFabric::establish(End& client, End& listener) {
  End& server = make_end(Kind::stream, *listener.owner);
  server.accepted = false;
  server.local = client.peer;
  server.peer = client.local;
  server.remote = client.id;
  server.local_only = client.local_only = listener.local_only;
  client.remote = server.id;
  client.kind = Kind::stream;
  for (Meter* meter : {&server.meter, &client.meter}) {
    meter->last_ack = meter->last_data = world_.now();
  }
  listener.accept_queue.push_back(server.id);
  world_.trace("net: {} connected to {}", client.local.to_string(), client.peer.to_string());
  complete_accepts(listener);
  world_.after(delay(client.peer, client.local), [this, id = client.id] {
    if (End* end = find(id)) finish_waiter(end->connector, 0);
  });
}

void SimFabric::cancel(SimLoop& loop, uint64_t op) {
  world_.after(world_.between(0us, 10us), [this, &loop, op] {
    if (!loop.unfinished(op)) return;
    for (auto& [id, end] : ends_) {
      const auto is = [&](const Waiter& waiter) { return waiter.loop == &loop && waiter.op == op; };
      if (is(end.connector)) {
        // As in a real kernel the attempt itself goes on until close().
        finish_waiter(end.connector, -ECANCELED);
        end.connector = {};
        return;
      }
      if (is(end.receiver) || is(end.sender) || is(end.hangup) ||
          std::ranges::any_of(end.acceptors, is)) {
        loop.finish(op, -ECANCELED);
        return;
      }
    }
    ASSERT(!loop.unfinished(op));  // an op that no socket knows
  });
}

void SimFabric::shutdown(io::Socket id) {
  End& end = must_find(id);
  end.shut = true;
  if (end.kind == Kind::listener) {
    complete_accepts(end);
    return;
  }
  end.fin = true;
  pump(end);
  world_.after(world_.between(0us, 5us), [this, id] {
    try_receive(id);
    try_send(id);
  });
}

void SimFabric::shutdown_send(io::Socket id) {
  End& end = must_find(id);
  ASSERT(end.kind == Kind::stream);
  end.fin = true;
  pump(end);
  world_.after(world_.between(0us, 5us), [this, id] { try_send(id); });
}

void SimFabric::close(io::Socket id, bool reset) {
  End& end = must_find(id);
  ASSERT(!end.receiver.undelivered() && !end.sender.undelivered());
  ASSERT(!end.connector.undelivered());
  ASSERT(std::ranges::none_of(end.acceptors, [](const Waiter& w) { return w.undelivered(); }));
  if (end.kind == Kind::listener) {
    close_listener(end);
  } else if (end.kind == Kind::stream) {
    close_stream(end, reset);
  } else {
    erase(id);
  }
}

void SimFabric::close_listener(End& end) {
  world_.trace("net: {} no longer listened on", end.local.to_string());
  for (const io::Socket child : end.accept_queue) {
    if (End* waiting = find(child)) close_stream(*waiting, true);
  }
  erase(end.id);
}

void SimFabric::close_stream(End& end, bool reset) {
  end.closed = true;
  const End* remote = find(end.remote);
  const bool unread = remote != nullptr && remote->delivered > remote->read && !end.local_only;
  world_.trace("net: {} -> {} closed{}", end.local.to_string(), end.peer.to_string(),
               reset || unread ? " with a reset" : "");
  if (end.error != 0) {
    erase(end.id);
  } else if (reset || unread) {
    send_reset(end);
    erase(end.id);
  } else {
    end.fin = true;
    pump(end);
    // It learns that nobody reads either.
    if (end.fin_delivered || end.local_only) try_receive(end.remote);
    erase_if_done(end);
  }
}

// A reset is never sent again, so silence swallows it.
void SimFabric::send_reset(const End& from) {
  if (blocked(from.local, from.peer)) return;
  world_.after(delay(from.local, from.peer),
               [this, remote = from.remote] { on_reset(remote, ECONNRESET); });
}

void SimFabric::on_reset(io::Socket id, int error) {
  if (End* end = find(id)) fail_end(*end, error);
}

void SimFabric::fail_end(End& end, int error) {
  if (end.error != 0) return;
  end.error = error;
  world_.trace("net: {} -> {} errno {}", end.local.to_string(), end.peer.to_string(), error);
  if (end.closed) {
    erase(end.id);
    return;
  }
  try_send(end.id);
  try_receive(end.id);
}

io::Endpoint SimFabric::local_endpoint(io::Socket id) const {
  const End* end = find(id);
  return end == nullptr ? io::Endpoint() : end->local;
}

io::Endpoint SimFabric::peer_endpoint(io::Socket id) const {
  const End* end = find(id);
  return end == nullptr ? io::Endpoint() : end->peer;
}

void SimFabric::on_process_ended(SimProcess& process, bool power_lost) {
  std::vector<io::Socket> owned;
  for (const auto& [id, end] : ends_) {
    if (end.owner == &process && !(end.closed && !power_lost)) owned.push_back(id);
  }
  for (const io::Socket id : owned) {
    End* end = find(id);
    if (end == nullptr) continue;
    if (power_lost || end->kind == Kind::connecting || end->kind == Kind::idle) {
      erase(id);
    } else if (end->kind == Kind::listener) {
      close_listener(*end);
    } else {
      close_stream(*end, end->reset_at_exit);
    }
  }
}

}  // namespace holdfast::sim
