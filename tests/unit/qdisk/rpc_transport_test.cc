#include "qdisk/rpc_transport.h"

#include <gmock/gmock.h>

#include "tests/sim/sim_network.h"
#include "tests/unit/rpc/certificates.h"

namespace holdfast::qdisk {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr io::Duration kNetDead = 2s;

io::Endpoint endpoint(const std::string& text) { return io::Endpoint::parse(text).value(); }
std::string address(size_t network, size_t node) {
  return "10." + std::to_string(3 + network) + ".0." + std::to_string(node + 1);
}

// Certificates cost more than what is tested with them.
const rpc::TestCa& authority() {
  static const rpc::TestCa ca;
  return ca;
}

// hv1, hv2, ... on two networks.
struct Host final : Transport::Receiver {
  Host(sim::SimWorld& world, sim::SimFabric& fabric, NodeId id, size_t count,
       const std::string& proves)
      : loop(world.make_process("hv" + std::to_string(id + 1)).make_loop()),
        network(fabric, loop),
        identity(rpc::make_context(authority(), proves)),
        random(id + 1) {
    RpcTransport::Options options{.self = id, .net_dead = kNetDead};
    for (NodeId node = 0; node < count; ++node) {
      options.nodes.push_back({.id = node,
                               .name = "hv" + std::to_string(node + 1),
                               .addresses = {endpoint(address(0, node) + ":7790"),
                                             endpoint(address(1, node) + ":7790")}});
    }
    transport = std::make_unique<RpcTransport>(
        RpcTransport::Services{
            .loop = loop, .network = network, .random = random, .identity = identity},
        std::move(options));
  }
  void on_heartbeat(size_t net, const Heartbeat& heartbeat) override {
    EXPECT_FALSE(sending) << "from inside a send";
    heartbeats[net].push_back(heartbeat);
  }
  void on_request(const Request& request) override { requests.push_back(request); }
  void on_reply(NodeId from, const Reply& reply) override { replies.emplace_back(from, reply); }

  void broadcast(uint64_t sequence, NodeId as) {
    sending = true;
    transport->broadcast({.node = as, .incarnation = 1, .sequence = sequence});
    sending = false;
  }
  size_t up() const {
    return static_cast<size_t>(
        std::ranges::count(transport->links(), true, &RpcTransport::LinkStatus::up));
  }

  sim::SimLoop& loop;
  sim::SimNetwork network;
  rpc::TlsIdentity identity;
  base::SeededRandom random;
  std::unique_ptr<RpcTransport> transport;
  std::vector<Heartbeat> heartbeats[kMaxNetworks];
  std::vector<Request> requests;
  std::vector<std::pair<NodeId, Reply>> replies;
  bool sending = false;
};

class RpcTransportTest : public testing::Test {
 protected:
  ~RpcTransportTest() override {
    for (const auto& host : hosts) close(*host);
  }
  Host& add(size_t count, const std::string& proves = "") {
    const auto id = static_cast<NodeId>(hosts.size());
    const std::string name = proves.empty() ? "hv" + std::to_string(id + 1) : proves;
    hosts.push_back(std::make_unique<Host>(world, fabric, id, count, name));
    Host& made = *hosts.back();
    made.transport->set_receiver(&made);
    run(made, [&] { EXPECT_TRUE(made.transport->start().has_value()); });
    return made;
  }
  void two() {
    add(2);
    add(2);
    ASSERT_TRUE(until([&] { return a().up() == 2 && b().up() == 2; }));
  }
  // On the host's loop.
  void run(Host& host, const std::function<void()>& what) {
    bool done = false;
    host.loop.post([&]() noexcept {
      what();
      done = true;
    });
    ASSERT_TRUE(until([&] { return done; }));
  }
  void close(Host& host) {
    if (host.transport == nullptr) return;
    bool closed = false;
    run(host, [&] { host.transport->close([&]() noexcept { closed = true; }); });
    EXPECT_TRUE(until([&] { return closed; }));
    host.transport.reset();
  }
  void ask(Host& from, NodeId to) {
    run(from, [&] {
      from.transport->send(
          to, Request{.from = a().transport ? NodeId{0} : NodeId{1}, .incarnation = 1});
    });
  }
  bool until(const std::function<bool()>& condition, io::Duration within = 20s) {
    return world.run_until(condition, within);
  }
  Host& a() { return *hosts[0]; }
  Host& b() { return *hosts[1]; }

