#pragma once
// How a node's daemon reaches the others: mutual TLS over every cluster network (docs/rpc.md). Each
// node sends over connections of its own, one to each other node on each network, and hears over
// those of the others: so a network that works one way only is seen as that.
//
// Heartbeats go over every network, before anything else, and never wait behind an earlier one: a
// connection that stalls delivers the news late, but not a heap of old ones. Requests and replies
// go over one network that is up. What cannot be sent is dropped, as the protocol expects.
//
// Owner: the daemon; one loop's. After start() the owner keeps it until close() is done.

#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/rpc/listener.h"
#include "common/rpc/peer.h"
#include "qdisk/transport.h"
#include "qdisk/wire.h"

namespace holdfast::qdisk {

class RpcTransport final : public Transport {
 public:
  struct Node {
    NodeId id = kNoNode;
    std::string name;                     // that it proves
    std::vector<io::Endpoint> addresses;  // one for each network, in the same order for all
  };
  struct Options {
    NodeId self = kNoNode;
    std::vector<Node> nodes;  // with this one
    // A node that has not been heard over a network for so long is connected to anew.
    io::Duration net_dead;
  };
  // All outlive it.
  struct Services {
    io::Loop& loop;
    io::Network& network;
    base::Random& random;
    const rpc::TlsIdentity& identity;
  };
  struct LinkStatus {
    NodeId node = kNoNode;
    size_t network = 0;
    bool up = false;  // ours to it
    std::string why;  // it is not
  };
  struct Counters {
    uint64_t dropped_heartbeats = 0;  // nothing was up, or an earlier one still waited
    uint64_t dropped_messages = 0;
    uint64_t refused_messages = 0;  // that no node can mean
    uint64_t wrong_sender = 0;      // in the name of another node
  };

  RpcTransport(const Services& services, Options options);
  RpcTransport(const RpcTransport&) = delete;
  RpcTransport& operator=(const RpcTransport&) = delete;
  ~RpcTransport() override;

  base::Result<> start();
  void close(io::Task closed);

  void set_receiver(Receiver* receiver) override { receiver_ = receiver; }
  void broadcast(const Heartbeat& heartbeat) override;
  void send(NodeId to, const Request& request) override;
  void send(NodeId to, const Reply& reply) override;

  std::vector<LinkStatus> links() const;
  const Counters& counters() const { return counters_; }

 private:
  class Hearing;
  class Sending;
  struct Other {
    Node node;
    std::vector<std::unique_ptr<Sending>> networks;
    size_t next = 0;  // network for a message
  };

  Other* find(NodeId id);
  NodeId id_of(const std::string& name) const;
  void send(NodeId to, MessageType type, const std::string& bytes);
  void on_notice(size_t network, const rpc::Message& notice);
  void refuse(const rpc::Message& notice, const char* why);
  bool sent_by(const rpc::Message& notice, NodeId claimed);
  void on_look() noexcept;
  void check_closed();
  void on_closed(int32_t) noexcept;

  const Services services_;
  const Options options_;
  std::vector<std::unique_ptr<Hearing>> hearing_;  // by network
  std::vector<Other> others_;
  Receiver* receiver_ = nullptr;
  Counters counters_;
  bool closing_ = false;
  size_t open_ = 0;  // listeners and peers that have not closed
  io::Task closed_;
  io::TimerOf<RpcTransport, &RpcTransport::on_look> look_{*this};
  io::OpOf<RpcTransport, &RpcTransport::on_closed> closed_op_{*this};
};

}  // namespace holdfast::qdisk
