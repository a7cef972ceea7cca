#include "common/rpc/link.h"

#include <algorithm>

#include "tests/unit/rpc/sim_fixture.h"

namespace holdfast::rpc {
namespace {

struct Side final : LinkEvents {
  Side(io::Loop& loop, io::Network& network)
      : link(std::make_unique<Link>(loop, network, Connection::Options{}, handler, *this)) {}
  void on_up(Link&) noexcept override { ++ups; }
  void on_down(Link&, const ConnectionEnd& why) noexcept override {
    end = why;
    link.reset();
  }
  base::Result<> call(CallRecord& record, uint16_t type, std::string_view text,
                      io::Duration deadline = 1s) const {
    return link->call(type, base::as_bytes(text), {.deadline = deadline}, record.done());
  }
  int ups = 0;
  std::optional<ConnectionEnd> end;
  TestHandler handler;
  std::unique_ptr<Link> link;
};

class LinkTest : public SimTest {
 protected:
  LinkTest() {
    const TestCluster& cluster = TestCluster::get();
    const io::Socket listener = net_two.listen(endpoint(kPort)).value();
    net_two.accept(accept_op_, listener);
    client.link->connection().connect(cluster.one, "hv2", endpoint(kPort), from_one());
    EXPECT_TRUE(until([&] { return client.ups == 1 && server.ups == 1; }));
    net_two.close(listener, false);
  }
  ~LinkTest() override { end(); }
  void end() {
    if (client.link) client.link->connection().begin_close("the test ends");
    EXPECT_TRUE(until([&] { return client.end.has_value() && server.end.has_value(); }));
  }
  void on_accepted(int32_t socket) noexcept {
    server.link->connection().accept(TestCluster::get().two, socket);
  }

