#include "tests/sim/sim_network.h"

#include <cerrno>
#include <numeric>

#include "tests/unit/sim/fixture.h"

namespace holdfast::sim {
namespace {

io::Endpoint endpoint(const char* text) { return io::Endpoint::parse(text).value(); }

class SimNetworkTest : public ::testing::Test {
 protected:
  SimNetworkTest() { listener = server_net.listen(endpoint("10.0.0.1:3260")).value(); }

  void connect() {
    server_net.accept(accepted.op, listener);
    begin_connect(endpoint("10.0.0.1:3260"));
    EXPECT_FALSE(connected.result || accepted.result);
    ASSERT_TRUE(world.run_until([&] { return connected.result && accepted.result; }, 1s));
    ASSERT_EQ(*connected.result, 0);
    ASSERT_GT(*accepted.result, 0);
  }
  void begin_connect(const io::Endpoint& peer, io::ConnectOptions options = {}) {
    options.source = endpoint("10.0.0.2:0");
    client_socket = client_net.open_stream(peer, options).value();
    client_net.connect(connected.op, client_socket, peer);
  }
  io::Socket client() const { return client_socket; }
  io::Socket server() { return *accepted.result; }

  int32_t receive(SimNetwork& net, io::Socket socket, base::MutableBytes into) {
    TestOp op;
    const iovec v = iov(into);
    net.receive(op.op, socket, {&v, 1});
    EXPECT_FALSE(op.result);
    EXPECT_TRUE(world.run_until([&] { return op.result.has_value(); }, 100s));
    return *op.result;
  }
  int32_t send(SimNetwork& net, io::Socket socket, base::MutableBytes from) {
    TestOp op;
    const iovec v = iov(from);
    net.send(op.op, socket, {&v, 1});
    EXPECT_FALSE(op.result);
    EXPECT_TRUE(world.run_until([&] { return op.result.has_value(); }, 100s));
    return *op.result;
  }

