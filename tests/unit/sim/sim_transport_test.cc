// What the simulated kernel tells of its connections, cables and Unix sockets.

#include <cerrno>

#include "tests/sim/sim_link_watch.h"
#include "tests/unit/sim/fixture.h"

namespace holdfast::sim {
namespace {

io::Endpoint endpoint(const char* text) { return io::Endpoint::parse(text).value(); }

constexpr const char* kTarget = "10.1.0.10";
constexpr const char* kNode = "10.1.0.1";

class SimTransportTest : public ::testing::Test {
 protected:
  void connect(io::ConnectOptions options = {}) {
    listener = target_net.listen(portal).value();
    options.source = endpoint("10.1.0.1:0");
    node = node_net.open_stream(portal, options).value();
    TestOp connected, accepted;
    target_net.accept(accepted.op, listener);
    node_net.connect(connected.op, node, portal);
    ASSERT_TRUE(world.run_until([&] { return connected.result && accepted.result; }, 1s));
    ASSERT_EQ(connected.result, 0);
    target = *accepted.result;
  }
  // As much as is taken of it.
  void send(io::Socket from, SimNetwork& net, size_t size) {
    TestOp op;
    const iovec v = iov(base::MutableBytes(buffer).first(size));
    net.send(op.op, from, {&v, 1});
    ASSERT_TRUE(world.run_until([&] { return op.result.has_value(); }, 1s));
    ASSERT_GT(*op.result, 0);
  }
  void receive(io::Socket at, SimNetwork& net) {
    TestOp op;
    const iovec v = iov(buffer);
    net.receive(op.op, at, {&v, 1});
    ASSERT_TRUE(world.run_until([&] { return op.result.has_value(); }, 1s));
    ASSERT_GT(*op.result, 0);
  }
  // Until the peer's window is shut and bytes wait for it. The send that finds no room is
  // cancelled.
  void fill() {
    TestOp op;
    const iovec v = iov(buffer);
    do {
      op.result.reset();
      node_net.send(op.op, node, {&v, 1});
    } while (world.run_until([&] { return op.result.has_value(); }, 50ms));
    node_net.cancel(op.op);
    ASSERT_TRUE(world.run_until([&] { return op.result.has_value(); }, 1s));
  }
  io::TransportInfo info() { return node_net.transport_info(node); }

