#include "qdisk/rpc_transport.h"

#include "tests/unit/io/loop_fixture.h"
#include "tests/unit/qdisk/layout_samples.h"
#include "tests/unit/qdisk/rpc_transport_fixture.h"
#include "tests/unit/rpc/peer_fixture.h"

namespace holdfast::qdisk {
namespace {

using ::testing::HasSubstr;

TEST_F(TransportTest, HeartbeatsComeFromEachNodeOverEachNetwork) {
  start_all(3);
  Heartbeat sent = sample_heartbeat();
  sent.node = kIds[0];
  hosts[0]->transport->broadcast(sent);
  EXPECT_EQ(hosts[1]->ears.all(), 0u) << "called back from inside a call";
  world.run_for(1s);
  EXPECT_EQ(hosts[0]->ears.all(), 0u);
  for (size_t node : {1u, 2u}) {
    const Ears& ears = hosts[node]->ears;
    EXPECT_EQ(ears.all(), kNetworks);
    for (size_t network = 0; network < kNetworks; ++network) {
      EXPECT_EQ(ears.heard_over(network), 1u);
    }
    for (const Ears::Heard& heard : ears.heartbeats) EXPECT_EQ(heard.heartbeat, sent);
  }
  // The one network of the two that is cut is the one that is not heard.
  fabric.isolate("10.2.0.1");
  hosts[0]->transport->broadcast(sent);
  world.run_for(1s);
  EXPECT_EQ(hosts[1]->ears.heard_over(0), 2u);
  EXPECT_EQ(hosts[1]->ears.heard_over(1), 1u);
  EXPECT_EQ(hosts[0]->counters().dropped_heartbeats, 0u);
}

TEST_F(TransportTest, ARequestAndItsReplyComeOnceAndOnlyToWhomTheyAreFor) {
  start_all(3);
  Request request = request_of(kIds[0]);
  request.decided = sample_decision();
  request.store = sample_ballot();
  hosts[0]->transport->send(kIds[1], request);
  EXPECT_EQ(hosts[1]->ears.all(), 0u) << "called back from inside a call";
  world.run_for(1s);
  ASSERT_EQ(hosts[1]->ears.requests.size(), 1u);
  EXPECT_EQ(hosts[1]->ears.requests[0], request);
  Reply reply = reply_to(7);
  reply.blocks.push_back({2, sample_ballot()});
  hosts[1]->transport->send(kIds[0], reply);
  world.run_for(1s);
  ASSERT_EQ(hosts[0]->ears.replies.size(), 1u);
  EXPECT_EQ(hosts[0]->ears.replies[0].from, kIds[1]);
  EXPECT_EQ(hosts[0]->ears.replies[0].reply, reply);
  EXPECT_EQ(hosts[0]->ears.all() + hosts[1]->ears.all() + hosts[2]->ears.all(), 2u);
  EXPECT_EQ(hosts[0]->counters().dropped_messages, 0u);
}

TEST_F(TransportTest, APartOfTheConfigurationComesFromWhoHasAuthenticatedItself) {
  start_all(3);
  const ConfigMessage part = ConfigChunk{.tag = {.version = 3, .digest = sample_digest(1)},
                                         .length = kMaxDocumentBytes,
                                         .offset = kMaxChunkBytes,
                                         .bytes = std::string(kMaxChunkBytes, 'x')};
  hosts[2]->transport->send(kIds[1], part);
  EXPECT_EQ(hosts[1]->ears.all(), 0u) << "called back from inside a call";
  world.run_for(1s);
  ASSERT_EQ(hosts[1]->ears.configs.size(), 1u);
  EXPECT_EQ(hosts[1]->ears.configs[0].from, kIds[2]);
  EXPECT_EQ(hosts[1]->ears.configs[0].message, part);
  EXPECT_EQ(hosts[0]->ears.all() + hosts[1]->ears.all() + hosts[2]->ears.all(), 1u);
}

TEST_F(TransportTest, RequestsTakeTheNetworksInTurn) {
  start_all(2);
  fabric.isolate("10.1.0.2");
  for (Incarnation i = 1; i <= 10; ++i) hosts[0]->transport->send(kIds[1], request_of(kIds[0], i));
  world.run_for(1s);
  // Every second one; the others wait in a kernel.
  ASSERT_EQ(hosts[1]->ears.requests.size(), 5u);
  for (size_t i = 1; i < 5; ++i) {
    EXPECT_EQ(hosts[1]->ears.requests[i].incarnation,
              hosts[1]->ears.requests[i - 1].incarnation + 2);
  }
}

TEST_F(TransportTest, WhatIsSentBeforeAnyoneIsThereIsDroppedAndCounted) {
  Host& one = start(0, options_of(0, 3));
  one.transport->broadcast(heartbeat_of(kIds[0], 1));
  EXPECT_EQ(one.counters().dropped_heartbeats, 2 * kNetworks);
  one.transport->send(kIds[1], request_of(kIds[0]));
  one.transport->send(kIds[2], reply_to(7));
  EXPECT_EQ(one.counters().dropped_messages, 2u);
  const std::vector<RpcTransport::LinkStatus> links = one.transport->links();
  ASSERT_EQ(links.size(), 2 * kNetworks);
  for (size_t i = 0; i < links.size(); ++i) {
    EXPECT_EQ(links[i].node, kIds[1 + i / kNetworks]);
    EXPECT_EQ(links[i].network, i % kNetworks);
    EXPECT_FALSE(links[i].up);
    EXPECT_EQ(links[i].why, "not connected yet");
  }
  start(1, options_of(1, 3));
  ASSERT_TRUE(until([&] { return one.transport->links()[0].up && one.transport->links()[1].up; }));
  world.run_for(5s);
  EXPECT_EQ(hosts[1]->ears.all(), 0u) << "kept, and sent when the node came";
}

TEST_F(TransportTest, ToNobodyAndToThisNodeNothingIsSent) {
  start_all(2);
  RpcTransport& transport = *hosts[0]->transport;
  uint64_t dropped = 0;
  for (const NodeId to : {kIds[0], kIds[2], static_cast<NodeId>(kMaxNodes), kNoNode}) {
    transport.send(to, request_of(kIds[0]));
    transport.send(to, reply_to(7));
    EXPECT_EQ(transport.counters().dropped_messages, dropped += 2);
  }
  world.run_for(1s);
  EXPECT_EQ(hosts[0]->ears.all() + hosts[1]->ears.all(), 0u);
}

TEST_F(TransportTest, WhileNobodyListensMessagesAreDropped) {
  start_all(2);
  hosts[1]->transport->set_receiver(nullptr);
  hosts[0]->transport->broadcast(heartbeat_of(kIds[0], 1));
  hosts[0]->transport->send(kIds[1], request_of(kIds[0]));
  hosts[0]->transport->send(kIds[1], reply_to(7));
  world.run_for(1s);
  hosts[1]->transport->set_receiver(&hosts[1]->ears);
  world.run_for(1s);
  EXPECT_EQ(hosts[1]->ears.all(), 0u);
  hosts[0]->transport->broadcast(heartbeat_of(kIds[0], 2));
  world.run_for(1s);
  EXPECT_EQ(hosts[1]->ears.all(), kNetworks);
}

// --- who sends

TEST_F(TransportTest, ANodeThatTheClusterDoesNotHaveIsNotLetIn) {
  Host& one = start(0, options_of(0, 2));
  Host& stranger = start(2, options_of(2, 3));
  world.run_for(5s);
  for (const RpcTransport::LinkStatus& link : stranger.transport->links()) {
    EXPECT_FALSE(link.up);
    if (link.node != kIds[0]) continue;
    EXPECT_EQ(link.why, "refused: the peer does not want this node");
  }
  stranger.transport->broadcast(heartbeat_of(kIds[2], 1));
  world.run_for(1s);
  EXPECT_EQ(one.ears.all(), 0u);
}

TEST_F(TransportTest, WhatIsSaidInAnothersNameIsDroppedAndCounted) {
  start_all(2);
  for (const NodeId other : {kIds[0], kIds[2]}) {
    hosts[1]->transport->broadcast(heartbeat_of(other, 1));
    hosts[1]->transport->send(kIds[0], request_of(other));
    world.run_for(1s);
  }
  EXPECT_EQ(hosts[0]->counters().wrong_sender, 2 * (kNetworks + 1));
  EXPECT_EQ(hosts[0]->ears.all(), 0u);
  hosts[1]->transport->send(kIds[0], request_of(kIds[1]));
  hosts[1]->transport->broadcast(heartbeat_of(kIds[1], 2));
  world.run_for(1s);
  EXPECT_EQ(hosts[0]->ears.all(), kNetworks + 1);
}

// A node that was given another id than the others know it by.
TEST_F(TransportTest, ANodeThatTakesItselfForAnotherIsNotHeard) {
  Host& one = start(0, options_of(0, 2));
  RpcTransport::Options mistaken = options_of(1, 2);
  mistaken.self = mistaken.nodes[1].id = kIds[2];
  Host& two = start(1, mistaken);
  ASSERT_TRUE(until([&] { return one.all_up() && two.all_up(); }));
  two.transport->broadcast(heartbeat_of(kIds[2], 1));
  world.run_for(1s);
  EXPECT_EQ(one.counters().wrong_sender, kNetworks);
  EXPECT_EQ(one.ears.all(), 0u);
}

// Its certificate is right: two clusters of one name and CA, or times that were changed on one
// node.
TEST_F(TransportTest, ANodeOfAnotherClusterOrWithOtherTimesIsNotTakenForOne) {
  const Timers lan = timers_of(TimerProfile::lan_fast);
  const uint32_t ours = agreement_of(sample_uuid(1), lan);
  ASSERT_NE(ours, agreement_of(sample_uuid(2), lan));
  ASSERT_NE(ours, agreement_of(sample_uuid(1), timers_of(TimerProfile::standard)));
  for (size_t i = 0; i < 3; ++i) {
    RpcTransport::Options options = options_of(i, 3);
    options.agreement = i < 2 ? ours : agreement_of(sample_uuid(2), lan);
    start(i, options);
  }
  ASSERT_TRUE(until([&] { return hosts[0]->all_up() && hosts[2]->all_up(); }));
  const auto say = [&] {
    for (size_t from : {1u, 2u}) {
      hosts[from]->transport->send(kIds[0], request_of(kIds[from]));
      hosts[from]->transport->send(kIds[0], reply_to(7));
    }
    world.run_for(1s);
  };
  say();
  EXPECT_EQ(hosts[0]->ears.all(), 0u) << "who they are is not known yet";
  beat(1s);
  EXPECT_EQ(hosts[0]->ears.all(), kNetworks) << "of hv2, over each network";
  say();
  EXPECT_EQ(hosts[0]->ears.requests.size() + hosts[0]->ears.replies.size(), 2u);
  EXPECT_EQ(hosts[0]->ears.requests[0].from, kIds[1]);
  EXPECT_EQ(hosts[2]->ears.all(), 0u);
  for (const RpcTransport::LinkStatus& link : hosts[0]->transport->links()) {
    EXPECT_EQ(link.up, link.node == kIds[1]);
    EXPECT_EQ(link.why.contains("`cluster.uuid` or times"), link.node == kIds[2]);
  }
}

// hv2 is a program that says what the test wants, over the first network only.
class LyingNodeTest : public TransportTest {
 protected:
  LyingNodeTest() {
    one = &start(0, options_of(0, 2));
    listener = std::make_unique<rpc::TestListener>(loop, network, std::vector{address_of(1, 0)});
    listener->identity.replace(TestIdentities::get().contexts[1]);
    EXPECT_TRUE(listener->listener->start());
    connect();
  }
  ~LyingNodeTest() override {
    process.resume();
    if (peer->peer) peer->peer->begin_close();
    listener->close();
    EXPECT_TRUE(until([&] { return peer->peer == nullptr && listener->listener == nullptr; }));
  }
  void connect() {
    peer = std::make_unique<rpc::TestPeer>(loop, network, random, TestIdentities::get().contexts[1],
                                           "hv1", "10.1.0.2:0", address_of(0, 0).to_string());
    EXPECT_TRUE(until([&] { return peer->up() && listener->listener->nodes() == 1; }));
  }
  bool say(uint16_t type, std::string_view bytes) {
    return peer->peer->notify(type, base::as_bytes(bytes)).has_value();
  }
  bool say_heartbeat() { return say(1, encode(heartbeat_of(kIds[1], ++sequence))); }
  size_t downs() const {
    return static_cast<size_t>(std::ranges::count(listener->events, std::string("down hv1")));
  }

