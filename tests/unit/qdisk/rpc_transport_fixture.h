#pragma once
// Nodes of a cluster on the simulated network, each with its transport over two networks.

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "qdisk/rpc_transport.h"
#include "tests/sim/sim_network.h"
#include "tests/unit/rpc/certificates.h"

namespace holdfast::qdisk {

using namespace std::chrono_literals;

inline constexpr NodeId kIds[] = {2, 5, 9};
inline constexpr size_t kNetworks = 2;
inline constexpr io::Duration kNetDead = 10s;

inline io::Endpoint address_of(size_t node, size_t network, uint16_t port = 7000) {
  return io::Endpoint::parse(fmt::format("10.{}.0.{}:{}", network + 1, node + 1, port)).value();
}

// hv1, hv2, hv3, as kIds numbers them.
inline std::vector<RpcTransport::Node> make_nodes(size_t count) {
  std::vector<RpcTransport::Node> nodes;
  for (size_t i = 0; i < count; ++i) {
    nodes.push_back({.id = kIds[i],
                     .name = fmt::format("hv{}", i + 1),
                     .addresses = {address_of(i, 0), address_of(i, 1)}});
  }
  return nodes;
}

// Certificates cost more than what is tested with them.
struct TestIdentities {
  rpc::TestCa ca;
  std::vector<std::shared_ptr<const rpc::TlsContext>> contexts = {
      rpc::make_context(ca, "hv1"), rpc::make_context(ca, "hv2"), rpc::make_context(ca, "hv3")};
  static const TestIdentities& get() {
    static const TestIdentities identities;
    return identities;
  }
};

class Ears final : public Transport::Receiver {
 public:
  struct Heard {
    size_t network = 0;
    Heartbeat heartbeat;
  };
  struct Answer {
    NodeId from = kNoNode;
    Reply reply;
  };
  struct Word {
    NodeId from = kNoNode;
    ConfigMessage message;
  };
  void on_heartbeat(size_t network, const Heartbeat& heartbeat) override {
    order += 'h';
    heartbeats.push_back({network, heartbeat});
    if (then) then();
  }
  void on_request(const Request& request) override {
    order += 'q';
    requests.push_back(request);
  }
  void on_reply(NodeId from, const Reply& reply) override {
    order += 'r';
    replies.push_back({from, reply});
  }
  void on_config(NodeId from, const ConfigMessage& message) override {
    order += 'c';
    configs.push_back({from, message});
  }
  size_t heard_over(size_t network) const {
    return static_cast<size_t>(std::ranges::count(heartbeats, network, &Heard::network));
  }
  size_t all() const {
    return heartbeats.size() + requests.size() + replies.size() + configs.size();
  }

  std::string order;
  std::vector<Heard> heartbeats;
  std::vector<Request> requests;
  std::vector<Answer> replies;
  std::vector<Word> configs;
  std::function<void()> then;
};

inline Heartbeat heartbeat_of(NodeId node, uint64_t sequence) {
  return {.node = node, .state = NodeState::member, .incarnation = 7, .sequence = sequence};
}
inline Request request_of(NodeId node, Incarnation incarnation = 7) {
  return {.sent_at = io::Instant(5s), .from = node, .incarnation = incarnation};
}
inline Reply reply_to(Incarnation incarnation) {
  return {.sent_at = io::Instant(5s), .incarnation = incarnation};
}

class TransportTest : public ::testing::Test {
 protected:
  struct Host {
    Host(TransportTest& test, size_t index, RpcTransport::Options options)
        : process(test.world.make_process(fmt::format("hv{}", index + 1))),
          network(test.fabric, loop),
          identity(TestIdentities::get().contexts[index]),
          transport(std::make_unique<RpcTransport>(
              RpcTransport::Services{loop, network, test.random, identity}, std::move(options))) {
      transport->set_receiver(&ears);
    }
    void close() {
      if (std::exchange(closing, true)) return;
      transport->close([this]() noexcept { transport.reset(); });
    }
    // The power of its host is gone.
    void kill() {
      closing = true;
      process.kill(true);
      sim::SimProcess::bury(std::shared_ptr<RpcTransport>(std::move(transport)));
    }
    bool all_up() const {
      return std::ranges::all_of(transport->links(), &RpcTransport::LinkStatus::up);
    }
    const RpcTransport::Counters& counters() const { return transport->counters(); }

    sim::SimProcess& process;
    sim::SimLoop& loop = process.make_loop();
    sim::SimNetwork network;
    rpc::TlsIdentity identity;
    Ears ears;
    std::unique_ptr<RpcTransport> transport;
    bool closing = false;
  };

  explicit TransportTest(const sim::FabricOptions& options = {}) : fabric(world, options) {}
  ~TransportTest() override {
    for (const auto& host : hosts) host->close();
    EXPECT_TRUE(until([&] {
      return std::ranges::all_of(hosts,
                                 [](const auto& each) { return each->transport == nullptr; });
    }));
    world.run_for(1s);
    for (const auto& host : hosts) EXPECT_EQ(fabric.sockets_of(host->process), 0u);
  }

  bool until(const std::function<bool()>& condition, io::Duration within = 30s) {
    return world.run_until(condition, within);
  }
  RpcTransport::Options options_of(size_t index, size_t count) const {
    return {.self = kIds[index], .nodes = make_nodes(count), .net_dead = kNetDead};
  }
  Host& add(size_t index, RpcTransport::Options options) {
    hosts.push_back(std::make_unique<Host>(*this, index, std::move(options)));
    return *hosts.back();
  }
  Host& start(size_t index, RpcTransport::Options options) {
    Host& host = add(index, std::move(options));
    EXPECT_TRUE(host.transport->start());
    return host;
  }
  void start_all(size_t count) {
    for (size_t i = 0; i < count; ++i) start(i, options_of(i, count));
    ASSERT_TRUE(until([&] {
      return std::ranges::all_of(hosts, [](const auto& each) { return each->all_up(); });
    }));
  }
  // Each node that lives says so once a second, as daemons do.
  void beat(io::Duration duration) {
    for (io::Duration gone{}; gone < duration; gone += 1s) {
      for (size_t i = 0; i < hosts.size(); ++i) {
        if (hosts[i]->closing) continue;
        hosts[i]->transport->broadcast(heartbeat_of(kIds[i], ++sequence));
      }
      world.run_for(1s);
    }
  }

  sim::SimWorld world{7};
  sim::SimFabric fabric;
  base::SeededRandom random{3};
  uint64_t sequence = 0;
  std::vector<std::unique_ptr<Host>> hosts;
};

}  // namespace holdfast::qdisk
