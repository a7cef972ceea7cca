#include "qdisk/rpc_transport.h"

#include <algorithm>
#include <utility>

#include "common/base/crc32c.h"
#include "common/base/endian.h"
#include "common/base/log.h"

namespace holdfast::qdisk {

using base::Errc;
using base::fail;

namespace {

constexpr const char* kLog = "qdisk";

// Silence is seen at most a quarter of net_dead late.
constexpr int kChecksPerDeath = 4;

// What the kernel may keep back unsent: some tens of heartbeats. When a network that stood still
// goes on, what is in there comes first, however old it is.
constexpr uint32_t kNotSentLowWater = 8 * 1024;

constexpr const char* kDisagrees =
    "its `cluster.uuid` or times are not those of this node: correct the configuration that is "
    "wrong";

const RpcTransport::Node* find_node(const std::vector<RpcTransport::Node>& nodes, NodeId id) {
  const auto found = std::ranges::find(nodes, id, &RpcTransport::Node::id);
  return found == nodes.end() ? nullptr : &*found;
}

rpc::Peer::Options peer_options(const RpcTransport::Node& self, const RpcTransport::Node& node,
                                size_t network, io::Duration net_dead) {
  rpc::Peer::Options made;
  made.node = node.name;
  made.address = node.addresses[network];
  made.connect.source = self.addresses[network];
  // A connection over which nothing gets through: its end, and that of all that waits in it.
  made.connect.user_timeout = net_dead;
  made.connect.not_sent_low_water = kNotSentLowWater;
  // A daemon that has ended says nothing more.
  made.connect.reset_at_exit = true;
  return made;
}

}  // namespace

uint32_t agreement_of(const Uuid& cluster, const Timers& timers) {
  base::Crc32c sum;
  sum.update(cluster);
  for (const Milliseconds each :
       {timers.hb_net, timers.net_dead, timers.hb_disk, timers.disk_io_to, timers.lease,
        timers.kill, timers.watchdog, timers.takeover, timers.margin}) {
    sum.update(base::as_bytes(base::le64(static_cast<uint64_t>(each.count()))));
  }
  return std::max(sum.value(), 1U);
}

RpcTransport::Lane::Lane(RpcTransport& owner, const Node& node, size_t on_network)
    : transport(owner),
      network(on_network),
      peer({owner.services_.loop, owner.services_.network, owner.services_.random,
            owner.services_.identity, *this, *this},
           peer_options(*find_node(owner.options_.nodes, owner.options_.self), node, on_network,
                        owner.options_.net_dead)) {}

RpcTransport::Entrance::Entrance(RpcTransport& owner, const io::Endpoint& address,
                                 size_t on_network)
    : transport(owner),
      network(on_network),
      listener(
          {owner.services_.loop, owner.services_.network, owner.services_.identity, *this, *this},
          {.addresses = {address}, .connection = {}}) {}

RpcTransport::RpcTransport(const Services& services, Options options)
    : services_(services),
      options_(std::move(options)),
      check_period_(options_.net_dead / kChecksPerDeath) {}

RpcTransport::~RpcTransport() { ASSERT(parts_left_ == 0); }

base::Result<> RpcTransport::check_options() const {
  const Node* const self = find_node(options_.nodes, options_.self);
  if (self == nullptr) return fail(Errc::invalid_argument, "this node is not among the nodes");
  if (check_period_ <= io::Duration::zero()) {
    return fail(Errc::invalid_argument, "net_dead is too short");
  }
  const size_t networks = self->addresses.size();
  if (networks == 0 || networks > kMaxNetworks) {
    return fail(Errc::invalid_argument, "too few or too many cluster networks");
  }
  NodeSet ids;
  for (const Node& node : options_.nodes) {
    if (node.id >= kMaxNodes || ids.has(node.id)) {
      return fail(Errc::invalid_argument, "the id of a node is out of range or taken");
    }
    ids.add(node.id);
    if (!rpc::is_name(node.name) ||
        std::ranges::count(options_.nodes, node.name, &Node::name) > 1) {
      return fail(Errc::invalid_argument, "the name of a node is none, or taken");
    }
    if (node.addresses.size() != networks) {
      return fail(Errc::invalid_argument, "a node has not one address in each network");
    }
  }
  return {};
}

base::Result<> RpcTransport::start() {
  ASSERT(!closing_ && entrances_.empty());
  TRY(check_options());
  const Node& self = *find_node(options_.nodes, options_.self);
  for (size_t network = 0; network < self.addresses.size(); ++network) {
    entrances_.push_back(std::make_unique<Entrance>(*this, self.addresses[network], network));
    TRY(entrances_.back()->listener.start());
  }
  for (const Node& node : options_.nodes) {
    if (node.id == options_.self) continue;
    auto remote = std::make_unique<Remote>();
    remote->id = node.id;
    remote->name = node.name;
    for (size_t network = 0; network < node.addresses.size(); ++network) {
      remote->lanes.push_back(std::make_unique<Lane>(*this, node, network));
      remote->lanes.back()->peer.start();
    }
    remotes_.push_back(std::move(remote));
  }
  services_.loop.start(check_timer_, check_period_);
  return {};
}

void RpcTransport::close(io::Task closed) {
  ASSERT(!closing_);
  closing_ = true;
  closed_ = std::move(closed);
  services_.loop.stop(check_timer_);
  parts_left_ = 1;
  services_.loop.complete_soon(closing_op_, 0);
  for (const auto& entrance : entrances_) {
    ++parts_left_;
    entrance->listener.close([this]() noexcept { on_part_closed(); });
  }
  for (const auto& remote : remotes_) {
    for (const auto& lane : remote->lanes) {
      ++parts_left_;
      lane->peer.begin_close();
    }
  }
}

void RpcTransport::on_part_closed() {
  if (--parts_left_ > 0) return;
  std::exchange(closed_, {})();  // may destroy this
}

RpcTransport::Remote* RpcTransport::find(NodeId id) {
  const auto found = std::ranges::find(remotes_, id, [](const auto& each) { return each->id; });
  return found == remotes_.end() ? nullptr : found->get();
}

RpcTransport::Remote* RpcTransport::find(const std::string& name) {
  for (const auto& remote : remotes_) {
    if (remote->name == name) return remote.get();
  }
  return nullptr;
}

// --- sending

// A heartbeat says what is so now: where an earlier one still waits, the next one will do.
void RpcTransport::broadcast(const Heartbeat& heartbeat) {
  Heartbeat sent = heartbeat;
  sent.agreement = options_.agreement;
  const std::string bytes = encode(sent);
  for (const auto& remote : remotes_) {
    for (const auto& lane : remote->lanes) {
      const bool waits = lane->peer.queued_bytes(rpc::Priority::urgent) > 0;
      if (waits ||
          !send_by(*lane, MessageType::heartbeat, base::as_bytes(std::string_view(bytes)))) {
        ++counters_.dropped_heartbeats;
      }
    }
  }
}

void RpcTransport::send(NodeId to, const Request& request) {
  send_message(to, MessageType::request, encode(request));
}

void RpcTransport::send(NodeId to, const Reply& reply) {
  send_message(to, MessageType::reply, encode(reply));
}

void RpcTransport::send(NodeId to, const ConfigMessage& message) {
  send_message(to, MessageType::config, encode(message));
}

// In turn, over the networks that are up. What is lost is repeated by who asked.
void RpcTransport::send_message(NodeId to, MessageType type, const std::string& bytes) {
  Remote* const remote = find(to);
  const size_t networks = remote == nullptr ? 0 : remote->lanes.size();
  for (size_t tried = 0; tried < networks; ++tried) {
    Lane& lane = *remote->lanes[remote->next];
    remote->next = (remote->next + 1) % networks;
    if (send_by(lane, type, base::as_bytes(std::string_view(bytes)))) return;
  }
  ++counters_.dropped_messages;
}

bool RpcTransport::send_by(Lane& lane, MessageType type, base::Bytes bytes) {
  const bool urgent = type == MessageType::heartbeat;
  return lane.peer
      .notify(static_cast<uint16_t>(type), bytes,
              urgent ? rpc::Priority::urgent : rpc::Priority::bulk)
      .has_value();
}

// --- receiving

bool RpcTransport::Entrance::admits(const std::string& node, bool) noexcept {
  return transport.find(node) != nullptr;  // who connects again has given up the older connection
}

void RpcTransport::Entrance::on_node_up(rpc::Link& link) noexcept {
  Remote* const from = transport.find(link.node());
  ASSERT(from != nullptr);
  from->lanes[network]->accepted = true;
  from->lanes[network]->silent_since = transport.services_.loop.now();
}

void RpcTransport::Entrance::on_node_down(rpc::Link& link, const rpc::ConnectionEnd&) noexcept {
  Remote* const from = transport.find(link.node());
  ASSERT(from != nullptr);
  from->lanes[network]->accepted = false;  // that of an older connection comes before the newer
}

void RpcTransport::Entrance::on_request(const rpc::Message& request,
                                        rpc::Responder responder) noexcept {
  transport.refuse(request.from, "a request of the messages' layer");
  responder.refuse(rpc::Refusal::unknown_type);
}

void RpcTransport::Entrance::on_notice(const rpc::Message& notice) noexcept {
  Remote* const from = transport.find(notice.from);
  ASSERT(from != nullptr);
  transport.receive(*from, network, notice);
}

void RpcTransport::Lane::on_request(const rpc::Message& request,
                                    rpc::Responder responder) noexcept {
  transport.refuse(request.from, "a request over a connection of this node's own");
  responder.refuse(rpc::Refusal::unknown_type);
}

void RpcTransport::Lane::on_notice(const rpc::Message& notice) noexcept {
  transport.refuse(notice.from, "a notice over a connection of this node's own");
}

void RpcTransport::receive(Remote& from, size_t network, const rpc::Message& notice) {
  from.lanes[network]->silent_since = services_.loop.now();
  if (receiver_ == nullptr) return;
  switch (static_cast<MessageType>(notice.type)) {
    case MessageType::heartbeat:
      return receive_heartbeat(from, network, notice.payload);
    case MessageType::request:
      return receive_request(from, notice.payload);
    case MessageType::reply:
      return receive_reply(from, notice.payload);
    case MessageType::config:
      return receive_config(from, notice.payload);
  }
  refuse(from.name, "a notice of an unknown type");
}

bool RpcTransport::agrees(const Remote& from) {
  if (options_.agreement == 0 || from.agreement == options_.agreement) return true;
  ++counters_.disagreeing;
  return false;
}

void RpcTransport::receive_heartbeat(Remote& from, size_t network, base::Bytes bytes) {
  const base::Result<Heartbeat> heartbeat = decode_heartbeat(bytes);
  if (!heartbeat.has_value()) return refuse(from.name, heartbeat.error().what);
  if (heartbeat->node != from.id) return count_wrong_sender(from, "heartbeat", heartbeat->node);
  from.agreement = heartbeat->agreement;
  if (!agrees(from)) return refuse(from.name, kDisagrees);
  receiver_->on_heartbeat(network, *heartbeat);
}

void RpcTransport::receive_request(const Remote& from, base::Bytes bytes) {
  const base::Result<Request> request = decode_request(bytes);
  if (!request.has_value()) return refuse(from.name, request.error().what);
  if (request->from != from.id) return count_wrong_sender(from, "request", request->from);
  if (!agrees(from)) return;
  receiver_->on_request(*request);
}

void RpcTransport::receive_reply(const Remote& from, base::Bytes bytes) {
  const base::Result<Reply> reply = decode_reply(bytes);
  if (!reply.has_value()) return refuse(from.name, reply.error().what);
  if (!agrees(from)) return;
  receiver_->on_reply(from.id, *reply);
}

// It names no sender: whoever has authenticated itself for the connection is.
void RpcTransport::receive_config(const Remote& from, base::Bytes bytes) {
  const base::Result<ConfigMessage> message = decode_config_message(bytes);
  if (!message.has_value()) return refuse(from.name, message.error().what);
  receiver_->on_config(from.id, *message);
}

void RpcTransport::refuse(const std::string& from, const char* why) {
  ++counters_.refused_messages;
  LOG_LIMITED(warning, kLog, "message refused: from={}: {}", from, why);
}

void RpcTransport::count_wrong_sender(const Remote& from, const char* what, NodeId claimed) {
  ++counters_.wrong_sender;
  LOG_LIMITED(warning, kLog, "{} in the name of another node: from={} id={} claimed={}", what,
              from.name, from.id, claimed);
}

// --- silence

void RpcTransport::Lane::on_peer_up(rpc::Peer&) noexcept {
  silent_since = transport.services_.loop.now();
}

// After a standstill a loop hands over what has come meanwhile before its timers go off.
void RpcTransport::on_check() noexcept {
  services_.loop.start(check_timer_, check_period_);
  for (const auto& remote : remotes_) {
    for (const auto& lane : remote->lanes) check(*lane);
  }
}

// Both connections are there and yet nothing comes: the other end of them may be gone without a
// word. Ours is made anew; the other node, if it lives, does the same with its own.
void RpcTransport::check(Lane& lane) {
  if (!lane.accepted || !lane.peer.up()) return;
  if (services_.loop.now() - lane.silent_since < options_.net_dead) return;
  lane.peer.drop("nothing was heard of the node over this network");
}

// --- what an administrator sees

std::vector<RpcTransport::LinkStatus> RpcTransport::links() const {
  std::vector<LinkStatus> all;
  for (const auto& remote : remotes_) {
    for (const auto& lane : remote->lanes) {
      LinkStatus status{.node = remote->id, .network = lane->network, .up = lane->peer.up()};
      const rpc::ConnectionEnd& end = lane->peer.last_end();
      const bool ended = *end.why != '\0';
      if (!status.up) status.why = ended ? rpc::describe(end) : "not connected yet";
      if (remote->agreement.value_or(options_.agreement) != options_.agreement) {
        status.up = false;
        status.why = kDisagrees;
      }
      all.push_back(std::move(status));
    }
  }
  return all;
}

}  // namespace holdfast::qdisk
