#include "qdisk/rpc_transport.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

namespace {

constexpr const char* kLog = "qdisk";

// A network that is back must be used long before it would be given up.
io::Duration at_most(io::Duration limit, io::Duration net_dead) {
  return std::min(limit, std::max(net_dead, io::Duration(rpc::kBackoffMin)));
}

}  // namespace

// What the others send over one network.
class RpcTransport::Hearing final : private rpc::Handler, private rpc::ListenerEvents {
 public:
  Hearing(RpcTransport& owner, size_t network, const io::Endpoint& address,
          const rpc::Connection::Options& connection)
      : owner_(owner),
        network_(network),
        listener_({.loop = owner.services_.loop,
                   .network = owner.services_.network,
                   .identity = owner.services_.identity,
                   .handler = *this,
                   .events = *this},
                  {.addresses = {address}, .connection = connection}) {}

  rpc::Listener& listener() { return listener_; }

 private:
  void on_request(const rpc::Message&, rpc::Responder responder) noexcept override {
    responder.refuse(rpc::Refusal::unknown_type);
  }
  void on_notice(const rpc::Message& notice) noexcept override {
    owner_.on_notice(network_, notice);
  }
  // The newer connection counts: the other side has given the old one up.
  bool admits(const std::string& node, bool) noexcept override {
    const NodeId id = owner_.id_of(node);
    return id != kNoNode && id != owner_.options_.self;
  }
  void on_node_up(rpc::Link&) noexcept override {}
  void on_node_down(rpc::Link&, const rpc::ConnectionEnd&) noexcept override {}

  RpcTransport& owner_;
  const size_t network_;
  rpc::Listener listener_;
};

// This node's connection to another one over one network.
class RpcTransport::Sending final : private rpc::Handler, private rpc::PeerEvents {
 public:
  Sending(RpcTransport& owner, const Node& to, size_t network, const io::Endpoint& source)
      : owner_(owner),
        peer_({.loop = owner.services_.loop,
               .network = owner.services_.network,
               .random = owner.services_.random,
               .identity = owner.services_.identity,
               .handler = *this,
               .events = *this},
              options_of(owner, to, network, source)) {}

  rpc::Peer& peer() { return peer_; }
  const rpc::Peer& peer() const { return peer_; }
  // Something of that node has come over this network, or the connection is new.
  io::Instant heard_at{};

 private:
  static rpc::Peer::Options options_of(const RpcTransport& owner, const Node& to, size_t network,
                                       const io::Endpoint& source) {
    rpc::Peer::Options out{.node = to.name, .address = to.addresses[network]};
    out.connect.source = source;
    const io::Duration net_dead = owner.options_.net_dead;
    out.connection.handshake_timeout = at_most(rpc::kHandshakeTimeout, net_dead / 2);
    out.connection.send_timeout = at_most(rpc::kSendTimeout, net_dead);
    out.backoff_max = at_most(rpc::kBackoffMax, net_dead / 4);
    return out;
  }

  // Nobody sends anything this way.
  void on_request(const rpc::Message&, rpc::Responder responder) noexcept override {
    responder.refuse(rpc::Refusal::unknown_type);
  }
  void on_notice(const rpc::Message&) noexcept override { ++owner_.counters_.refused_messages; }
  void on_peer_up(rpc::Peer&) noexcept override { heard_at = owner_.services_.loop.now(); }
  void on_peer_down(rpc::Peer&, const rpc::ConnectionEnd&) noexcept override {}
  void on_peer_closed(rpc::Peer&) noexcept override { owner_.check_closed(); }

  RpcTransport& owner_;
  rpc::Peer peer_;
};

RpcTransport::RpcTransport(const Services& services, Options options)
    : services_(services), options_(std::move(options)) {
  const auto self = std::ranges::find(options_.nodes, options_.self, &Node::id);
  ASSERT(self != options_.nodes.end() && self->addresses.size() <= kMaxNetworks);
  for (size_t network = 0; network < self->addresses.size(); ++network) {
    const rpc::Connection::Options connection{
        .handshake_timeout = at_most(rpc::kHandshakeTimeout, options_.net_dead / 2)};
    hearing_.push_back(
        std::make_unique<Hearing>(*this, network, self->addresses[network], connection));
  }
  for (const Node& node : options_.nodes) {
    if (node.id == options_.self) continue;
    ASSERT(node.id < kMaxNodes && node.addresses.size() == self->addresses.size());
    Other& other = others_.emplace_back(Other{.node = node});
    for (size_t network = 0; network < node.addresses.size(); ++network) {
      other.networks.push_back(
          std::make_unique<Sending>(*this, node, network, self->addresses[network]));
    }
  }
}

RpcTransport::~RpcTransport() { services_.loop.stop(look_); }

base::Result<> RpcTransport::start() {
  for (const auto& hearing : hearing_) TRY(hearing->listener().start());
  for (const Other& other : others_) {
    for (const auto& sending : other.networks) sending->peer().start();
  }
  services_.loop.start(look_, options_.net_dead / 4);
  return {};
}

RpcTransport::Other* RpcTransport::find(NodeId id) {
  const auto found =
      std::ranges::find_if(others_, [id](const Other& other) { return other.node.id == id; });
  return found == others_.end() ? nullptr : &*found;
}

