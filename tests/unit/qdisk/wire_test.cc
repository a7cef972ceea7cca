#include "qdisk/wire.h"

#include <gmock/gmock.h>

#include <functional>
#include <string>
#include <vector>

#include "qdisk/messages.pb.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

using ::testing::HasSubstr;

constexpr int kRandomValues = 300;
constexpr Epoch kLastOfGeneration = (Epoch{1} << kForcedByShift) - 1;

io::Instant instant(uint64_t ns) { return io::Instant(io::Duration(static_cast<int64_t>(ns))); }

class RandomMessages : public RandomRecords {
 public:
  using RandomRecords::RandomRecords;
  Request request() {
    Request made{.sent_at = instant(number() >> 2), .from = node(), .incarnation = positive()};
    if (number() % 4 != 0) made.decided = decision();
    if (number() % 2 == 0) made.store = ballot(made.from);
    return made;
  }
  Reply reply() {
    Reply made{.sent_at = instant(number() >> 2),
               .incarnation = positive(),
               .remembers = number() % 2 == 0};
    if (number() % 4 != 0) made.decided = decision();
    const uint64_t nodes = number() & number();
    for (const NodeId each : NodeSet(nodes)) made.blocks.push_back({each, ballot(each)});
    return made;
  }
};

Request sample_request() {
  return {.sent_at = instant(123'456'789),
          .from = 2,
          .incarnation = 7,
          .decided = sample_decision(),
          .store = sample_ballot()};
}

Reply sample_reply() {
  Reply reply{.sent_at = instant(123'456'789), .incarnation = 7, .decided = sample_decision()};
  reply.blocks.push_back({2, sample_ballot()});
  reply.blocks.push_back({3, {.epoch = 0x106, .mbal = 0x503, .incarnation = 1}});
  return reply;
}

TEST(Wire, RandomValuesComeBack) {
  RandomMessages random(1);
  for (int i = 0; i < kRandomValues; ++i) {
    const Heartbeat heartbeat = random.heartbeat();
    EXPECT_EQ(decode_heartbeat(base::as_bytes(encode(heartbeat))).value(), heartbeat);
    const Request request = random.request();
    EXPECT_EQ(decode_request(base::as_bytes(encode(request))).value(), request);
    const Reply reply = random.reply();
    EXPECT_EQ(decode_reply(base::as_bytes(encode(reply))).value(), reply);
  }
}

TEST(Wire, TheLongestReplyIsOneMessage) {
  Decision longest{.epoch = UINT64_MAX - 1,
                   .voters = NodeSet(UINT64_MAX),
                   .witness_votes = true,
                   .forced = true,
                   .config = {.version = UINT64_MAX}};
  longest.incarnations.fill(UINT32_MAX);
  longest.volumes.fill({.coordinator = kMaxNodes - 1, .term = UINT32_MAX});
  Reply reply{.sent_at = instant(uint64_t{1} << 62), .incarnation = UINT32_MAX, .decided = longest};
  for (NodeId node = 0; node < kMaxNodes; ++node) {
    const Ballot ballot = UINT64_MAX << 8 | node;
    reply.blocks.push_back({node,
                            {.epoch = longest.epoch,
                             .mbal = ballot,
                             .bal = ballot,
                             .incarnation = UINT32_MAX,
                             .value = longest}});
  }
  const std::string bytes = encode(reply);
  EXPECT_LE(bytes.size(), kMaxMessageBytes);
  EXPECT_EQ(decode_reply(base::as_bytes(bytes)).value(), reply);
}

TEST(Wire, TooLongAMessageIsNotLookedAt) {
  const std::string bytes(kMaxMessageBytes + 1, '\0');
  EXPECT_STREQ(decode_heartbeat(base::as_bytes(bytes)).error().what, "the message is too long");
}

// Each length of each message: an error, or another value, and nothing is read beyond the end.
template <class T>
void cut_everywhere(const T& value, base::Result<T> (*decode)(base::Bytes)) {
  const std::string bytes = encode(value);
  size_t refused = 0;
  for (size_t length = 0; length < bytes.size(); ++length) {
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
    const auto decoded = decode(cut);
    if (!decoded) {
      ++refused;
    } else {
      EXPECT_NE(*decoded, value) << length;
    }
  }
  EXPECT_GT(refused, bytes.size() / 3);
  EXPECT_FALSE(decode({}));
}