  SimWorld world{11};
  SimFabric fabric{world, {}};
  SimProcess& server_process = world.make_process("server");
  SimProcess& client_process = world.make_process("client");
  SimLoop& server_loop = server_process.make_loop();
  SimLoop& client_loop = client_process.make_loop();
  SimNetwork server_net{fabric, server_loop};
  SimNetwork client_net{fabric, client_loop};
  io::Socket listener = io::kNoSocket;
  io::Socket client_socket = io::kNoSocket;
  TestOp connected, accepted;
  std::vector<uint8_t> buffer = std::vector<uint8_t>(1'000'000);
};

TEST_F(SimNetworkTest, ConnectsWithEndpoints) {
  connect();
  EXPECT_EQ(server_net.local_endpoint(server()).to_string(), "10.0.0.1:3260");
  EXPECT_EQ(server_net.peer_endpoint(server()).address_to_string(), "10.0.0.2");
  EXPECT_EQ(client_net.local_endpoint(client()), server_net.peer_endpoint(server()));
  EXPECT_EQ(fabric.connections_of(server_process), 1u);
}

TEST_F(SimNetworkTest, RefusedWhereNobodyListens) {
  begin_connect(endpoint("10.0.0.1:9"));
  world.run_for(1s);
  EXPECT_EQ(connected.result, -ECONNREFUSED);
  EXPECT_FALSE(server_net.listen(endpoint("10.0.0.1:3260")).has_value());
}

TEST_F(SimNetworkTest, StreamArrivesWholeInPiecesOfAnyLength) {
  connect();
  std::iota(buffer.begin(), buffer.end(), uint8_t{0});
  std::vector<uint8_t> sent(buffer.begin(), buffer.begin() + 300'000);
  std::vector<uint8_t> got(sent.size());
  size_t out = 0, in = 0;
  TestOp send_op, receive_op;
  std::set<int32_t> lengths;
  while (in < sent.size()) {
    if (!send_op.op.busy() && out < sent.size()) {
      if (send_op.result) out += static_cast<size_t>(*send_op.result);
      send_op.result.reset();
      const iovec v[2] = {iov(base::MutableBytes(sent).subspan(out, (sent.size() - out) / 2)),
                          iov(base::MutableBytes(sent).subspan(out + (sent.size() - out) / 2))};
      if (out < sent.size()) client_net.send(send_op.op, client(), v);
    }
    if (!receive_op.op.busy()) {
      if (receive_op.result) {
        ASSERT_GT(*receive_op.result, 0);
        in += static_cast<size_t>(*receive_op.result);
        lengths.insert(*receive_op.result);
      }
      receive_op.result.reset();
      const iovec v = iov(base::MutableBytes(got).subspan(in));
      if (in < got.size()) server_net.receive(receive_op.op, server(), {&v, 1});
    }
    ASSERT_TRUE(world.step());
  }
  EXPECT_EQ(sent, got);
  EXPECT_GT(lengths.size(), 5u);
}

TEST_F(SimNetworkTest, BuffersAreBoundedUntilThePeerReads) {
  connect();
  size_t accepted_bytes = 0;
  TestOp op;
  const iovec v = iov(buffer);
  for (int i = 0; i < 1000; ++i) {
    client_net.send(op.op, client(), {&v, 1});
    if (!world.run_until([&] { return !op.op.busy(); }, 1s)) break;
    accepted_bytes += static_cast<size_t>(*op.result);
  }
  ASSERT_TRUE(op.op.busy());
  const FabricOptions limits;
  EXPECT_EQ(accepted_bytes, limits.send_buffer + limits.receive_buffer);
  const int32_t got = receive(server_net, server(), buffer);
  EXPECT_GT(got, 0);
  EXPECT_TRUE(world.run_until([&] { return !op.op.busy(); }, 1s));
}

TEST_F(SimNetworkTest, CloseSendsWhatIsPendingThenEndOfStream) {
  connect();
  ASSERT_GT(send(client_net, client(), base::MutableBytes(buffer).first(1)), 0);
  client_net.close(client(), false);
  EXPECT_EQ(receive(server_net, server(), buffer), 1);
  EXPECT_EQ(receive(server_net, server(), buffer), 0);
  server_net.close(server(), false);
  world.run_for(1s);
  EXPECT_EQ(fabric.connections_of(server_process), 0u);
}

TEST_F(SimNetworkTest, CloseWithUnreadDataOrResetBreaksThePeer) {
  connect();
  ASSERT_GT(send(client_net, client(), base::MutableBytes(buffer).first(10)), 0);
  world.run_for(1s);
  server_net.close(server(), false);
  EXPECT_EQ(receive(client_net, client(), buffer), -ECONNRESET);
  EXPECT_EQ(send(client_net, client(), base::MutableBytes(buffer).first(10)), -EPIPE);
}

TEST_F(SimNetworkTest, SendingToAClosedPeerIsReset) {
  connect();
  server_net.close(server(), false);
  world.run_for(1s);
  EXPECT_GT(send(client_net, client(), base::MutableBytes(buffer).first(10)), 0);
  world.run_for(1s);
  EXPECT_EQ(send(client_net, client(), base::MutableBytes(buffer).first(10)), -EPIPE);
}

TEST_F(SimNetworkTest, ShutdownWakesBothSides) {
  connect();
  TestOp op;
  const iovec v = iov(buffer);
  server_net.receive(op.op, server(), {&v, 1});
  world.run_for(1ms);
  server_net.shutdown(server());
  EXPECT_EQ(receive(client_net, client(), buffer), 0);
  EXPECT_EQ(op.result, 0);
  EXPECT_EQ(send(server_net, server(), base::MutableBytes(buffer).first(10)), -EPIPE);
  server_net.close(server(), false);
}

TEST_F(SimNetworkTest, HalfClosedSideStillReceives) {
  connect();
  ASSERT_GT(send(server_net, server(), base::MutableBytes(buffer).first(1)), 0);
  server_net.shutdown_send(server());
  EXPECT_EQ(receive(client_net, client(), buffer), 1);
  EXPECT_EQ(receive(client_net, client(), buffer), 0);
  EXPECT_EQ(send(server_net, server(), base::MutableBytes(buffer).first(1)), -EPIPE);
  ASSERT_GT(send(client_net, client(), base::MutableBytes(buffer).first(1)), 0);
  EXPECT_EQ(receive(server_net, server(), buffer), 1);
}

TEST_F(SimNetworkTest, CancelCompletesEachKindOnce) {
  connect();
  TestOp again, reading;
  server_net.accept(again.op, listener);
  const iovec v = iov(buffer);
  server_net.receive(reading.op, server(), {&v, 1});
  world.run_for(1ms);
  server_net.cancel(again.op);
  server_net.cancel(reading.op);
  EXPECT_FALSE(again.result || reading.result);
  world.run_for(1ms);
  EXPECT_EQ(again.result, -ECANCELED);
  EXPECT_EQ(reading.result, -ECANCELED);
  server_net.cancel(reading.op);  // idle: nothing to do
  world.run_for(1ms);
  EXPECT_EQ(reading.completions, 1);
  server_net.close(server(), false);
  server_net.close(listener, false);
}

TEST_F(SimNetworkTest, BlockedDirectionDelaysAndHealDelivers) {
  connect();
  fabric.block("10.0.0.2", "10.0.0.1");
  ASSERT_GT(send(client_net, client(), base::MutableBytes(buffer).first(1)), 0);
  ASSERT_GT(send(server_net, server(), base::MutableBytes(buffer).first(1)), 0);
  EXPECT_EQ(receive(client_net, client(), buffer), 1);  // the other direction still works
  TestOp op;
  const iovec v = iov(buffer);
  server_net.receive(op.op, server(), {&v, 1});
  world.run_for(5s);
  EXPECT_FALSE(op.result);
  fabric.heal_all();
  world.run_for(1s);
  EXPECT_EQ(op.result, 1);
}

TEST_F(SimNetworkTest, SilenceTimesOutTheSenderOnly) {
  connect();
  fabric.isolate("10.0.0.2");
  ASSERT_GT(send(client_net, client(), base::MutableBytes(buffer).first(1)), 0);
  EXPECT_EQ(receive(client_net, client(), buffer), -ETIMEDOUT);
  TestOp op;
  const iovec v = iov(buffer);
  server_net.receive(op.op, server(), {&v, 1});
  world.run_for(300s);
  EXPECT_FALSE(op.result);  // it has no way to know
  server_net.cancel(op.op);
  world.run_for(1ms);
}

TEST_F(SimNetworkTest, ResetOnCommandAndAtRandom) {
  connect();
  EXPECT_EQ(fabric.reset_between("10.0.0.1", "10.0.0.2"), 1u);
  EXPECT_EQ(receive(client_net, client(), buffer), -ECONNRESET);
  EXPECT_EQ(receive(server_net, server(), buffer), -ECONNRESET);
}

TEST_F(SimNetworkTest, KilledProcessClosesItsSocketsAndPowerLossIsSilent) {
  connect();
  TestOp op;
  const iovec v = iov(buffer);
  client_net.receive(op.op, client(), {&v, 1});
  server_process.kill(true);
  world.run_for(10s);
  EXPECT_FALSE(op.result);
  // The host is back: its kernel knows no such connection.
  ASSERT_GT(send(client_net, client(), base::MutableBytes(buffer).first(1)), 0);
  world.run_for(1s);
  EXPECT_EQ(op.result, -ECONNRESET);
}

TEST_F(SimNetworkTest, KilledProcessSaysGoodbye) {
  connect();
  server_process.kill();
  EXPECT_EQ(receive(client_net, client(), buffer), 0);
  begin_connect(endpoint("10.0.0.1:3260"));
  world.run_for(1s);
  EXPECT_EQ(connected.result, -ECONNREFUSED);
}

TEST_F(SimNetworkTest, AcceptedSocketMovesToAnotherLoop) {
  connect();
  SimLoop& shard = server_process.make_loop();
  SimNetwork shard_net(fabric, shard);
  ASSERT_GT(send(shard_net, server(), base::MutableBytes(buffer).first(1)), 0);
  EXPECT_EQ(receive(client_net, client(), buffer), 1);
}

TEST_F(SimNetworkTest, ClosingWithAPendingOperationIsABug) {
  connect();
  TestOp op;
  const iovec v = iov(buffer);
  server_net.receive(op.op, server(), {&v, 1});
  EXPECT_DEATH(server_net.close(server(), false), "undelivered");
  server_net.cancel(op.op);
  world.run_for(1ms);
}

}  // namespace
}  // namespace holdfast::sim
