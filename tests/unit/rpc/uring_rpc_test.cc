// Listener and peer on the real loop, over loopback: that nothing in them holds on the simulated
// network only.

#include <algorithm>

#include "common/rpc/listener.h"
#include "common/rpc/peer.h"
#include "tests/unit/io/loop_fixture.h"
#include "tests/unit/rpc/peer_fixture.h"

namespace holdfast::rpc {
namespace {

class UringRpcTest : public io::LoopTest {
 protected:
  void SetUp() override {
    open();
    // A port that was free a moment ago.
    const io::Socket probe = loop().listen(endpoint("127.0.0.1:0")).value();
    address = loop().local_endpoint(probe);
    loop().close(probe, false);
    server = std::make_unique<TestListener>(loop(), loop(), std::vector{address});
  }
  void connect() {
    ASSERT_TRUE(server->listener->start().has_value());
    peer = std::make_unique<TestPeer>(loop(), loop(), random, TestCluster::get().one, "hv2",
                                      "127.0.0.1:0", address.to_string());
  }
  // Looks every millisecond.
  void when(std::function<bool()> condition, std::function<void()> then) {
    steps_.push_back({std::move(condition), std::move(then)});
    if (!watch_.armed()) loop().start(watch_, 1ms);
  }
  void close_all() {
    peer->peer->begin_close();
    server->close();
    when([&] { return peer->peer == nullptr && server->listener == nullptr; }, [&] { finish(); });
  }

  base::SystemRandom random;
  io::Endpoint address;
  std::unique_ptr<TestListener> server;
  std::unique_ptr<TestPeer> peer;

 private:
  void on_watch() noexcept {
    if (!steps_.empty() && steps_.front().condition()) {
      const auto then = std::move(steps_.front().then);
      steps_.erase(steps_.begin());
      then();
    }
    if (!steps_.empty()) loop().start(watch_, 1ms);
  }
  struct Step {
    std::function<bool()> condition;
    std::function<void()> then;
  };
  std::vector<Step> steps_;
  io::TimerOf<UringRpcTest, &UringRpcTest::on_watch> watch_{*this};
};

TEST_F(UringRpcTest, CallsNoticesAndALotOfBulk) {
  CallRecord record;
  const std::vector<uint8_t> large(kMaxPayload, 'b');
  size_t sent = 0;
  run([&] {
    connect();
    when([&] { return peer->up(); },
         [&] {
           while (peer->peer->notify(5, large, Priority::bulk).has_value()) ++sent;
           EXPECT_TRUE(peer->call(record, 1, "real", 5s));
         });
    when([&] { return record.ends == 1 && server->handler.notices.size() == sent; },
         [&] { close_all(); });
  });
  EXPECT_EQ(record.text, "pong real");
  EXPECT_GE(sent, kBulkQueueBytes / (kMaxPayload + kFrameHeaderBytes));
  EXPECT_TRUE(std::ranges::all_of(server->handler.notices, [&](const std::string& notice) {
    return notice.size() == large.size() + std::string("hv1: ").size();
  }));
}

TEST_F(UringRpcTest, AnAddressThatThisHostLacksIsWaitedFor) {
  server = std::make_unique<TestListener>(loop(), loop(),
                                          std::vector{endpoint("192.0.2.1:7000"), address});
  peer = nullptr;
  run([&] {
    connect();
    when([&] { return peer->up(); }, [&] { close_all(); });
  });
}

TEST_F(UringRpcTest, TheListenerRestartsAndThePeerComesBack) {
  CallRecord lost, after;
  std::unique_ptr<TestListener> successor;
  run([&] {
    connect();
    when([&] { return peer->up(); }, [&] { EXPECT_TRUE(peer->call(lost, 2, "", 60s)); });
    when([&] { return server->handler.kept.size() == 1; }, [&] { server->close(); });
    when([&] { return server->listener == nullptr && peer->downs == 1; },
         [&] {
           successor = std::make_unique<TestListener>(loop(), loop(), std::vector{address});
           EXPECT_TRUE(successor->listener->start().has_value());
         });
    when([&] { return peer->up(); }, [&] { EXPECT_TRUE(peer->call(after, 1, "again", 5s)); });
    when([&] { return after.ends == 1; },
         [&] {
           server = std::move(successor);
           close_all();
         });
  });
  EXPECT_EQ(lost.ends, 1);
  EXPECT_EQ(lost.outcome, CallOutcome::lost);
  EXPECT_EQ(after.text, "pong again");
}

}  // namespace
}  // namespace holdfast::rpc