TEST(Wire, CutMessages) {
  cut_everywhere(sample_heartbeat(), decode_heartbeat);
  cut_everywhere(sample_request(), decode_request);
  cut_everywhere(sample_reply(), decode_reply);
}

TEST(Wire, GarbageIsRefusedWithoutHarm) {
  RandomMessages random(2);
  const std::string good = encode(sample_reply());
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = good;
    bytes[random.number() % bytes.size()] = static_cast<char>(random.number());
    const auto decoded = decode_reply(base::as_bytes(bytes));
    if (!decoded) continue;
    EXPECT_EQ(decode_reply(base::as_bytes(encode(*decoded))).value(), *decoded);
  }
}

// --- every field out of its range

template <class Message>
struct Case {
  const char* why;
  std::function<void(Message&)> spoil;
};

template <class Message, class T>
void refuses(const std::string& good, base::Result<T> (*decode)(base::Bytes),
             const std::vector<Case<Message>>& cases) {
  ASSERT_TRUE(decode(base::as_bytes(good)));
  for (const Case<Message>& each : cases) {
    Message message;
    ASSERT_TRUE(message.ParseFromString(good));
    each.spoil(message);
    const auto decoded = decode(base::as_bytes(message.SerializeAsString()));
    ASSERT_FALSE(decoded) << each.why;
    EXPECT_EQ(decoded.error().code, base::Errc::protocol);
    EXPECT_THAT(decoded.error().what, HasSubstr(each.why));
  }
}

TEST(Wire, HeartbeatsOutOfRange) {
  using M = messages::Heartbeat;
  refuses<M>(encode(sample_heartbeat()), decode_heartbeat,
             {{"no such node", [](M& m) { m.set_node(64); }},
              {"no such node", [](M& m) { m.set_node(256); }},
              {"no such node", [](M& m) { m.set_node(kNoNode); }},
              {"state", [](M& m) { m.set_state(static_cast<messages::NodeState>(4)); }},
              {"state", [](M& m) { m.set_state(static_cast<messages::NodeState>(-1)); }},
              {"state", [](M& m) { m.set_state(static_cast<messages::NodeState>(256)); }},
              {"watchdog", [](M& m) { m.set_watchdog(static_cast<messages::WatchdogKind>(3)); }},
              {"incarnation", [](M& m) { m.set_incarnation(0); }},
              {"follow", [](M& m) { m.set_epoch(kLastOfGeneration); }},
              {"follow", [](M& m) { m.set_quiesced(UINT64_MAX); }},
              {"follow", [](M& m) { m.set_fenced(UINT64_MAX); }},
              {"networks", [](M& m) { m.add_heard_net(1); }},
              {"volumes", [](M& m) { m.set_volumes_ok(0x10000); }}});
}

// Where a decision stands does not matter to these.
template <class M>
std::vector<Case<M>> decisions(const std::function<messages::Decision&(M&)>& in) {
  using D = messages::Decision;
  const std::vector<Case<D>> cases = {
      {"epoch 0", [](D& d) { d.set_epoch(0); }},
      {"follow", [](D& d) { d.set_epoch(kLastOfGeneration); }},
      {"too many nodes", [](D& d) { d.add_incarnations(0); }},
      {"length", [](D& d) { d.set_witness(std::string(15, 'w')); }},
      {"length", [](D& d) { d.clear_config_digest(); }},
      {"length", [](D& d) { d.set_config_digest(std::string(33, 'w')); }},
      {"lacks its term", [](D& d) { d.add_terms(1); }},
      {"lacks its term", [](D& d) { d.clear_terms(); }},
      {"too many volumes",
       [](D& d) {
         d.add_coordinators(0);
         d.add_terms(1);
       }},
      {"no such node", [](D& d) { d.set_coordinators(1, 65); }},
      {"no such node", [](D& d) { d.set_coordinators(1, UINT32_MAX); }},
      {"term 0", [](D& d) { d.set_terms(0, 0); }}};
  std::vector<Case<M>> made;
  for (const Case<D>& each : cases) {
    made.push_back({each.why, [in, spoil = each.spoil](M& m) { spoil(in(m)); }});
  }
  return made;
}