  sim::SimProcess& process = world.make_process("liar");
  sim::SimLoop& loop = process.make_loop();
  sim::SimNetwork network{fabric, loop};
  Host* one = nullptr;
  std::unique_ptr<rpc::TestListener> listener;
  std::unique_ptr<rpc::TestPeer> peer;
};

TEST_F(LyingNodeTest, WhatCannotBeReadIsDroppedAndCounted) {
  uint64_t refused = 0;
  for (const uint16_t type : std::initializer_list<uint16_t>{1, 2, 3, 4, 0, 5, 65535}) {
    ASSERT_TRUE(say(type, "\xff no message of ours"));
    world.run_for(1s);
    EXPECT_EQ(one->counters().refused_messages, ++refused) << type;
  }
  EXPECT_EQ(one->ears.all(), 0u);
  ASSERT_TRUE(say_heartbeat());
  world.run_for(1s);
  EXPECT_EQ(one->ears.heard_over(0), 1u);
  EXPECT_EQ(one->counters().wrong_sender, 0u);
}

TEST_F(LyingNodeTest, CallsAndWhatComesTheWrongWayAreRefused) {
  rpc::CallRecord there, back;
  const std::string heartbeat = encode(heartbeat_of(kIds[1], 1));
  ASSERT_TRUE(peer->call(there, 1, heartbeat));
  ASSERT_TRUE(listener->last->call(1, base::as_bytes(std::string_view(heartbeat)), {.deadline = 1s},
                                   back.done()));
  ASSERT_TRUE(listener->last->notify(1, base::as_bytes(std::string_view(heartbeat))));
  world.run_for(2s);
  EXPECT_EQ(there.outcome, rpc::CallOutcome::refused);
  EXPECT_EQ(back.outcome, rpc::CallOutcome::refused);
  EXPECT_EQ(there.ends + back.ends, 2);
  EXPECT_EQ(one->counters().refused_messages, 3u);
  EXPECT_EQ(one->ears.all(), 0u);
}

// --- silence

TEST_F(LyingNodeTest, ANodeThatIsSilentForNetDeadIsConnectedAnew) {
  ASSERT_TRUE(say_heartbeat());
  const io::Duration began = world.now();
  ASSERT_TRUE(until([&] { return downs() == 1; }));
  EXPECT_GE(world.now() - began, kNetDead);
  EXPECT_LE(world.now() - began, kNetDead + kNetDead / 3);
  EXPECT_EQ(listener->last_end.kind, rpc::EndKind::peer_closed);
  ASSERT_TRUE(until([&] { return listener->listener->nodes() == 1; }));
  // And no more than once in that time.
  world.run_for(10 * kNetDead);
  EXPECT_GE(downs(), 7u);
  EXPECT_LE(downs(), 11u);
}

TEST_F(LyingNodeTest, WhoIsHeardOrHasNoConnectionHereIsNotDropped) {
  for (int i = 0; i < 60; ++i) {
    EXPECT_TRUE(say_heartbeat());
    world.run_for(1s);
  }
  EXPECT_EQ(downs(), 0u);
  // It knows that its own connection has ended, and makes another when it can.
  peer->peer->begin_close();
  world.run_for(60s);
  EXPECT_EQ(downs(), 0u);
  EXPECT_TRUE(one->transport->links()[0].up);
  // From then on it is waited for as long as for any other.
  connect();
  world.run_for(kNetDead / 2);
  EXPECT_EQ(downs(), 0u);
}

TEST_F(LyingNodeTest, AfterAStandstillWhatCameMeanwhileIsReadFirst) {
  ASSERT_TRUE(say_heartbeat());
  world.run_for(1s);
  one->process.pause();
  for (int i = 0; i < 30; ++i) {
    EXPECT_TRUE(say_heartbeat());
    world.run_for(1s);
  }
  one->process.resume();
  ASSERT_TRUE(say_heartbeat());
  world.run_for(5s);
  EXPECT_EQ(one->ears.heard_over(0), 32u);
  EXPECT_EQ(downs(), 0u);
}

// --- options

TEST_F(TransportTest, OptionsThatMakeNoClusterAreRefused) {
  using Change = std::function<void(RpcTransport::Options&)>;
  const std::pair<const char*, Change> changes[] = {
      {"this node is not among", [](auto& options) { options.self = 3; }},
      {"net_dead", [](auto& options) { options.net_dead = {}; }},
      {"too few or too many", [](auto& options) { options.nodes[0].addresses.clear(); }},
      {"too few or too many",
       [](auto& options) {
         for (auto& node : options.nodes) node.addresses.push_back(node.addresses[0]);
       }},
      {"one address", [](auto& options) { options.nodes[1].addresses.pop_back(); }},
      {"id of a node", [](auto& options) { options.nodes[1].id = kMaxNodes; }},
      {"id of a node", [](auto& options) { options.nodes[1].id = kIds[0]; }},
      {"name of a node", [](auto& options) { options.nodes[1].name = options.nodes[0].name; }},
      {"name of a node", [](auto& options) { options.nodes[1].name = "hv 2"; }},
  };
  for (const auto& [what, change] : changes) {
    RpcTransport::Options options = options_of(0, 2);
    change(options);
    const base::Result<> started = add(0, options).transport->start();
    ASSERT_FALSE(started.has_value()) << what;
    EXPECT_EQ(started.error().code, base::Errc::invalid_argument);
    EXPECT_THAT(started.error().what, HasSubstr(what));
  }
  // Each is closed by the fixture, which waits for the end of it.
}

TEST_F(TransportTest, AnAddressThatIsTakenIsAnError) {
  Host& one = start(0, options_of(0, 2));
  Host& again = add(0, [&] {
    RpcTransport::Options options = options_of(0, 2);
    options.nodes[0].addresses[0] = address_of(0, 0, 7001);
    return options;
  }());
  const base::Result<> started = again.transport->start();
  ASSERT_FALSE(started.has_value());
  EXPECT_EQ(started.error().sys, EADDRINUSE);
  again.close();
  EXPECT_NE(again.transport, nullptr) << "called back from inside a call";
  ASSERT_TRUE(until([&] { return again.transport == nullptr; }));
  EXPECT_EQ(one.transport->links().size(), kNetworks);
}

// On the real loop: nothing here holds in the simulator only.
class UringTransportTest : public io::LoopTest {
 protected:
  struct Side {
    rpc::TlsIdentity identity;
    Ears ears;
    std::unique_ptr<RpcTransport> transport;
  };
  void SetUp() override {
    open();
    std::vector<RpcTransport::Node> nodes = make_nodes(2);
    for (RpcTransport::Node& node : nodes) {
      for (size_t network = 0; network < kNetworks; ++network) {
        // A port that was free a moment ago.
        const auto any = io::Endpoint::parse(fmt::format("127.0.0.{}:0", network + 1)).value();
        const io::Socket probe = loop().listen(any).value();
        node.addresses[network] = loop().local_endpoint(probe);
        loop().close(probe, false);
      }
    }
    for (size_t i = 0; i < 2; ++i) {
      sides_[i].transport = std::make_unique<RpcTransport>(
          RpcTransport::Services{loop(), loop(), random_, sides_[i].identity},
          RpcTransport::Options{.self = kIds[i], .nodes = nodes, .net_dead = kNetDead});
      sides_[i].transport->set_receiver(&sides_[i].ears);
    }
  }
  void on_watch() noexcept {
    if (step_ == 0 && links_up()) {
      ++step_;
      sides_[0].transport->broadcast(heartbeat_of(kIds[0], 1));
      sides_[0].transport->send(kIds[1], request_of(kIds[0]));
      sides_[1].transport->send(kIds[0], reply_to(7));
    } else if (step_ == 1 && sides_[1].ears.all() == 3 && sides_[0].ears.all() == 1) {
      ++step_;
      for (Side& side : sides_) side.transport->close([&]() noexcept { side.transport.reset(); });
    } else if (step_ == 2 && !sides_[0].transport && !sides_[1].transport) {
      return finish();
    }
    loop().start(watch_, 1ms);
  }
  bool links_up() const {
    return std::ranges::all_of(sides_, [](const Side& side) {
      return std::ranges::all_of(side.transport->links(), &RpcTransport::LinkStatus::up);
    });
  }

  base::SystemRandom random_;
  int step_ = 0;
  Side sides_[2] = {{.identity = rpc::TlsIdentity(TestIdentities::get().contexts[0])},
                    {.identity = rpc::TlsIdentity(TestIdentities::get().contexts[1])}};
  io::TimerOf<UringTransportTest, &UringTransportTest::on_watch> watch_{*this};
};

TEST_F(UringTransportTest, TwoNodesOverTwoNetworks) {
  run([&] {
    for (Side& side : sides_) ASSERT_TRUE(side.transport->start());
    loop().start(watch_, 1ms);
  });
  EXPECT_EQ(sides_[1].ears.heard_over(0), 1u);
  EXPECT_EQ(sides_[1].ears.heard_over(1), 1u);
  EXPECT_EQ(sides_[1].ears.requests.size(), 1u);
  EXPECT_EQ(sides_[0].ears.replies.size(), 1u);
}

}  // namespace
}  // namespace holdfast::qdisk