  sim::SimWorld world{7};
  sim::SimFabric fabric{world, {}};
  std::vector<std::unique_ptr<Host>> hosts;
};

TEST_F(RpcTransportTest, AHeartbeatGoesToAllOverEveryNetwork) {
  for (int i = 0; i < 3; ++i) add(3);
  ASSERT_TRUE(until([&] { return a().up() == 4; }));
  run(a(), [&] { a().broadcast(5, 0); });
  for (size_t host = 1; host < 3; ++host) {
    for (size_t network = 0; network < kMaxNetworks; ++network) {
      const auto& got = hosts[host]->heartbeats[network];
      ASSERT_TRUE(until([&] { return got.size() == 1; }));
      EXPECT_EQ(got[0].sequence, 5U);
    }
  }
  EXPECT_EQ(a().transport->counters().dropped_heartbeats, 0U);
}

TEST_F(RpcTransportTest, RequestsAndRepliesArriveOnce) {
  two();
  run(a(), [&] {
    a().transport->send(1, Request{.from = 0, .incarnation = 3});
    a().transport->send(1, Reply{.incarnation = 4});
    a().transport->send(1, Request{.from = 0, .incarnation = 5});
  });
  ASSERT_TRUE(until([&] { return b().requests.size() == 2 && b().replies.size() == 1; }));
  EXPECT_EQ(b().replies[0].first, 0);
  EXPECT_EQ(b().replies[0].second.incarnation, 4U);
  world.run_for(5s);
  EXPECT_EQ(b().requests.size(), 2U);
}

TEST_F(RpcTransportTest, WhatCannotBeSentIsDroppedAndCounted) {
  add(2);
  run(a(), [&] {
    a().broadcast(1, 0);
    a().transport->send(1, Request{.from = 0, .incarnation = 1});
    a().transport->send(63, Request{.from = 0, .incarnation = 1});
  });
  EXPECT_EQ(a().transport->counters().dropped_heartbeats, 2U);
  EXPECT_EQ(a().transport->counters().dropped_messages, 2U);
  ASSERT_TRUE(until([&] { return !a().transport->links()[0].why.empty(); }));
  for (const auto& link : a().transport->links()) EXPECT_FALSE(link.up);
}

TEST_F(RpcTransportTest, OverTheOtherNetworkGoesOnWhatOneHasLost) {
  two();
  for (const char* host : {"10.3.0.1", "10.3.0.2"}) fabric.isolate(host);
  for (int i = 0; i < 60; ++i) {
    run(a(), [&] { a().broadcast(static_cast<uint64_t>(i), 0); });
    run(b(), [&] { b().broadcast(static_cast<uint64_t>(i), 1); });
    world.run_for(100ms);
  }
  ASSERT_TRUE(until([&] { return a().up() == 1; }));
  EXPECT_FALSE(a().transport->links()[0].up);
  EXPECT_EQ(b().heartbeats[1].size(), 60U);
  const uint64_t dropped = a().transport->counters().dropped_messages;
  for (uint32_t i = 1; i <= 10; ++i) {
    run(a(), [&] { a().transport->send(1, Request{.from = 0, .incarnation = i}); });
  }
  ASSERT_TRUE(until([&] { return b().requests.size() == 10; }));
  EXPECT_EQ(a().transport->counters().dropped_messages, dropped);
  world.run_for(60s);
  fabric.heal_all();
  EXPECT_TRUE(until([&] { return a().up() == 2 && b().up() == 2; }, kNetDead))
      << "who is back is used before it would be given up";
}

TEST_F(RpcTransportTest, ANetworkThatOnlySeemsToBeUpDoesNotTakeAll) {
  two();
  fabric.block("10.3.0.1", "10.3.0.2");
  for (uint32_t i = 1; i <= 10; ++i) {
    run(a(), [&] { a().transport->send(1, Request{.from = 0, .incarnation = i}); });
  }
  world.run_for(500ms);
  EXPECT_EQ(b().requests.size(), 5U);
  EXPECT_EQ(a().up(), 2U);
}

TEST_F(RpcTransportTest, WhereNobodyListensItIsDropped) {
  two();
  run(b(), [&] { b().transport->set_receiver(nullptr); });
  run(a(), [&] { a().broadcast(1, 0); });
  world.run_for(500ms);
  EXPECT_TRUE(b().heartbeats[0].empty());
}

// What the kernel has taken comes, and nothing of what was said while it took no more.
TEST_F(RpcTransportTest, AHeartbeatNeverWaitsBehindAnEarlierOne) {
  two();
  fabric.block("10.3.0.1", "10.3.0.2");
  constexpr int kMany = 4000;
  run(a(), [&] {
    for (int i = 0; i < kMany; ++i) a().broadcast(static_cast<uint64_t>(i), 0);
  });
  world.run_for(500ms);
  run(a(), [&] {
    for (int i = 0; i < kMany; ++i) a().broadcast(static_cast<uint64_t>(kMany + i), 0);
  });
  fabric.heal_all();
  world.run_for(1s);
  EXPECT_EQ(b().heartbeats[0].size(), 2U);
}

TEST_F(RpcTransportTest, ASilentConnectionIsReplacedAndNoOther) {
  two();
  size_t fewest = 4;
  const auto look = [&] {
    fewest = std::min(fewest, a().up() + b().up());
    return false;
  };
  for (int i = 0; i < 30; ++i) {
    for (NodeId id = 0; id < 2; ++id) run(*hosts[id], [&] { hosts[id]->broadcast(1, id); });
    until(look, kNetDead / 10);
  }
  EXPECT_EQ(fewest, 4U);
  until(look, 2 * kNetDead);
  EXPECT_LT(fewest, 4U);
  EXPECT_TRUE(until([&] { return a().up() + b().up() == 4; }, kNetDead));
}

TEST_F(RpcTransportTest, NobodySpeaksInTheNameOfAnother) {
  two();
  run(a(), [&] {
    a().broadcast(1, 1);
    a().transport->send(1, Request{.from = 1, .incarnation = 1});
  });
  ASSERT_TRUE(until([&] { return b().transport->counters().wrong_sender == 3; }));
  EXPECT_TRUE(b().heartbeats[0].empty() && b().heartbeats[1].empty() && b().requests.empty());
}

TEST_F(RpcTransportTest, WhoIsNoNodeOfTheClusterIsNotLetIn) {
  add(2);
  add(2, "hv9");
  world.run_for(10s);
  EXPECT_EQ(a().up(), 0U) << "it proves another name than hv2";
  EXPECT_EQ(b().up(), 0U) << "and is not admitted";
}

TEST_F(RpcTransportTest, ItClosesInEveryState) {
  two();
  fabric.isolate("10.4.0.2");
  run(a(), [&] {
    for (int i = 0; i < 100; ++i) a().transport->send(1, Reply{.incarnation = 4});
  });
  close(a());
  EXPECT_TRUE(b().replies.size() <= 100U);
  const size_t got = b().replies.size();
  world.run_for(5s);
  EXPECT_GE(b().replies.size(), got);
}

}  // namespace
}  // namespace holdfast::qdisk
