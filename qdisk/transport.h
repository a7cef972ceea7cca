#pragma once
// How a node's daemon reaches the others: production uses common/rpc over every cluster network,
// the simulator its own. What is sent may be lost, late, doubled, and come in another order.

#include "qdisk/config_message.h"
#include "qdisk/membership.h"

namespace holdfast::qdisk {

class Transport {
 public:
  class Receiver {
   public:
    virtual ~Receiver() = default;
    virtual void on_heartbeat(size_t network, const Heartbeat& heartbeat) = 0;
    virtual void on_request(const Request& request) = 0;
    virtual void on_reply(NodeId from, const Reply& reply) = 0;
    virtual void on_config(NodeId /*from*/, const ConfigMessage& /*message*/) {}
  };

  virtual ~Transport() = default;
  // Calls come on the loop of the receiver, never from inside a send. Null: nobody listens.
  virtual void set_receiver(Receiver* receiver) = 0;
  virtual void broadcast(const Heartbeat& heartbeat) = 0;  // to all, over each network
  virtual void send(NodeId to, const Request& request) = 0;
  virtual void send(NodeId to, const Reply& reply) = 0;
  // Where nothing carries it, it is lost.
  virtual void send(NodeId /*to*/, const ConfigMessage& /*message*/) {}
};

}  // namespace holdfast::qdisk
