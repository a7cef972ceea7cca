#pragma once
// A listener of hv2 on the simulated network, and peers of other nodes that connect to it.

#include <algorithm>
#include <map>

#include "common/rpc/listener.h"
#include "common/rpc/peer.h"
#include "tests/unit/rpc/sim_fixture.h"

namespace holdfast::rpc {

class TestListener final : public ListenerEvents {
 public:
  TestListener(io::Loop& loop, io::Network& network,
               std::vector<io::Endpoint> addresses = {endpoint(kPort)})
      : identity(TestCluster::get().two),
        listener(
            std::make_unique<Listener>(Listener::Parts{loop, network, identity, handler, *this},
                                       Listener::Options{.addresses = std::move(addresses)})) {}

  bool admits(const std::string& node, bool replaces) noexcept override {
    asked.push_back(node + (replaces ? " again" : ""));
    return admit && (!replaces || admit_again);
  }
  void on_node_up(Link& link) noexcept override {
    events.push_back("up " + link.node());
    last = &link;
  }
  void on_node_down(Link& link, const ConnectionEnd& end) noexcept override {
    events.push_back("down " + link.node());
    last_end = end;
  }
  void close() {
    if (std::exchange(closing, true)) return;
    listener->close([this]() noexcept { listener.reset(); });
  }

  bool admit = true, admit_again = true, closing = false;
  std::vector<std::string> asked, events;
  Link* last = nullptr;
  ConnectionEnd last_end;
  TestHandler handler;
  TlsIdentity identity;
  std::unique_ptr<Listener> listener;
};

class TestPeer final : public PeerEvents {
 public:
  TestPeer(io::Loop& loop, io::Network& network, base::Random& random,
           std::shared_ptr<const TlsContext> context = TestCluster::get().one,
           const std::string& node = "hv2", const std::string& source = "10.1.0.1:0",
           const std::string& to = kPort, io::Duration backoff_max = kBackoffMax)
      : identity(std::move(context)),
        peer(std::make_unique<Peer>(Peer::Parts{loop, network, random, identity, handler, *this},
                                    Peer::Options{.node = node,
                                                  .address = endpoint(to),
                                                  .connect = {.source = endpoint(source)},
                                                  .backoff_max = backoff_max})) {
    peer->start();
  }
  void on_peer_up(Peer&) noexcept override { ++ups; }
  void on_peer_down(Peer&, const ConnectionEnd& end) noexcept override {
    ++downs;
    last_end = end;
  }
  void on_peer_closed(Peer&) noexcept override { peer.reset(); }
  bool up() const { return peer != nullptr && peer->up(); }
  base::Result<> call(CallRecord& record, uint16_t type, std::string_view text,
                      io::Duration deadline = 1s) const {
    return peer->call(type, base::as_bytes(text), {.deadline = deadline}, record.done());
  }

  int ups = 0, downs = 0;
  ConnectionEnd last_end;
  TestHandler handler;
  TlsIdentity identity;
  std::unique_ptr<Peer> peer;
};

class PeerTest : public SimTest {
 protected:
  explicit PeerTest(const sim::FabricOptions& options = {}) : SimTest(options) {}
  ~PeerTest() override {
    for (const auto& each : peers) {
      if (each->peer) each->peer->begin_close();
    }
    for (const auto& each : listeners) each->close();
    EXPECT_TRUE(until([&] {
      return std::ranges::all_of(peers, [](const auto& each) { return each->peer == nullptr; }) &&
             std::ranges::all_of(listeners,
                                 [](const auto& each) { return each->listener == nullptr; });
    }));
    world.run_for(1s);
    EXPECT_EQ(fabric.sockets_of(process_one) + fabric.sockets_of(process_two), 0u);
  }
  TestListener& listen() {
    listeners.push_back(std::make_unique<TestListener>(loop_two, net_two));
    EXPECT_TRUE(listeners.back()->listener->start().has_value());
    return *listeners.back();
  }
  template <class... Rest>
  TestPeer& connect(Rest&&... rest) {
    peers.push_back(
        std::make_unique<TestPeer>(loop_one, net_one, random, std::forward<Rest>(rest)...));
    return *peers.back();
  }

  base::SeededRandom random{3};
  std::vector<std::unique_ptr<TestListener>> listeners;
  std::vector<std::unique_ptr<TestPeer>> peers;
};

}  // namespace holdfast::rpc