  Side client{loop_one, net_one};
  Side server{loop_two, net_two};
  io::OpOf<LinkTest, &LinkTest::on_accepted> accept_op_{*this};
};

TEST_F(LinkTest, BothSidesCallAndAreAnswered) {
  EXPECT_EQ(client.link->node(), "hv2");
  EXPECT_EQ(server.link->node(), "hv1");
  CallRecord up, down;
  ASSERT_TRUE(client.call(up, 1, "one"));
  ASSERT_TRUE(server.call(down, 1, "two"));
  EXPECT_EQ(up.ends + down.ends, 0);
  ASSERT_TRUE(until([&] { return up.ends + down.ends == 2; }));
  EXPECT_EQ(up.outcome, CallOutcome::reply);
  EXPECT_EQ(up.text, "pong one");
  EXPECT_EQ(down.text, "pong two");
  EXPECT_EQ(client.link->outstanding() + server.link->unanswered(), 0u);
}

TEST_F(LinkTest, NoticesArriveInOrderWithTheirSender) {
  for (const char* text : {"a", "b", "c"}) {
    ASSERT_TRUE(client.link->notify(9, base::as_bytes(std::string_view(text))));
  }
  ASSERT_TRUE(until([&] { return server.handler.notices.size() == 3; }));
  EXPECT_EQ(server.handler.notices, (std::vector<std::string>{"hv1: a", "hv1: b", "hv1: c"}));
  EXPECT_EQ(server.link->unanswered(), 0u);
}

TEST_F(LinkTest, AnswersMayComeLateAndInAnyOrder) {
  CallRecord first, second;
  ASSERT_TRUE(client.call(first, 2, "1"));
  ASSERT_TRUE(client.call(second, 2, "2"));
  ASSERT_TRUE(until([&] { return server.handler.kept.size() == 2; }));
  EXPECT_EQ(server.link->unanswered(), 2u);
  ASSERT_TRUE(server.handler.kept[1].reply(base::as_bytes(std::string_view("of the second"))));
  ASSERT_TRUE(server.handler.kept[0].reply(base::as_bytes(std::string_view("of the first"))));
  EXPECT_FALSE(server.handler.kept[0].pending());
  ASSERT_TRUE(until([&] { return first.ends + second.ends == 2; }));
  EXPECT_EQ(first.text, "of the first");
  EXPECT_EQ(second.text, "of the second");
}

TEST_F(LinkTest, ARefusalSaysWhy) {
  CallRecord unknown, dropped, declined;
  ASSERT_TRUE(client.call(unknown, 77, ""));
  ASSERT_TRUE(client.call(dropped, 2, ""));
  ASSERT_TRUE(client.call(declined, 2, ""));
  ASSERT_TRUE(until([&] { return server.handler.kept.size() == 2; }));
  server.handler.kept[1].refuse(Refusal::declined);
  server.handler.kept.clear();
  ASSERT_TRUE(until([&] { return unknown.ends + dropped.ends + declined.ends == 3; }));
  for (const CallRecord* record : {&unknown, &dropped, &declined}) {
    EXPECT_EQ(record->outcome, CallOutcome::refused);
  }
  EXPECT_EQ(unknown.text, "the peer does not know this type of request");
  EXPECT_EQ(dropped.text, "the peer dropped it without an answer");
  EXPECT_EQ(declined.text, "the peer declined it");
  EXPECT_EQ(server.link->unanswered(), 0u);
}

TEST_F(LinkTest, ADeadlineEndsTheCallAndItsLateAnswerCountsForNothing) {
  CallRecord record;
  const io::Duration before = world.now();
  ASSERT_TRUE(client.call(record, 2, "", 300ms));
  ASSERT_TRUE(until([&] { return record.ends == 1; }));
  EXPECT_EQ(record.outcome, CallOutcome::timed_out);
  EXPECT_GE(world.now() - before, 300ms);
  EXPECT_LE(world.now() - before, 310ms);
  ASSERT_TRUE(server.handler.kept[0].reply({}));
  ASSERT_TRUE(until([&] { return client.link->late_answers() == 1; }));
  EXPECT_EQ(record.ends, 1);
  CallRecord next;
  ASSERT_TRUE(client.call(next, 1, "next"));
  ASSERT_TRUE(until([&] { return next.ends == 1; }));
  EXPECT_EQ(next.text, "pong next");
}

TEST_F(LinkTest, TheEndOfTheConnectionEndsEachCallOnceInOrder) {
  std::vector<int> order;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(
        client.link->call(2, {}, {.deadline = 60s}, [&order, i](const CallResult& result) noexcept {
          EXPECT_EQ(result.outcome, CallOutcome::lost);
          order.push_back(i);
        }));
  }
  ASSERT_TRUE(until([&] { return server.handler.kept.size() == 10; }));
  EXPECT_EQ(fabric.reset_between(kOne, kTwo), 1u);
  ASSERT_TRUE(until([&] { return client.end.has_value() && server.end.has_value(); }));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  // Who still has to answer notices that nobody waits.
  EXPECT_EQ(server.handler.kept[0].reply({}).error().code, base::Errc::closed);
  EXPECT_TRUE(server.handler.kept[0].pending());
  server.handler.kept.clear();
}

TEST_F(LinkTest, AtMostSoManyCallsAreOutstandingAndUnanswered) {
  std::vector<CallRecord> records(kMaxCalls + 1);
  for (size_t i = 0; i < kMaxCalls; ++i) ASSERT_TRUE(client.call(records[i], 2, "", 60s));
  const auto more = client.call(records[kMaxCalls], 2, "", 60s);
  ASSERT_FALSE(more.has_value());
  EXPECT_EQ(more.error().code, base::Errc::limit);
  ASSERT_TRUE(until([&] { return server.handler.kept.size() == kMaxUnanswered; }));
  // The caller may give up earlier and call again: the one who has to answer has a bound, too.
  ASSERT_TRUE(server.handler.kept.back().reply({}));
  ASSERT_TRUE(until([&] { return client.link->outstanding() == kMaxCalls - 1; }));
  EXPECT_EQ(records[kMaxCalls].ends, 0);
  EXPECT_TRUE(client.call(records[kMaxCalls], 2, "", 60s));
  end();
  EXPECT_TRUE(std::ranges::all_of(records, [](const CallRecord& each) { return each.ends == 1; }));
}

TEST_F(LinkTest, MoreUnansweredRequestsThanAllowedAreRefusedAsBusy) {
  std::vector<CallRecord> forgotten(kMaxUnanswered);
  for (CallRecord& record : forgotten) ASSERT_TRUE(client.call(record, 2, "", 100ms));
  ASSERT_TRUE(until([&] { return client.link->outstanding() == 0; }));
  CallRecord record;
  ASSERT_TRUE(client.call(record, 2, "", 1s));
  ASSERT_TRUE(until([&] { return record.ends == 1; }));
  EXPECT_EQ(record.outcome, CallOutcome::refused);
  EXPECT_EQ(record.text, "the peer has too many unanswered requests");
}

TEST_F(LinkTest, ACallbackMayCallAgain) {
  int ended = 0;
  std::function<void()> again = [&] {
    (void)client.link->call(1, {}, {.deadline = 1s}, [&](const CallResult&) noexcept {
      if (++ended < 5) again();
    });
  };
  again();
  ASSERT_TRUE(until([&] { return ended == 5; }));
  EXPECT_EQ(client.link->outstanding(), 0u);
}

TEST_F(LinkTest, AReplyThatFindsNoRoomStaysTheAnswerersDuty) {
  CallRecord record;
  ASSERT_TRUE(client.call(record, 2, "", 60s));
  ASSERT_TRUE(until([&] { return server.handler.kept.size() == 1; }));
  Responder responder = std::move(server.handler.kept[0]);
  EXPECT_FALSE(server.handler.kept[0].pending());
  const std::vector<uint8_t> large(kMaxPayload + 1);
  EXPECT_EQ(responder.reply(large).error().code, base::Errc::invalid_argument);
  const base::Bytes fits = base::Bytes(large).first(kMaxPayload);
  while (server.link->notify(5, fits).has_value()) {
  }
  EXPECT_EQ(responder.reply(fits).error().code, base::Errc::limit);
  EXPECT_TRUE(responder.pending());
  EXPECT_EQ(server.link->unanswered(), 1u);
  ASSERT_TRUE(until([&] { return server.link->connection().queued_bytes() == 0; }));
  ASSERT_TRUE(responder.reply(fits));
  ASSERT_TRUE(until([&] { return record.ends == 1; }));
  EXPECT_EQ(record.text.size(), kMaxPayload);
}

TEST_F(LinkTest, AnswersThatMakeNoSenseEndTheConnection) {
  const auto told = [&](const FrameHeader& header) {
    const uint8_t code = 1;
    const base::Bytes payload =
        header.kind == FrameKind::refusal ? base::Bytes(&code, 1) : base::Bytes();
    EXPECT_TRUE(server.link->connection().send(Priority::urgent, header, payload));
    EXPECT_TRUE(until([&] { return client.end.has_value(); }));
    return describe(*client.end);
  };
  EXPECT_EQ(told({.kind = FrameKind::reply, .type = 1, .id = 1}),
            "protocol error: an answer to what was never asked");
}

TEST_F(LinkTest, AnAnswerOfAnotherTypeEndsTheConnection) {
  CallRecord record;
  ASSERT_TRUE(client.call(record, 2, "", 60s));
  ASSERT_TRUE(server.link->connection().send(Priority::urgent,
                                             {.kind = FrameKind::reply, .type = 3, .id = 1}, {}));
  ASSERT_TRUE(until([&] { return client.end.has_value(); }));
  EXPECT_EQ(describe(*client.end), "protocol error: an answer of another type");
  EXPECT_EQ(record.outcome, CallOutcome::lost);
}

TEST_F(LinkTest, ASecondHelloEndsTheConnection) {
  ASSERT_TRUE(server.link->connection().send(Priority::urgent, {.kind = FrameKind::hello}, {}));
  ASSERT_TRUE(until([&] { return client.end.has_value(); }));
  EXPECT_EQ(client.end->kind, EndKind::protocol_error);
}

}  // namespace
}  // namespace holdfast::rpc
