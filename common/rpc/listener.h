#pragma once
// Accepts the connections of other nodes on given addresses. Each node that has proved who it is
// has one link at most; those that have not are bounded, in all and by address: docs/rpc.md.
//
// Owner: whoever constructs it; one loop's. After start() the owner keeps it until close() is done.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/rpc/link.h"

namespace holdfast::rpc {

class ListenerEvents {
 public:
  virtual ~ListenerEvents() = default;
  // A node of the cluster asks to be let in. `replaces`: it is connected already; true then ends
  // that older connection, and false keeps it.
  virtual bool admits(const std::string& node, bool replaces) noexcept = 0;
  // The link may be used until on_node_down() of it.
  virtual void on_node_up(Link& link) noexcept = 0;
  // Of a link that a newer one replaces this comes first, and its calls end soon after.
  virtual void on_node_down(Link& link, const ConnectionEnd& end) noexcept = 0;
};

class Listener final : private LinkEvents {
 public:
  struct Options {
    std::vector<io::Endpoint> addresses;
    Connection::Options connection;
  };
  // `identity`, `handler` and `events` outlive it.
  struct Parts {
    io::Loop& loop;
    io::Network& network;
    const TlsIdentity& identity;
    Handler& handler;
    ListenerEvents& events;
  };
  Listener(const Parts& parts, Options options);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() override;

  // An address that this host lacks at present is tried again until it is there. Any other error:
  // nothing is listened on.
  base::Result<> start();
  // No new connections, and those that are there end. `done` once, from the loop.
  void close(std::move_only_function<void() noexcept> done);

  Link* find(const std::string& node);  // null: not connected
  size_t nodes() const;
  size_t handshakes() const;                     // connections that have not proved who they are
  uint64_t refused() const { return refused_; }  // by a bound, or by admits()

 private:
  struct Port {
    Port(Listener& all, const io::Endpoint& where) : listener(all), address(where) {}
    void on_accepted(int32_t result) noexcept { listener.on_accepted(*this, result); }
    void on_retry() noexcept { listener.on_retry(*this); }

    Listener& listener;
    io::Endpoint address;
    io::Socket socket = io::kNoSocket;
    io::OpOf<Port, &Port::on_accepted> accept_op{*this};
    io::TimerOf<Port, &Port::on_retry> retry{*this};
  };
  // up: of all links of a node at most one.
  enum class State : uint8_t { handshake, up, ending };
  struct Accepted {
    Accepted(Listener& all, const io::Endpoint& where);
    io::Endpoint from;
    State state = State::handshake;
    Link link;
  };

  bool on_identified(Link& link) noexcept override;
  void on_up(Link& link) noexcept override;
  void on_down(Link& link, const ConnectionEnd& end) noexcept override;

  base::Result<> listen(Port& port);
  void accept(Port& port);
  void on_accepted(Port& port, int32_t result);
  void on_retry(Port& port);
  bool has_room(const io::Endpoint& from);
  Accepted& of(const Link& link);
  Accepted* find_up(const std::string& node);
  void begin_end(Accepted& accepted, const char* why);
  void on_closed_step(int32_t) noexcept { check_closed(); }
  void check_closed();

  const Parts parts_;
  const Options options_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::vector<std::unique_ptr<Accepted>> accepted_;  // the oldest first
  uint64_t refused_ = 0;
  bool closing_ = false;
  std::move_only_function<void() noexcept> done_;
  io::OpOf<Listener, &Listener::on_closed_step> closed_op_{*this};
};

}  // namespace holdfast::rpc