  SimWorld world{5};
  SimFabric fabric{world, {}};
  SimProcess& target_process = world.make_process("target");
  SimProcess& node_process = world.make_process("node");
  SimLoop& target_loop = target_process.make_loop();
  SimLoop& node_loop = node_process.make_loop();
  SimNetwork target_net{fabric, target_loop};
  SimNetwork node_net{fabric, node_loop};
  io::Endpoint portal = endpoint("10.1.0.10:3260");
  io::Socket listener = io::kNoSocket, node = io::kNoSocket, target = io::kNoSocket;
  std::vector<uint8_t> buffer = std::vector<uint8_t>(100'000);
};

TEST_F(SimTransportTest, HealthyConnectionMeasuresItsWay) {
  fabric.set_delay(kNode, kTarget, 2ms, 2ms);
  fabric.set_delay(kTarget, kNode, 3ms, 3ms);
  connect();
  send(node, node_net, 100);
  world.run_for(100ms);
  EXPECT_TRUE(info().valid);
  EXPECT_EQ(info().rtt_us, 5000u);
  EXPECT_EQ(info().unacked, 0u);
  EXPECT_EQ(info().backoff, 0u);
  EXPECT_EQ(info().unsent_bytes, 0u);
  EXPECT_GE(info().last_ack_received_ms, 90u);
  EXPECT_LE(info().last_ack_received_ms, 100u);
  const uint32_t quiet = info().last_data_received_ms;
  EXPECT_GE(quiet, 100u);  // nothing has come from the target yet
  send(target, target_net, 100);
  receive(node, node_net);
  EXPECT_LT(info().last_data_received_ms, 10u);
}

TEST_F(SimTransportTest, DeadNetworkIsNotAcknowledged) {
  connect();
  send(node, node_net, 100);
  world.run_for(100ms);
  fabric.block(kTarget, kNode);  // what is sent arrives, nothing comes back
  send(node, node_net, 100);
  world.run_for(1s);
  EXPECT_EQ(info().unacked, 1u);
  EXPECT_GE(info().backoff, 2u);
  EXPECT_GE(info().last_ack_received_ms, 1000u);
  const uint32_t retransmits = info().retransmits_total;
  EXPECT_EQ(retransmits, info().backoff);
  fabric.heal_all();
  world.run_for(1s);
  EXPECT_EQ(info().unacked, 0u);
  EXPECT_EQ(info().backoff, 0u);
  EXPECT_GE(info().retransmits_total, retransmits);
}

TEST_F(SimTransportTest, StalledProcessIsAcknowledgedByItsKernel) {
  connect();
  target_process.pause();
  world.run_for(1s);
  send(node, node_net, 100);
  world.run_for(1s);
  EXPECT_EQ(info().unacked, 0u);
  EXPECT_EQ(info().backoff, 0u);
  EXPECT_LE(info().last_ack_received_ms, 1000u);
}

TEST_F(SimTransportTest, ShutWindowIsProbedAndTheProbesAreAnswered) {
  connect();
  fill();
  world.run_for(5s);
  EXPECT_EQ(info().unacked, 0u);
  EXPECT_GT(info().unsent_bytes, 0u);
  EXPECT_GE(info().backoff, 3u);  // of the probes: no sign of a dead network
  EXPECT_EQ(info().probes, 0u);
  fabric.block(kTarget, kNode);
  world.run_for(20s);
  EXPECT_GE(info().probes, 1u);
  fabric.heal_all();
  for (int i = 0; i < 10; ++i) receive(target, target_net);
  world.run_for(1s);
  EXPECT_EQ(info().unsent_bytes, 0u);
  EXPECT_EQ(info().backoff, 0u);
  EXPECT_EQ(info().probes, 0u);
}

TEST_F(SimTransportTest, UserTimeoutEndsSilence) {
  connect({.user_timeout = 800ms});
  fabric.isolate(kTarget);
  TestOp reading;
  const iovec v = iov(buffer);
  node_net.receive(reading.op, node, {&v, 1});
  world.run_for(700ms);
  for (int i = 0; i < 7; ++i) {  // counted from the first byte that is not acknowledged
    if (reading.result) break;
    send(node, node_net, 10);
    world.run_for(200ms);
  }
  EXPECT_EQ(reading.result, -ETIMEDOUT);
  EXPECT_FALSE(info().valid);
  node_net.close(node, true);
}

// As Linux does: tests/unit/io/uring_connect_test.cc.
TEST_F(SimTransportTest, UserTimeoutEndsAShutWindowToo) {
  connect({.user_timeout = 800ms});
  TestOp reading;
  const iovec v = iov(buffer);
  node_net.receive(reading.op, node, {&v, 1});
  fill();
  world.run_for(1s);
  EXPECT_EQ(reading.result, -ETIMEDOUT);
}

TEST_F(SimTransportTest, ConnectsAttemptStaysTheCallers) {
  fabric.isolate(kTarget);
  TestOp connected;
  node = node_net.open_stream(portal, {.source = endpoint("10.1.0.1:0")}).value();
  node_net.connect(connected.op, node, portal);
  world.run_for(1s);
  EXPECT_FALSE(connected.result);
  EXPECT_FALSE(info().valid);
  node_net.cancel(connected.op);
  world.run_for(1ms);
  EXPECT_EQ(connected.result, -ECANCELED);
  EXPECT_EQ(fabric.sockets_of(node_process), 1u);
  node_net.close(node, true);
  EXPECT_EQ(fabric.sockets_of(node_process), 0u);
  TestOp again;
  node = node_net.open_stream(portal, {.source = endpoint("10.1.0.1:0"), .user_timeout = 800ms})
             .value();
  node_net.connect(again.op, node, portal);
  world.run_for(1s);
  EXPECT_EQ(again.result, -ETIMEDOUT);
  node_net.close(node, false);
}

struct Listener final : io::LinkListener {
  void on_link(const io::LinkEvent& event) noexcept override {
    heard.push_back(event.interface + (event.up ? " up" : " down"));
  }
  std::vector<std::string> heard;
};

TEST_F(SimTransportTest, CableIsSeenByItsHostAndCutsItsTraffic) {
  connect();
  SimLinkWatch watch(fabric, node_loop, {kNode, "10.2.0.1"});
  Listener listening;
  watch.add(listening);
  const auto up = [&](const char* address) { return watch.find(endpoint(address))->up; };
  EXPECT_FALSE(watch.find(portal).has_value());  // the target's, not ours
  EXPECT_TRUE(up("10.1.0.1:0"));
  fabric.set_link(kNode, false);
  fabric.set_link(kTarget, false);  // of another host: not told
  EXPECT_TRUE(listening.heard.empty());
  world.run_for(100ms);
  EXPECT_EQ(listening.heard, std::vector<std::string>({"link-10.1.0.1 down"}));
  EXPECT_FALSE(up("10.1.0.1:0"));
  EXPECT_TRUE(up("10.2.0.1:0"));
  send(node, node_net, 10);
  TestOp reading;
  const iovec v = iov(buffer);
  target_net.receive(reading.op, target, {&v, 1});
  world.run_for(1s);
  EXPECT_FALSE(reading.result);
  fabric.set_link(kTarget, true);
  fabric.set_link(kNode, true);
  world.run_for(1s);
  EXPECT_TRUE(reading.result.has_value());
  EXPECT_EQ(listening.heard.back(), "link-10.1.0.1 up");
  watch.remove(listening);
}

TEST_F(SimTransportTest, FastChangesOfACableAreToldInOrder) {
  SimLinkWatch watch(fabric, node_loop, {kNode});
  Listener listening;
  watch.add(listening);
  for (int i = 0; i < 20; ++i) fabric.set_link(kNode, i % 2 != 0);
  world.run_for(1s);
  ASSERT_EQ(listening.heard.size(), 20u);
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(listening.heard[i], i % 2 != 0 ? "link-10.1.0.1 up" : "link-10.1.0.1 down");
  }
  watch.remove(listening);
}

TEST_F(SimTransportTest, UnixSocketsCarryBytesAndOutliveNoProcess) {
  const std::string path = "/run/holdfast/csv1.nbd";
  listener = target_net.listen_unix(path, 0600).value();
  EXPECT_EQ(node_net.listen_unix(path, 0600).error().code, base::Errc::busy);
  node = node_net.connect_unix(path).value();
  TestOp accepted;
  target_net.accept(accepted.op, listener);
  ASSERT_TRUE(world.run_until([&] { return accepted.result.has_value(); }, 1s));
  target = *accepted.result;
  send(node, node_net, 10);
  receive(target, target_net);
  EXPECT_FALSE(info().valid);
  target_process.kill();
  world.run_for(1s);
  EXPECT_EQ(node_net.connect_unix(path).error().code, base::Errc::not_found);
  EXPECT_TRUE(node_net.listen_unix(path, 0600).has_value());  // the file was stale
  node_net.unlink_unix(path);
  EXPECT_FALSE(node_net.connect_unix(path).has_value());
}

}  // namespace
}  // namespace holdfast::sim