NodeId RpcTransport::id_of(const std::string& name) const {
  const auto found = std::ranges::find(options_.nodes, name, &Node::name);
  return found == options_.nodes.end() ? kNoNode : found->id;
}

// --- out ---

void RpcTransport::broadcast(const Heartbeat& heartbeat) {
  const std::string bytes = encode(heartbeat);
  for (const Other& other : others_) {
    for (const auto& sending : other.networks) {
      rpc::Peer& peer = sending->peer();
      const bool clear = peer.up() && peer.queued_bytes(rpc::Priority::urgent) == 0;
      if (!clear || !peer.notify(static_cast<uint16_t>(MessageType::heartbeat),
                                 base::as_bytes(std::string_view(bytes)))) {
        ++counters_.dropped_heartbeats;
      }
    }
  }
}

void RpcTransport::send(NodeId to, const Request& request) {
  send(to, MessageType::request, encode(request));
}

void RpcTransport::send(NodeId to, const Reply& reply) {
  send(to, MessageType::reply, encode(reply));
}

// Over the networks in turn, so that one that only seems to be up does not take all.
void RpcTransport::send(NodeId to, MessageType type, const std::string& bytes) {
  Other* other = find(to);
  const size_t count = other == nullptr ? 0 : other->networks.size();
  for (size_t i = 0; i < count; ++i) {
    const size_t network = other->next++ % count;
    if (other->networks[network]->peer().notify(static_cast<uint16_t>(type),
                                                base::as_bytes(std::string_view(bytes)),
                                                rpc::Priority::bulk)) {
      return;
    }
  }
  ++counters_.dropped_messages;
}

// --- in ---

void RpcTransport::refuse(const rpc::Message& notice, const char* why) {
  ++counters_.refused_messages;
  LOG_LIMITED(warning, kLog, "a message of {} is dropped: {}", notice.from, why);
}

// In the name of the node that has proved who it is.
bool RpcTransport::sent_by(const rpc::Message& notice, NodeId claimed) {
  if (id_of(notice.from) == claimed) return true;
  ++counters_.wrong_sender;
  LOG_LIMITED(warning, kLog, "{} speaks in the name of node {}", notice.from, claimed);
  return false;
}

void RpcTransport::on_notice(size_t network, const rpc::Message& notice) {
  Other* other = find(id_of(notice.from));
  if (closing_ || receiver_ == nullptr || other == nullptr) return;
  other->networks[network]->heard_at = services_.loop.now();
  switch (static_cast<MessageType>(notice.type)) {
    case MessageType::heartbeat: {
      const auto heartbeat = decode_heartbeat(notice.payload);
      if (!heartbeat) return refuse(notice, heartbeat.error().what);
      if (sent_by(notice, heartbeat->node)) receiver_->on_heartbeat(network, *heartbeat);
      return;
    }
    case MessageType::request: {
      const auto request = decode_request(notice.payload);
      if (!request) return refuse(notice, request.error().what);
      if (sent_by(notice, request->from)) receiver_->on_request(*request);
      return;
    }
    case MessageType::reply: {
      const auto reply = decode_reply(notice.payload);
      if (!reply) return refuse(notice, reply.error().what);
      receiver_->on_reply(other->node.id, *reply);
      return;
    }
  }
  refuse(notice, "it is of an unknown type");
}

// Silence: one of the two connections may be half open, and this node can only replace its own.
void RpcTransport::on_look() noexcept {
  services_.loop.start(look_, options_.net_dead / 4);
  const io::Instant now = services_.loop.now();
  for (const Other& other : others_) {
    for (const auto& sending : other.networks) {
      if (!sending->peer().up() || now - sending->heard_at < options_.net_dead) continue;
      sending->heard_at = now;
      sending->peer().drop("nothing has been heard of it for too long");
    }
  }
}

std::vector<RpcTransport::LinkStatus> RpcTransport::links() const {
  std::vector<LinkStatus> out;
  for (const Other& other : others_) {
    for (size_t network = 0; network < other.networks.size(); ++network) {
      const rpc::Peer& peer = other.networks[network]->peer();
      LinkStatus link{.node = other.node.id, .network = network, .up = peer.up()};
      if (!link.up) link.why = rpc::describe(peer.last_end());
      out.push_back(std::move(link));
    }
  }
  return out;
}

// --- the end ---

void RpcTransport::close(io::Task closed) {
  ASSERT(!closing_);
  closing_ = true;
  closed_ = std::move(closed);
  services_.loop.stop(look_);
  open_ = hearing_.size();
  for (const Other& other : others_) open_ += other.networks.size();
  for (const auto& hearing : hearing_) {
    hearing->listener().close([this]() noexcept { check_closed(); });
  }
  for (const Other& other : others_) {
    for (const auto& sending : other.networks) sending->peer().begin_close();
  }
}

// The one that closed is still on the stack.
void RpcTransport::check_closed() {
  if (--open_ == 0) services_.loop.complete_soon(closed_op_, 0);
}

void RpcTransport::on_closed(int32_t) noexcept { std::exchange(closed_, nullptr)(); }

}  // namespace holdfast::qdisk
