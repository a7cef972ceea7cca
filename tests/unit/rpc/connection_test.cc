#include "common/rpc/connection.h"

#include <algorithm>

#include "common/base/random.h"
#include "tests/unit/rpc/sim_fixture.h"

namespace holdfast::rpc {
namespace {

using ::testing::HasSubstr;

// One end and what it hears.
struct End final : ConnectionEvents {
  End(io::Loop& loop, io::Network& network, const Connection::Options& options = {})
      : connection(std::make_unique<Connection>(loop, network, options, *this)) {}

  bool on_identified() noexcept override { return wanted; }
  void on_opened() noexcept override { ++opened; }
  void on_frame(const FrameHeader& header, base::Bytes payload) noexcept override {
    EXPECT_FALSE(end.has_value());
    frames.push_back({header, std::string(base::as_text(payload))});
    if (close_on_frame) connection->begin_close("enough");
  }
  void on_ended(const ConnectionEnd& why) noexcept override {
    EXPECT_FALSE(inside) << "called back from inside a call";
    EXPECT_FALSE(end.has_value());
    end = why;
    connection.reset();
  }
  void close(const char* why = "the test") {
    inside = true;
    if (connection) connection->begin_close(why);
    inside = false;
  }
  base::Result<> say(std::string_view text, Priority priority = Priority::urgent,
                     uint64_t id = 1) const {
    return connection->send(priority, {.kind = FrameKind::request, .type = 1, .id = id},
                            base::as_bytes(text));
  }
  std::string why() const { return end ? describe(*end) : "not ended"; }

  struct Frame {
    FrameHeader header;
    std::string payload;
  };
  bool wanted = true;
  bool close_on_frame = false;
  bool inside = false;
  int opened = 0;
  std::vector<Frame> frames;
  std::optional<ConnectionEnd> end;
  std::unique_ptr<Connection> connection;
};

class ConnectionTest : public SimTest {
 protected:
  explicit ConnectionTest(const sim::FabricOptions& options = {}) : SimTest(options) {
    listener_ = net_two.listen(endpoint(kPort)).value();
    net_two.accept(accept_op_, listener_);
  }
  ~ConnectionTest() override {
    if (client_begun_) client.close();
    if (server_begun_) server.close();
    if (accept_op_.busy()) net_two.cancel(accept_op_);
    EXPECT_TRUE(until([&] { return idle(client) && idle(server) && !accept_op_.busy(); }));
    net_two.close(listener_, false);
    world.run_for(1s);
    EXPECT_EQ(fabric.sockets_of(process_one) + fabric.sockets_of(process_two), 0u);
  }
  // Ended, or never begun.
  bool idle(const End& end) const { return end.connection == nullptr || !begun(end); }
  bool begun(const End& end) const { return &end == &client ? client_begun_ : server_begun_; }

  void connect(const std::string& node = "hv2") {
    client_begun_ = true;
    client.connection->connect(cluster.one, node, endpoint(kPort), from_one());
  }
  bool both_open() {
    connect();
    return until([&] { return client.opened == 1 && server.opened == 1; });
  }
  bool both_ended() {
    return until([&] { return client.end.has_value() && server.end.has_value(); });
  }
  void on_accepted(int32_t socket) noexcept {
    if (socket < 0) return;
    server_begun_ = true;
    server.connection->accept(server_tls, socket);
  }