template <class M>
std::vector<Case<M>> blocks(const std::function<messages::Block&(M&)>& in) {
  using B = messages::Block;
  const std::vector<Case<B>> cases = {{"ballot for epoch 0", [](B& b) { b.set_epoch(0); }},
                                      {"another epoch", [](B& b) { b.set_epoch(b.epoch() + 1); }},
                                      {"follow", [](B& b) { b.set_epoch(UINT64_MAX); }},
                                      {"incarnation", [](B& b) { b.set_incarnation(0); }},
                                      {"of no ballot", [](B& b) { b.set_mbal(0); }},
                                      {"of no ballot", [](B& b) { b.set_mbal(2); }},
                                      {"of another node", [](B& b) { b.set_mbal(0x403); }},
                                      {"no ballot of this node", [](B& b) { b.set_bal(0x303); }},
                                      {"no ballot of this node", [](B& b) { b.set_bal(0x502); }},
                                      {"no ballot of this node", [](B& b) { b.set_bal(2); }},
                                      {"without", [](B& b) { b.set_bal(0); }},
                                      {"without", [](B& b) { b.clear_value(); }}};
  std::vector<Case<M>> made;
  for (const Case<B>& each : cases) {
    made.push_back({each.why, [in, spoil = each.spoil](M& m) { spoil(in(m)); }});
  }
  return made;
}

TEST(Wire, RequestsOutOfRange) {
  using M = messages::Request;
  const std::string good = encode(sample_request());
  refuses<M>(good, decode_request,
             {{"no such node", [](M& m) { m.set_from(64); }},
              {"of another node", [](M& m) { m.set_from(3); }},
              {"incarnation", [](M& m) { m.set_incarnation(0); }},
              {"clock", [](M& m) { m.set_sent_at_ns((uint64_t{1} << 62) + 1); }},
              {"clock", [](M& m) { m.set_sent_at_ns(UINT64_MAX); }}});
  refuses(good, decode_request,
          decisions<M>([](M& m) -> messages::Decision& { return *m.mutable_decided(); }));
  refuses(good, decode_request,
          blocks<M>([](M& m) -> messages::Block& { return *m.mutable_store(); }));
}

TEST(Wire, RepliesOutOfRange) {
  using M = messages::Reply;
  const std::string good = encode(sample_reply());
  refuses<M>(good, decode_reply,
             {{"incarnation", [](M& m) { m.set_incarnation(0); }},
              {"clock", [](M& m) { m.set_sent_at_ns(UINT64_MAX); }},
              {"no such node", [](M& m) { m.mutable_blocks(0)->set_node(64); }},
              {"of another node", [](M& m) { m.mutable_blocks(0)->set_node(1); }},
              {"two blocks", [](M& m) { *m.add_blocks() = m.blocks(0); }},
              {"epoch 0", [](M& m) { m.mutable_blocks(0)->clear_block(); }}});
  refuses(good, decode_reply,
          decisions<M>([](M& m) -> messages::Decision& { return *m.mutable_decided(); }));
  refuses(good, decode_reply, decisions<M>([](M& m) -> messages::Decision& {
            return *m.mutable_blocks(0)->mutable_block()->mutable_value();
          }));
  refuses(good, decode_reply, blocks<M>([](M& m) -> messages::Block& {
            return *m.mutable_blocks(0)->mutable_block();
          }));
}

TEST(Wire, WhatIsLeftOutIsNone) {
  messages::Heartbeat heartbeat;
  heartbeat.set_incarnation(1);
  const auto least = decode_heartbeat(base::as_bytes(heartbeat.SerializeAsString()));
  EXPECT_EQ(least.value(), (Heartbeat{.node = 0, .incarnation = 1, .remembers = false}));
  messages::Request request;
  request.set_incarnation(1);
  EXPECT_EQ(decode_request(base::as_bytes(request.SerializeAsString())).value(),
            (Request{.from = 0, .incarnation = 1}));
}

}  // namespace
}  // namespace holdfast::qdisk
