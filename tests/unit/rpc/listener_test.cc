#include "common/rpc/listener.h"

#include "tests/unit/rpc/peer_fixture.h"

namespace holdfast::rpc {
namespace {

class ListenerTest : public PeerTest {
 protected:
  std::unique_ptr<RawSocket> raw(const std::string& source = "10.1.0.9:0") {
    auto socket = std::make_unique<RawSocket>(world, net_one);
    socket->connect(endpoint(kPort), source.c_str());
    return socket;
  }
};

TEST_F(ListenerTest, KnowsItsNodes) {
  TestListener& two = listen();
  connect(make_context(TestCluster::get().ca, "hv3"));
  connect(make_context(TestCluster::get().ca, "hv4"));
  ASSERT_TRUE(until([&] { return two.listener->nodes() == 2; }));
  EXPECT_NE(two.listener->find("hv3"), nullptr);
  EXPECT_EQ(two.listener->find("hv4")->node(), "hv4");
  EXPECT_EQ(two.listener->find("hv5"), nullptr);
  EXPECT_EQ(two.listener->handshakes(), 0u);
}

TEST_F(ListenerTest, ANewerConnectionOfANodeReplacesTheOlder) {
  TestListener& two = listen();
  TestPeer& first = connect();
  ASSERT_TRUE(until([&] { return first.up(); }));
  TestPeer& second = connect();
  ASSERT_TRUE(until([&] { return second.up(); }));
  EXPECT_EQ(two.asked, (std::vector<std::string>{"hv1", "hv1 again"}));
  EXPECT_EQ(two.events, (std::vector<std::string>{"up hv1", "down hv1", "up hv1"}));
  EXPECT_EQ(describe(two.last_end), "closed: a newer connection of the node replaces it");
  ASSERT_TRUE(until([&] { return first.downs == 1; }));
  EXPECT_EQ(first.last_end.kind, EndKind::peer_closed);
  first.peer->begin_close();
  world.run_for(1s);
  EXPECT_EQ(two.listener->nodes(), 1u);
}

TEST_F(ListenerTest, OrTheUserKeepsTheOlder) {
  TestListener& two = listen();
  two.admit_again = false;
  TestPeer& first = connect();
  ASSERT_TRUE(until([&] { return first.up(); }));
  TestPeer& second = connect();
  ASSERT_TRUE(until([&] { return second.peer->attempts() == 3; }));
  EXPECT_EQ(second.ups, 0);
  EXPECT_EQ(second.peer->last_end().kind, EndKind::refused);
  EXPECT_TRUE(first.up());
  EXPECT_GE(two.listener->refused(), 2u);
}

TEST_F(ListenerTest, ANodeThatIsNotWantedStaysOut) {
  TestListener& two = listen();
  two.admit = false;
  TestPeer& peer = connect();
  ASSERT_TRUE(until([&] { return peer.peer->attempts() == 2; }));
  EXPECT_EQ(peer.ups, 0);
  EXPECT_TRUE(two.events.empty());
}

TEST_F(ListenerTest, ClientsThatSayNothingAreBoundedByAddressAndByTime) {
  TestListener& two = listen();
  std::vector<std::unique_ptr<RawSocket>> silent;
  for (size_t i = 0; i < 3 * kMaxHandshakesPerAddress; ++i) silent.push_back(raw());
  world.run_for(100ms);
  EXPECT_EQ(two.listener->handshakes(), kMaxHandshakesPerAddress);
  EXPECT_EQ(two.listener->refused(), 2 * kMaxHandshakesPerAddress);
  // A node at another address is not kept out.
  TestPeer& peer = connect();
  ASSERT_TRUE(until([&] { return peer.up(); }, 1s));
  world.run_for(kHandshakeTimeout);
  EXPECT_EQ(two.listener->handshakes(), 0u);
  EXPECT_TRUE(peer.up());
}

TEST_F(ListenerTest, ClientsThatSayNothingFromEverywhereGiveWayToNodes) {
  TestListener& two = listen();
  std::vector<std::unique_ptr<RawSocket>> silent;
  for (size_t i = 0; i < kMaxHandshakes + 20; ++i) {
    silent.push_back(raw("10.1.1." + std::to_string(1 + i) + ":0"));
  }
  world.run_for(10ms);
  EXPECT_EQ(two.listener->handshakes(), kMaxHandshakes);
  TestPeer& peer = connect();
  ASSERT_TRUE(until([&] { return peer.up(); }, 1s));
  EXPECT_EQ(peer.peer->attempts(), 1u);
  EXPECT_EQ(two.listener->handshakes(), kMaxHandshakes - 1);
  EXPECT_LE(fabric.sockets_of(process_two), kMaxHandshakes + 5);
}

TEST_F(ListenerTest, AnAddressThatIsTakenIsAnErrorAndNothingIsListenedOn) {
  listen();
  TestListener second(loop_two, net_two, {endpoint("10.1.0.2:7001"), endpoint(kPort)});
  const base::Result<> started = second.listener->start();
  ASSERT_FALSE(started.has_value());
  EXPECT_EQ(started.error().sys, EADDRINUSE);
  EXPECT_EQ(fabric.sockets_of(process_two), 1u);
}

TEST_F(ListenerTest, ListensOnSeveralAddresses) {
  listeners.push_back(std::make_unique<TestListener>(
      loop_two, net_two, std::vector{endpoint("10.1.0.2:7001"), endpoint("10.2.0.2:7001")}));
  ASSERT_TRUE(listeners.back()->listener->start().has_value());
  for (const char* to : {"10.1.0.2:7001", "10.2.0.2:7001"}) {
    TestPeer& peer = connect(TestCluster::get().one, "hv2", "10.1.0.1:0", to);
    ASSERT_TRUE(until([&] { return peer.up(); }));
  }
}

TEST_F(ListenerTest, ClosesWithConnectionsInEveryState) {
  for (int step = 0; step < 40; ++step) {
    TestListener& two = listen();
    TestPeer& peer = connect();
    const auto silent = raw();
    for (int i = 0; i < 6 * step; ++i) world.step();
    two.close();
    ASSERT_TRUE(until([&] { return two.listener == nullptr; })) << step;
    // Whoever was told of is told off.
    EXPECT_EQ(two.events.size() % 2, 0u);
    peer.peer->begin_close();
    ASSERT_TRUE(until([&] { return peer.peer == nullptr; })) << step;
  }
}

}  // namespace
}  // namespace holdfast::rpc