  const TestCluster& cluster = TestCluster::get();
  std::shared_ptr<const TlsContext> server_tls = cluster.two;
  bool client_begun_ = false, server_begun_ = false;
  End client{loop_one, net_one};
  End server{loop_two, net_two};
  io::Socket listener_ = io::kNoSocket;
  io::OpOf<ConnectionTest, &ConnectionTest::on_accepted> accept_op_{*this};
};

TEST_F(ConnectionTest, OpensAndCarriesFramesBothWays) {
  ASSERT_TRUE(both_open());
  EXPECT_EQ(client.connection->peer(), (NodeIdentity{"c1", "hv2"}));
  EXPECT_EQ(server.connection->peer(), (NodeIdentity{"c1", "hv1"}));
  ASSERT_TRUE(client.say("up"));
  ASSERT_TRUE(server.say("down"));
  ASSERT_TRUE(server.say(""));
  ASSERT_TRUE(until([&] { return client.frames.size() == 2 && server.frames.size() == 1; }));
  EXPECT_EQ(server.frames[0].payload, "up");
  EXPECT_EQ(client.frames[0].payload, "down");
  client.close();
  ASSERT_TRUE(both_ended());
  EXPECT_EQ(client.why(), "closed: the test");
  EXPECT_EQ(server.why(), "closed by the peer: the peer closed the connection");
}

TEST_F(ConnectionTest, NothingIsSentBeforeItIsOpenOrAfterItsEnd) {
  connect();
  EXPECT_EQ(client.say("early").error().code, base::Errc::closed);
  ASSERT_TRUE(until([&] { return client.opened == 1; }));
  const std::string longest(kMaxPayload, 'x');
  EXPECT_EQ(client.say(longest + "x").error().code, base::Errc::invalid_argument);
  EXPECT_TRUE(client.say(longest));
  client.close();
  EXPECT_EQ(client.say("late").error().code, base::Errc::closed);
}

TEST_F(ConnectionTest, AFullQueueRefusesAndUrgentFramesPassBulk) {
  ASSERT_TRUE(both_open());
  const std::string large(kMaxPayload, 'b');
  size_t bulk = 0;
  base::Result<> result;
  while ((result = client.say(large, Priority::bulk, bulk + 1)).has_value()) ++bulk;
  EXPECT_EQ(result.error().code, base::Errc::limit);
  EXPECT_EQ(bulk, kBulkQueueBytes / (kMaxPayload + kFrameHeaderBytes));
  // Later the queue has begun to empty, and a heartbeat comes.
  ASSERT_TRUE(until([&] { return !server.frames.empty(); }));
  const size_t before = server.frames.size();
  ASSERT_TRUE(client.say("heartbeat", Priority::urgent, 1000));
  ASSERT_TRUE(until([&] { return server.frames.size() == bulk + 1; }));
  const auto urgent = std::ranges::find(server.frames, uint64_t{1000},
                                        [](const auto& frame) { return frame.header.id; });
  // What was under way (two frames of ours, the buffers of both kernels) comes first, no more.
  EXPECT_LE(static_cast<size_t>(urgent - server.frames.begin()), before + 5);
  EXPECT_TRUE(client.say(large, Priority::bulk));
}

TEST_F(ConnectionTest, APeerThatTakesNothingIsGivenUp) {
  ASSERT_TRUE(both_open());
  process_two.pause();
  const std::string large(kMaxPayload, 'b');
  while (client.say(large, Priority::bulk).has_value()) {
  }
  const io::Duration before = world.now();
  ASSERT_TRUE(until([&] { return client.end.has_value(); }));
  EXPECT_EQ(client.end->kind, EndKind::stalled);
  EXPECT_GE(world.now() - before, kSendTimeout);
  EXPECT_LE(world.now() - before, kSendTimeout + 1s);
  process_two.resume();
  ASSERT_TRUE(both_ended());
}

TEST_F(ConnectionTest, AnIdleConnectionStays) {
  ASSERT_TRUE(both_open());
  world.run_for(3600s);
  EXPECT_TRUE(client.connection->open() && server.connection->open());
}

TEST_F(ConnectionTest, TheWrongNodeIsRefusedByTheClientAndTold) {
  connect("hv3");
  ASSERT_TRUE(both_ended());
  EXPECT_EQ(client.end->tls, TlsFailure::wrong_node);
  EXPECT_EQ(server.end->tls, TlsFailure::refused_name);
  EXPECT_EQ(client.opened + server.opened, 0);
  EXPECT_EQ(client.why(), "tls failed: another node than the wanted one answers at this address");
}

TEST_F(ConnectionTest, AClientOfAnotherCaHearsWhyAndIsNeverOpen) {
  // It knows the server's CA, so that only the server objects: the client's TLS is through by then.
  const TestCa other("another");
  const TestFiles files;
  const Issued issued = other.issue(node_of("c1", "hv1"));
  const auto mixed = TlsContext::load(
      {files.write("ca.pem", other.pem() + cluster.ca.pem()),
       files.write("node.pem", issued.certificate), files.write("node.key", issued.key)},
      {"c1", "hv1"});
  ASSERT_TRUE(mixed.has_value());
  client_begun_ = true;
  client.connection->connect(*mixed, "hv2", endpoint(kPort), from_one());
  ASSERT_TRUE(both_ended());
  EXPECT_EQ(server.end->tls, TlsFailure::other_ca);
  EXPECT_EQ(client.end->tls, TlsFailure::refused_ca);
  EXPECT_EQ(client.opened + server.opened, 0);
}

TEST_F(ConnectionTest, ANodeThatIsNotWantedIsTold) {
  server.wanted = false;
  connect();
  ASSERT_TRUE(both_ended());
  EXPECT_EQ(client.end->kind, EndKind::refused);
  EXPECT_EQ(client.why(), "refused: the peer does not want this node");
  EXPECT_EQ(server.end->kind, EndKind::refused);
  EXPECT_EQ(client.opened + server.opened, 0);
}

TEST_F(ConnectionTest, NobodyListens) {
  client_begun_ = true;
  client.connection->connect(cluster.one, "hv2", endpoint("10.1.0.2:7001"), from_one());
  ASSERT_TRUE(until([&] { return client.end.has_value(); }));
  EXPECT_EQ(client.end->kind, EndKind::connect_failed);
  EXPECT_EQ(client.end->error, ECONNREFUSED);
}

TEST_F(ConnectionTest, SilenceIsTheDeadlines) {
  fabric.isolate(kTwo);
  const io::Duration before = world.now();
  connect();
  ASSERT_TRUE(until([&] { return client.end.has_value(); }));
  EXPECT_EQ(client.why(), "timed out: no answer to the connection request");
  EXPECT_LE(world.now() - before, kHandshakeTimeout + 100ms);
}

TEST_F(ConnectionTest, AHandshakeThatCreepsHitsTheDeadline) {
  // The hello of a good client, a byte now and then.
  TlsEngine engine(cluster.one, TlsEngine::Side::client, "hv2");
  std::vector<uint8_t> plain;
  ASSERT_TRUE(engine.receive({}, plain));
  RawSocket raw(world, net_one);
  raw.connect(endpoint(kPort));
  const io::Duration before = world.now();
  for (const uint8_t& byte : engine.output()) {
    if (server.end.has_value()) break;
    raw.send({&byte, 1});
    world.run_for(100ms);
  }
  ASSERT_TRUE(server.end.has_value());
  EXPECT_EQ(server.why(), "timed out: the handshake took too long");
  EXPECT_LE(world.now() - before, kHandshakeTimeout + 1s);
}

TEST_F(ConnectionTest, APlaintextClientIsNoTls) {
  RawSocket raw(world, net_one);
  raw.connect(endpoint(kPort));
  raw.send(base::as_bytes(std::string_view("GET / HTTP/1.0\r\n\r\n")));
  ASSERT_TRUE(until([&] { return server.end.has_value(); }));
  EXPECT_EQ(server.why(), "tls failed: the peer does not speak TLS");
  EXPECT_TRUE(raw.receive().size() < 10);  // an alert, or nothing
}

// A peer of the cluster that speaks TLS rightly, and frames as the test wants.
class LyingPeerTest : public ConnectionTest {
 protected:
  // The server's end, after these bytes within TLS.
  std::string told(base::Bytes bytes) {
    RawSocket raw(world, net_one);
    raw.connect(endpoint(kPort));
    TlsEngine engine(cluster.one, TlsEngine::Side::client, "hv2");
    std::vector<uint8_t> plain;
    EXPECT_TRUE(engine.receive({}, plain));
    raw.send(std::exchange(engine.output(), {}));
    while (!engine.established()) {
      const std::vector<uint8_t> got = raw.receive();
      for (base::Bytes rest = got; !rest.empty();) {
        const size_t part = std::min(rest.size(), kReceiveBytes);
        EXPECT_TRUE(engine.receive(rest.first(part), plain));
        rest = rest.subspan(part);
      }
    }
    raw.send(std::exchange(engine.output(), {}));
    EXPECT_TRUE(engine.send(bytes));
    raw.send(std::exchange(engine.output(), {}));
    EXPECT_TRUE(until([&] { return server.end.has_value(); }, 30s));
    return server.why();
  }
};

TEST_F(LyingPeerTest, GarbageWithinTls) {
  EXPECT_EQ(told(base::as_bytes(std::string_view("this is no frame, whatever it may be"))),
            "protocol error: not a frame of ours");
  EXPECT_EQ(server.opened, 1);
}

TEST_F(LyingPeerTest, AFrameOf4GiB) {
  const WireHeader wire = encode_header({.kind = FrameKind::notice}, UINT32_MAX);
  EXPECT_EQ(told(base::as_bytes(wire)), "protocol error: a frame longer than the limit");
}

TEST_F(LyingPeerTest, HalfAFrameIsNotTold) {
  const WireHeader wire = encode_header({.kind = FrameKind::notice}, 10);
  RawSocket raw(world, net_one);
  std::vector<uint8_t> bytes(base::as_bytes(wire).begin(), base::as_bytes(wire).end());
  bytes.push_back(1);
  world.after(10s, [&] { server.close(); });
  EXPECT_EQ(told(bytes), "closed: the test");
  EXPECT_TRUE(server.frames.empty());
}

TEST_F(ConnectionTest, AServerThatDoesNotBeginWithAHello) {
  net_two.cancel(accept_op_);
  struct Op {
    void on_done(int32_t value) noexcept { result = value; }
    std::optional<int32_t> result;
    io::OpOf<Op, &Op::on_done> op{*this};
  };
  ASSERT_TRUE(until([&] { return !accept_op_.busy(); }));
  Op accepted;
  net_two.accept(accepted.op, listener_);
  connect();
  ASSERT_TRUE(until([&] { return accepted.result.has_value(); }));
  const io::Socket socket = *accepted.result;
  TlsEngine engine(cluster.two, TlsEngine::Side::server, "");
  std::vector<uint8_t> plain;
  bool said = false;
  while (!client.end.has_value()) {
    std::vector<uint8_t> buffer(kReceiveBytes);
    Op received;
    const iovec into{buffer.data(), buffer.size()};
    net_two.receive(received.op, socket, {&into, 1});
    ASSERT_TRUE(until([&] { return received.result.has_value(); }));
    if (*received.result <= 0) break;
    if (!engine.receive(base::Bytes(buffer).first(static_cast<size_t>(*received.result)), plain)) {
      break;
    }
    const WireHeader notice = encode_header({.kind = FrameKind::notice}, 0);
    if (engine.established() && !std::exchange(said, true)) {
      ASSERT_TRUE(engine.send(base::as_bytes(notice)));
    }
    for (base::Bytes rest = engine.output(); !rest.empty();) {
      Op sent;
      const iovec from{const_cast<uint8_t*>(rest.data()), rest.size()};
      net_two.send(sent.op, socket, {&from, 1});
      ASSERT_TRUE(until([&] { return sent.result.has_value(); }));
      ASSERT_GT(*sent.result, 0);
      rest = rest.subspan(static_cast<size_t>(*sent.result));
    }
    engine.output().clear();
  }
  EXPECT_TRUE(until([&] { return client.end.has_value(); }));
  EXPECT_EQ(client.why(), "protocol error: the peer did not begin with a hello");
  EXPECT_EQ(client.opened, 0);
  net_two.close(socket, true);
}

TEST_F(ConnectionTest, CloseWithinACallbackEndsThereAndThen) {
  ASSERT_TRUE(both_open());
  server.close_on_frame = true;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(client.say("text"));
  ASSERT_TRUE(both_ended());
  EXPECT_EQ(server.frames.size(), 1u);
}

// Closed, or cut, after so many events of the world: whatever the state, both ends end once and
// nothing is left (the fixture counts the sockets).
class CloseAnywhere : public ConnectionTest, public ::testing::WithParamInterface<int> {};

TEST_P(CloseAnywhere, EndsOnce) {
  const int part = GetParam();
  connect();
  const std::string large(kMaxPayload, 'b');
  for (int step = 0; step < part * 5; ++step) {
    world.step();
    if (client.opened == 1 && client.connection) (void)client.say(large, Priority::bulk);
    if (server.opened == 1 && server.connection) (void)server.say("small");
  }
  switch (part % 4) {
    case 0:
      client.close();
      break;
    case 1:
      server_begun_ ? server.close() : client.close();
      break;
    case 2:
      if (fabric.reset_between(kOne, kTwo) == 0) client.close();
      break;
    default:
      client.close();
      if (server_begun_) server.close();
  }
  EXPECT_TRUE(
      until([&] { return client.end.has_value() && (!server_begun_ || server.end.has_value()); }));
}

INSTANTIATE_TEST_SUITE_P(Steps, CloseAnywhere, ::testing::Range(0, 48));

// Runs with equal seeds are equal, also with TLS in them.
TEST(ConnectionSim, IsDeterministic) {
  const auto run = [](uint64_t seed) {
    sim::SimWorld world(seed);
    sim::SimFabric fabric(world, {});
    sim::SimProcess& one = world.make_process("one");
    sim::SimProcess& two = world.make_process("two");
    sim::SimLoop& loop_one = one.make_loop();
    sim::SimLoop& loop_two = two.make_loop();
    sim::SimNetwork net_one(fabric, loop_one), net_two(fabric, loop_two);
    const TestCluster& cluster = TestCluster::get();
    End client(loop_one, net_one), server(loop_two, net_two);
    struct Accept {
      void on_done(int32_t socket) noexcept { server.connection->accept(tls, socket); }
      End& server;
      std::shared_ptr<const TlsContext> tls;
      io::OpOf<Accept, &Accept::on_done> op{*this};
    } accept{server, cluster.two};
    const io::Socket listener = net_two.listen(endpoint(kPort)).value();
    net_two.accept(accept.op, listener);
    client.connection->connect(cluster.one, "hv2", endpoint(kPort), {});
    world.run_until([&] { return server.opened == 1 && client.opened == 1; }, 10s);
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(client.say(std::string(10'000, 'x')));
    world.run_until([&] { return server.frames.size() == 10; }, 10s);
    client.close();
    world.run_until([&] { return client.end && server.end; }, 10s);
    net_two.close(listener, false);
    world.run_for(1s);
    return world.hash();
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_EQ(run(2), run(2));
  EXPECT_NE(run(1), run(2));
}

}  // namespace
}  // namespace holdfast::rpc
