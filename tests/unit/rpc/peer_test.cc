#include "common/rpc/peer.h"

#include "tests/unit/rpc/peer_fixture.h"

namespace holdfast::rpc {
namespace {

TEST_F(PeerTest, ConnectsCallsAndCloses) {
  TestListener& two = listen();
  TestPeer& peer = connect();
  ASSERT_TRUE(until([&] { return peer.up() && two.listener->nodes() == 1; }));
  EXPECT_EQ(two.asked, (std::vector<std::string>{"hv1"}));
  CallRecord record, back;
  ASSERT_TRUE(peer.call(record, 1, "one"));
  ASSERT_TRUE(until([&] { return record.ends == 1; }));
  EXPECT_EQ(record.text, "pong one");
  // The accepting side calls over the same connection.
  ASSERT_TRUE(
      two.last->call(1, base::as_bytes(std::string_view("two")), {.deadline = 1s}, back.done()));
  ASSERT_TRUE(until([&] { return back.ends == 1; }));
  EXPECT_EQ(back.text, "pong two");
  peer.peer->begin_close();
  EXPECT_EQ(peer.downs, 0) << "called back from inside a call";
  ASSERT_TRUE(until([&] { return peer.peer == nullptr; }));
  EXPECT_EQ(peer.downs, 1);
  ASSERT_TRUE(until([&] { return two.events.size() == 2; }));
  EXPECT_EQ(two.events, (std::vector<std::string>{"up hv1", "down hv1"}));
}

TEST_F(PeerTest, ConnectsAgainAfterARestartOfTheOtherSide) {
  TestListener& first = listen();
  TestPeer& peer = connect();
  ASSERT_TRUE(until([&] { return peer.up(); }));
  CallRecord record;
  ASSERT_TRUE(peer.call(record, 2, "", 60s));
  ASSERT_TRUE(until([&] { return first.handler.kept.size() == 1; }));
  first.close();
  ASSERT_TRUE(until([&] { return peer.downs == 1; }));
  EXPECT_EQ(record.ends, 1);
  EXPECT_EQ(record.outcome, CallOutcome::lost);
  CallRecord vain;
  EXPECT_EQ(peer.call(vain, 1, "").error().code, base::Errc::closed);
  world.run_for(10s);
  EXPECT_GT(peer.peer->attempts(), 3u);
  EXPECT_LT(peer.peer->attempts(), 20u);
  EXPECT_EQ(peer.peer->last_end().error, ECONNREFUSED);
  listen();
  ASSERT_TRUE(until([&] { return peer.up(); }, 2 * kBackoffMax));
  EXPECT_EQ(peer.ups, 2);
  EXPECT_EQ(vain.ends, 0);
}

TEST_F(PeerTest, TheBackoffIsBoundedAndBeginsAnewOnlyAfterAStableConnection) {
  TestListener& two = listen();
  two.admit = false;
  TestPeer& peer = connect();
  world.run_for(60s);
  // Doubling from 100 ms to 3 s, by a quarter more or less.
  EXPECT_GE(peer.peer->attempts(), 60u / 4);
  EXPECT_LE(peer.peer->attempts(), 60u / 2 + 8);
  EXPECT_EQ(peer.ups, 0);
  EXPECT_EQ(peer.peer->last_end().kind, EndKind::refused);
  two.admit = true;
  ASSERT_TRUE(until([&] { return peer.up(); }));
  const auto gap = [&] {
    EXPECT_EQ(fabric.reset_between(kOne, kTwo), 1u);
    EXPECT_TRUE(until([&] { return !peer.up(); }));
    const io::Duration before = world.now();
    EXPECT_TRUE(until([&] { return peer.up(); }));
    return world.now() - before;
  };
  EXPECT_GT(gap(), 2s);
  world.run_for(kStableAfter + 1s);
  EXPECT_LT(gap(), 200ms);
}

TEST_F(PeerTest, DropEndsWhatIsThereAndConnectsAgain) {
  listen();
  TestPeer& peer = connect();
  ASSERT_TRUE(until([&] { return peer.up(); }));
  peer.peer->drop("no heartbeat");
  EXPECT_EQ(peer.downs, 0);
  ASSERT_TRUE(until([&] { return peer.ups == 2; }));
  EXPECT_EQ(describe(peer.last_end), "closed: no heartbeat");
}

TEST_F(PeerTest, TellsWhatWaitsBehindAPeerThatTakesNothing) {
  listen();
  TestPeer& peer = connect();
  EXPECT_EQ(peer.peer->queued_bytes(Priority::urgent), 0u);  // not up
  ASSERT_TRUE(until([&] { return peer.up(); }));
  const std::vector<uint8_t> large(kMaxPayload);
  ASSERT_TRUE(peer.peer->notify(5, large, Priority::urgent));
  EXPECT_EQ(peer.peer->queued_bytes(Priority::urgent), kMaxPayload + kFrameHeaderBytes);
  EXPECT_EQ(peer.peer->queued_bytes(Priority::bulk), 0u);
  ASSERT_TRUE(until([&] { return peer.peer->queued_bytes(Priority::urgent) == 0; }));
  // What the kernels and the send under way do not take waits.
  process_two.pause();
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(peer.peer->notify(5, large, Priority::bulk));
    world.run_for(10ms);
  }
  EXPECT_GT(peer.peer->queued_bytes(Priority::bulk), 0u);
  EXPECT_EQ(peer.peer->queued_bytes(Priority::urgent), 0u);
  ASSERT_TRUE(peer.peer->notify(5, {}, Priority::urgent));
  world.run_for(10ms);
  EXPECT_EQ(peer.peer->queued_bytes(Priority::urgent), kFrameHeaderBytes);
  process_two.resume();
  ASSERT_TRUE(until([&] {
    return peer.peer->queued_bytes(Priority::urgent) == 0 &&
           peer.peer->queued_bytes(Priority::bulk) == 0;
  }));
}

TEST_F(PeerTest, SaysWhyItCannotConnect) {
  listen();
  TestPeer& wrong_node = connect(TestCluster::get().one, "hv3");
  TestPeer& wrong_cluster = connect(make_context(TestCluster::get().ca, "hv1", "c2"));
  TestPeer& no_source = connect(TestCluster::get().one, "hv2", "10.1.0.1:0", "10.1.0.2:7999");
  ASSERT_TRUE(until([&] {
    return wrong_node.peer->attempts() > 1 && wrong_cluster.peer->attempts() > 1 &&
           no_source.peer->attempts() > 1;
  }));
  EXPECT_EQ(wrong_node.peer->last_end().tls, TlsFailure::wrong_node);
  EXPECT_EQ(wrong_cluster.peer->last_end().tls, TlsFailure::wrong_cluster);
  EXPECT_EQ(no_source.peer->last_end().kind, EndKind::connect_failed);
}

TEST_F(PeerTest, ClosesInEveryState) {
  for (int step = 0; step < 60; ++step) {
    TestListener* two = step % 3 == 0 ? nullptr : &listen();
    TestPeer& peer = connect();
    for (int i = 0; i < 4 * step && peer.peer; ++i) world.step();
    peer.peer->begin_close();
    peer.peer->begin_close();
    ASSERT_TRUE(until([&] { return peer.peer == nullptr; })) << step;
    if (two != nullptr) two->close();
    ASSERT_TRUE(until([&] { return two == nullptr || two->listener == nullptr; })) << step;
  }
}

TEST_F(PeerTest, AReloadedIdentityIsThatOfTheNextConnection) {
  listen();
  TestPeer& peer = connect(make_context(TestCluster::get().ca, "hv7"));
  ASSERT_TRUE(until([&] { return peer.up(); }));
  peer.identity.replace(make_context(TestCluster::get().ca, "hv8"));
  EXPECT_EQ(listeners[0]->asked, (std::vector<std::string>{"hv7"}));
  peer.peer->drop("reload");
  ASSERT_TRUE(until([&] { return peer.ups == 2; }));
  EXPECT_EQ(listeners[0]->asked, (std::vector<std::string>{"hv7", "hv8"}));
}

// Calls of all kinds while the network cuts, falls silent and heals, and the other side restarts:
// each call that was taken ends exactly once.
class PeerCuts : public PeerTest, public ::testing::WithParamInterface<uint64_t> {};

TEST_P(PeerCuts, EveryCallEndsExactlyOnce) {
  base::SeededRandom dice(GetParam());
  TestListener* two = &listen();
  TestPeer& peer = connect(TestCluster::get().one, "hv2", "10.1.0.1:0", kPort, kBackoffMin);
  std::vector<std::unique_ptr<CallRecord>> records;
  for (int round = 0; round < 300; ++round) {
    for (uint64_t count = dice.below(4); count > 0; --count) {
      auto record = std::make_unique<CallRecord>();
      const std::string text(dice.below(4) == 0 ? dice.below(kMaxPayload + 1) : 10, 'x');
      // Type 2 is answered below, or never.
      const auto type = static_cast<uint16_t>(1 + dice.below(3));
      if (peer.call(*record, type, text, std::chrono::milliseconds(dice.below(2000)))) {
        records.push_back(std::move(record));
      } else {
        EXPECT_EQ(record->ends, 0);
      }
    }
    if (!two->handler.kept.empty() && dice.below(2) == 0) two->handler.kept.pop_back();
    switch (dice.below(30)) {
      case 0:
        fabric.reset_between(kOne, kTwo);
        break;
      case 1:
        fabric.isolate(kTwo);
        break;
      case 2:
        two->close();
        world.run_for(1ms);
        two = &listen();
        break;
      case 3:
        peer.peer->drop("the test");
        break;
      case 4:
        world.run_for(3s);
        break;
      default:
        fabric.heal_all();
    }
    world.run_for(world.between(0us, 50ms));
  }
  fabric.heal_all();
  peer.peer->begin_close();
  ASSERT_TRUE(until([&] { return peer.peer == nullptr; }));
  std::map<CallOutcome, size_t> outcomes;
  for (const auto& record : records) {
    EXPECT_EQ(record->ends, 1);
    ++outcomes[record->outcome];
  }
  EXPECT_GT(outcomes[CallOutcome::reply], 20u);
  EXPECT_GT(outcomes[CallOutcome::lost], 0u);
  EXPECT_GT(outcomes[CallOutcome::timed_out], 0u);
  EXPECT_EQ(peer.ups, peer.downs);
}

INSTANTIATE_TEST_SUITE_P(Seeds, PeerCuts, ::testing::Range<uint64_t>(1, 9));

}  // namespace
}  // namespace holdfast::rpc
