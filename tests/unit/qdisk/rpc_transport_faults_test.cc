// The transport when networks and nodes go wrong.

#include "qdisk/rpc_transport.h"
#include "tests/unit/qdisk/layout_samples.h"
#include "tests/unit/qdisk/rpc_transport_fixture.h"
#include "tests/unit/rpc/peer_fixture.h"

namespace holdfast::qdisk {
namespace {

using ::testing::HasSubstr;

// About 20 KiB.
Reply large_reply() {
  Reply reply = reply_to(7);
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    BallotBlock block = sample_ballot();
    block.mbal = (block.mbal & ~uint64_t{0xff}) | node;
    block.bal = (block.bal & ~uint64_t{0xff}) | node;
    reply.blocks.push_back({node, block});
  }
  return reply;
}

TEST_F(TransportTest, ANetworkWithoutAListenerIsNamedAndTheOtherIsUsed) {
  Host& one = start(0, options_of(0, 2));
  RpcTransport::Options elsewhere = options_of(1, 2);
  elsewhere.nodes[1].addresses[0] = address_of(1, 0, 7001);
  Host& two = start(1, elsewhere);
  ASSERT_TRUE(until([&] { return one.transport->links()[1].up && two.all_up(); }));
  world.run_for(5s);
  const RpcTransport::LinkStatus down = one.transport->links()[0];
  EXPECT_FALSE(down.up);
  EXPECT_THAT(down.why, HasSubstr("connect failed"));
  EXPECT_THAT(down.why, HasSubstr("Connection refused"));
  EXPECT_EQ(one.transport->links()[1].why, "");
  for (int i = 0; i < 10; ++i) one.transport->send(kIds[1], request_of(kIds[0]));
  one.transport->broadcast(heartbeat_of(kIds[0], 1));
  world.run_for(1s);
  EXPECT_EQ(two.ears.requests.size(), 10u);
  EXPECT_EQ(two.ears.heard_over(0), 0u);
  EXPECT_EQ(two.ears.heard_over(1), 1u);
  EXPECT_EQ(one.counters().dropped_messages, 0u);
  EXPECT_EQ(one.counters().dropped_heartbeats, 1u);
}

TEST_F(TransportTest, AHeartbeatDoesNotWaitBehindReplies) {
  start_all(2);
  for (int i = 0; i < 20; ++i) hosts[0]->transport->send(kIds[1], large_reply());
  hosts[0]->transport->broadcast(heartbeat_of(kIds[0], 1));
  ASSERT_TRUE(until([&] { return hosts[1]->ears.all() == 20 + kNetworks; }));
  const std::string& order = hosts[1]->ears.order;
  EXPECT_LE(order.rfind('h'), 4u) << order;
}

// hv2 answers over the first network from a program that has stopped, over the second from one that
// has not.
TEST_F(TransportTest, WhenTheQueueOfOneNetworkIsFullTheOtherTakesTheMessages) {
  Host& one = start(0, options_of(0, 2));
  std::vector<std::unique_ptr<rpc::TestListener>> listeners;
  std::vector<std::unique_ptr<sim::SimNetwork>> networks;
  std::vector<sim::SimProcess*> processes;
  for (size_t network = 0; network < kNetworks; ++network) {
    processes.push_back(&world.make_process(fmt::format("hv2-{}", network)));
    sim::SimLoop& loop = processes.back()->make_loop();
    networks.push_back(std::make_unique<sim::SimNetwork>(fabric, loop));
    listeners.push_back(std::make_unique<rpc::TestListener>(loop, *networks.back(),
                                                            std::vector{address_of(1, network)}));
    listeners.back()->identity.replace(TestIdentities::get().contexts[1]);
    ASSERT_TRUE(listeners.back()->listener->start());
  }
  ASSERT_TRUE(until([&] { return one.all_up(); }));
  processes[0]->pause();
  const Reply reply = large_reply();
  for (int i = 0; i < 300; ++i) {
    one.transport->send(kIds[1], reply);
    world.run_for(10ms);
  }
  EXPECT_TRUE(one.all_up());
  EXPECT_EQ(one.counters().dropped_messages, 0u);
  EXPECT_GT(listeners[1]->handler.notices.size(), 200u);
  // With nobody left to take them they are dropped.
  processes[1]->pause();
  for (int i = 0; i < 300; ++i) one.transport->send(kIds[1], reply);
  EXPECT_GT(one.counters().dropped_messages, 100u);
  for (size_t network = 0; network < kNetworks; ++network) {
    processes[network]->resume();
    listeners[network]->close();
  }
  EXPECT_TRUE(until([&] { return !listeners[0]->listener && !listeners[1]->listener; }));
}

// Both kernels take some heartbeats only.
class StuckTest : public TransportTest {
 protected:
  StuckTest() : TransportTest({.send_buffer = 4096, .receive_buffer = 4096, .max_segment = 1024}) {}
};

TEST_F(StuckTest, HeartbeatsDoNotPileUpForANodeThatStandsStill) {
  start_all(2);
  constexpr uint64_t kSent = 1000;
  hosts[1]->process.pause();
  for (uint64_t i = 1; i <= kSent; ++i) {
    hosts[0]->transport->broadcast(heartbeat_of(kIds[0], i));
    world.run_for(5ms);
  }
  const uint64_t dropped = hosts[0]->counters().dropped_heartbeats;
  hosts[1]->process.resume();
  world.run_for(1s);
  EXPECT_TRUE(hosts[0]->all_up());
  for (size_t network = 0; network < kNetworks; ++network) {
    // What the kernels had room for, what was being sent, and one that waited.
    EXPECT_LE(hosts[1]->ears.heard_over(network), 150u);
    EXPECT_GE(hosts[1]->ears.heard_over(network), 10u);
  }
  EXPECT_EQ(hosts[1]->ears.heartbeats.size() + dropped, kNetworks * kSent);
  hosts[0]->transport->broadcast(heartbeat_of(kIds[0], kSent + 1));
  world.run_for(1s);
  EXPECT_EQ(hosts[1]->ears.heartbeats.back().heartbeat.sequence, kSent + 1);
}

TEST_F(TransportTest, AConnectionThatTakesNothingForNetDeadEnds) {
  start_all(2);
  beat(2s);
  fabric.isolate("10.1.0.2");
  beat(kNetDead + 5s);
  EXPECT_FALSE(hosts[0]->transport->links()[0].up);
  EXPECT_NE(hosts[0]->transport->links()[0].why, "");
  EXPECT_TRUE(hosts[0]->transport->links()[1].up);
  // What was sent meanwhile has ended with it.
  const size_t before = hosts[1]->ears.heard_over(0);
  fabric.heal_all();
  ASSERT_TRUE(until([&] { return hosts[0]->all_up() && hosts[1]->all_up(); }));
  EXPECT_EQ(hosts[1]->ears.heard_over(0), before);
  beat(3s);
  EXPECT_EQ(hosts[1]->ears.heard_over(0), before + 3);
}

TEST_F(TransportTest, ANodeThatLostItsPowerComesBack) {
  start_all(2);
  beat(2s);
  hosts[1]->kill();
  beat(3s);
  Host& again = start(1, options_of(1, 2));
  const auto connected = [&] {
    hosts[0]->transport->broadcast(heartbeat_of(kIds[0], ++sequence));
    again.transport->broadcast(heartbeat_of(kIds[1], ++sequence));
    world.run_for(1s);
    return again.ears.heard_over(0) > 0 && again.ears.heard_over(1) > 0;
  };
  int seconds = 0;
  while (!connected() && seconds < 60) ++seconds;
  EXPECT_LE(seconds, 20);
  hosts[0]->ears.heartbeats.clear();
  again.transport->broadcast(heartbeat_of(kIds[1], ++sequence));
  world.run_for(1s);
  EXPECT_EQ(hosts[0]->ears.heartbeats.size(), kNetworks);
}

// Only one direction is cut: who is not heard any more makes its connection anew when it can.
TEST_F(TransportTest, ANetworkThatIsCutOneWayHealsBothWays) {
  start_all(2);
  beat(2s);
  fabric.block("10.1.0.1", "10.1.0.2");
  beat(3 * kNetDead);
  const size_t before = hosts[1]->ears.heard_over(0);
  fabric.heal_all();
  beat(10s);
  EXPECT_GT(hosts[1]->ears.heard_over(0), before);
  EXPECT_TRUE(hosts[0]->all_up() && hosts[1]->all_up());
}

// --- closing

TEST_F(TransportTest, ClosesInEveryState) {
  for (int step = 0; step < 60; ++step) {
    Host& one = start(0, options_of(0, 2));
    Host* const two = step % 3 == 0 ? nullptr : &start(1, options_of(1, 2));
    for (int i = 0; i < 8 * step; ++i) {
      world.step();
      one.transport->broadcast(heartbeat_of(kIds[0], 1));
      if (i % 16 == 0) one.transport->send(kIds[1], large_reply());
    }
    if (step % 5 == 0) fabric.reset_between("10.1.0.1", "10.1.0.2");
    one.close();
    EXPECT_NE(one.transport, nullptr) << "called back from inside a call";
    one.transport->broadcast(heartbeat_of(kIds[0], 1));
    if (two != nullptr) two->close();
    ASSERT_TRUE(until([&] { return !one.transport && (two == nullptr || !two->transport); }))
        << step;
    EXPECT_EQ(fabric.sockets_of(one.process), 0u);
  }
}

TEST_F(TransportTest, ClosesBeforeItsStart) {
  Host& one = add(0, options_of(0, 2));
  one.close();
  EXPECT_NE(one.transport, nullptr) << "called back from inside a call";
  ASSERT_TRUE(until([&] { return one.transport == nullptr; }));
}

TEST_F(TransportTest, NothingComesAfterClose) {
  start_all(3);
  for (size_t node : {0u, 2u}) {
    for (int i = 0; i < 10; ++i) hosts[node]->transport->send(kIds[1], request_of(kIds[node]));
    hosts[node]->transport->broadcast(heartbeat_of(kIds[node], 1));
  }
  // From inside a callback, with more to come in the same piece.
  size_t heard = 0;
  hosts[1]->ears.then = [&] {
    if (hosts[1]->closing) return;
    hosts[1]->close();
    heard = hosts[1]->ears.all();
  };
  ASSERT_TRUE(until([&] { return hosts[1]->closing; }));
  ASSERT_TRUE(until([&] { return hosts[1]->transport == nullptr; }));
  world.run_for(5s);
  EXPECT_EQ(hosts[1]->ears.all(), heard);
  EXPECT_LT(heard, 22u + 2);
  EXPECT_FALSE(hosts[0]->transport->links()[0].up);
}

}  // namespace
}  // namespace holdfast::qdisk
