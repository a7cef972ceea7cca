#pragma once
// The transport of the daemon: common/rpc over every cluster network. docs/rpc.md.
//
// Each direction has its own connection: what this node sends goes over the peers it connects, and
// what it takes comes over what others have connected to its listeners, one for each network. Every
// connection has its own heartbeats; a request or reply takes one network that is up.
//
// Owner: whoever constructs it; one loop's. After start(), also one that failed, the owner keeps it
// until close() is done. No call of it calls back.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/rpc/listener.h"
#include "common/rpc/peer.h"
#include "qdisk/timers.h"
#include "qdisk/transport.h"
#include "qdisk/wire.h"

namespace holdfast::qdisk {

// Two clusters of one name, or nodes with other times than the others, must never become one: who
// is fenced would have another key, and who takes over would not wait long enough.
uint32_t agreement_of(const Uuid& cluster, const Timers& timers);

class RpcTransport final : public Transport {
 public:
  struct Node {
    NodeId id = kNoNode;
    std::string name;  // as its certificate has it
    // One for each cluster network, in the same order for all nodes.
    std::vector<io::Endpoint> addresses;
  };
  struct Options {
    NodeId self = kNoNode;
    std::vector<Node> nodes;  // with this one
    io::Duration net_dead{};  // a connection that is silent or stuck for so long is replaced
    // What all nodes have alike, agreement_of(): a node whose heartbeats have another one is of
    // another cluster, whatever its certificate says, and nothing is taken of it before. 0: none
    uint32_t agreement = 0;
  };
  // `identity` and the others outlive it.
  struct Services {
    io::Loop& loop;
    io::Network& network;
    base::Random& random;
    const rpc::TlsIdentity& identity;
  };
  // One connection of this node's own, which it sends over.
  struct LinkStatus {
    NodeId node = kNoNode;
    size_t network = 0;
    bool up = false;
    std::string why;  // when it is not up: why the last connection or attempt ended
  };
  struct Counters {
    uint64_t dropped_heartbeats = 0;  // not sent: the connection is not up, or has one waiting
    uint64_t dropped_messages = 0;    // all others not sent: no network took them
    uint64_t refused_messages = 0;    // received, of no use: undecodable, or of no known type
    uint64_t wrong_sender = 0;        // received, in the name of another node than the sender
    uint64_t disagreeing = 0;         // received, of a node that has not shown our agreement
  };

  RpcTransport(const Services& services, Options options);
  RpcTransport(const RpcTransport&) = delete;
  RpcTransport& operator=(const RpcTransport&) = delete;
  ~RpcTransport() override;

  // Errc::invalid_argument: the options name no such cluster. Else as of rpc::Listener. Once.
  base::Result<> start();
  // Nothing is received from now on. `closed` once, from the loop, which may destroy this.
  void close(io::Task closed);

  void set_receiver(Receiver* receiver) override { receiver_ = receiver; }
  void broadcast(const Heartbeat& heartbeat) override;
  // To a node that does not exist, to this one, or while no network is up: dropped and counted.
  void send(NodeId to, const Request& request) override;
  void send(NodeId to, const Reply& reply) override;
  void send(NodeId to, const ConfigMessage& message) override;

  // One of each other node and network.
  std::vector<LinkStatus> links() const;
  const Counters& counters() const { return counters_; }

 private:
  // Between this node and another one over one network.
  struct Lane final : rpc::PeerEvents, rpc::Handler {
    Lane(RpcTransport& owner, const Node& node, size_t network);
    void on_peer_up(rpc::Peer&) noexcept override;
    void on_peer_down(rpc::Peer&, const rpc::ConnectionEnd&) noexcept override {}
    void on_peer_closed(rpc::Peer&) noexcept override { transport.on_part_closed(); }
    // Nobody sends anything over a connection that it has not made.
    void on_request(const rpc::Message& request, rpc::Responder responder) noexcept override;
    void on_notice(const rpc::Message& notice) noexcept override;

    RpcTransport& transport;
    const size_t network;
    bool accepted = false;  // the other node has connected here
    io::Instant silent_since{};
    rpc::Peer peer;
  };
  struct Remote {
    NodeId id = kNoNode;
    std::string name;
    std::vector<std::unique_ptr<Lane>> lanes;  // by network
    size_t next = 0;                           // the lane whose turn it is
    std::optional<uint32_t> agreement;         // of its last heartbeat
  };
  // Where others connect over one network.
  struct Entrance final : rpc::ListenerEvents, rpc::Handler {
    Entrance(RpcTransport& owner, const io::Endpoint& address, size_t network);
    bool admits(const std::string& node, bool replaces) noexcept override;
    void on_node_up(rpc::Link& link) noexcept override;
    void on_node_down(rpc::Link& link, const rpc::ConnectionEnd& end) noexcept override;
    void on_request(const rpc::Message& request, rpc::Responder responder) noexcept override;
    void on_notice(const rpc::Message& notice) noexcept override;

    RpcTransport& transport;
    const size_t network;
    rpc::Listener listener;
  };

  base::Result<> check_options() const;
  Remote* find(NodeId id);
  Remote* find(const std::string& name);
  void send_message(NodeId to, MessageType type, const std::string& bytes);
  bool send_by(Lane& lane, MessageType type, base::Bytes bytes);
  void receive(Remote& from, size_t network, const rpc::Message& notice);
  bool agrees(const Remote& from);
  void receive_heartbeat(Remote& from, size_t network, base::Bytes bytes);
  void receive_request(const Remote& from, base::Bytes bytes);
  void receive_reply(const Remote& from, base::Bytes bytes);
  void receive_config(const Remote& from, base::Bytes bytes);
  void refuse(const std::string& from, const char* why);
  void count_wrong_sender(const Remote& from, const char* what, NodeId claimed);
  void on_check() noexcept;
  void check(Lane& lane);
  void on_closing(int32_t) noexcept { on_part_closed(); }
  void on_part_closed();

  const Services services_;
  const Options options_;
  const io::Duration check_period_;
  Receiver* receiver_ = nullptr;
  Counters counters_;
  std::vector<std::unique_ptr<Entrance>> entrances_;  // by network
  std::vector<std::unique_ptr<Remote>> remotes_;
  bool closing_ = false;
  size_t parts_left_ = 0;
  io::Task closed_;
  io::TimerOf<RpcTransport, &RpcTransport::on_check> check_timer_{*this};
  io::OpOf<RpcTransport, &RpcTransport::on_closing> closing_op_{*this};
};

}  // namespace holdfast::qdisk
