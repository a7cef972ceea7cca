// Two proposers and three acceptors, the first two of which are the proposers' own: every order in
// which requests and replies may come, with a crash after each step and what begins again from what
// was durable. In none of them are two values decided.

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "qdisk/proposer.h"

namespace holdfast::qdisk {
namespace {

// A block of this test, in which a value is its version: a nibble each would do.
struct Small {
  Ballot mbal = 0;
  Ballot bal = 0;
  uint64_t version = 0;
};

constexpr Epoch kEpoch = 2;
constexpr NodeId kThird = 2;

Decision value(uint64_t version) { return {.epoch = kEpoch, .config = {.version = version}}; }

Small small(const BallotBlock& block) {
  return {block.mbal, block.bal, block.bal != 0 ? block.value.config.version : 0};
}

BallotBlock large(const Small& of) {
  BallotBlock block{.epoch = kEpoch, .mbal = of.mbal, .bal = of.bal, .incarnation = 1};
  if (of.bal != 0) block.value = value(of.version);
  return block;
}

void write(std::string& key, const Small& of) {
  for (const uint64_t each : {of.mbal >> 8, of.bal >> 8, of.bal & 0xff, of.version}) {
    key += static_cast<char>('a' + each);
  }
}

struct Message {
  NodeId proposer = 0;
  NodeId acceptor = 0;
  bool is_reply = false;
  std::array<Small, 2> blocks{};  // the first alone in a request

  std::string key() const {
    std::string key{static_cast<char>('0' + proposer), static_cast<char>('0' + acceptor),
                    is_reply ? 'r' : 'q'};
    for (const Small& block : blocks) write(key, block);
    return key;
  }
};

struct Rules {
  std::array<int, 2> ballots = {2, 1};  // how many each may begin
  bool late_replies = true;             // else a reply comes at once, or never
  bool restart_forgets = false;         // broken: a proposer begins again without its value
  bool third_forgets = false;           // broken: the third acceptor may lose all blocks
};

struct World {
  std::array<std::shared_ptr<const Acceptor>, 3> acceptors;  // shared while they are alike
  std::vector<Proposer> proposers;
  std::array<int, 2> begun{};
  std::array<Small, 2> greatest;  // that each proposer has seen in its first phase
  std::vector<Message> messages;
  bool third_forgot = false;
  std::vector<uint64_t> decided;
};

class Search {
 public:
  explicit Search(const Rules& rules) : rules_(rules) {}

  // The most values that any order has decided.
  size_t run() {
    World world;
    const Decision current{.epoch = kEpoch - 1, .voters = NodeSet(0b111)};
    for (NodeId node = 0; node < 3; ++node) {
      world.acceptors[node] =
          std::make_shared<Acceptor>(AcceptorState{.decided = current}, node, 1, true);
    }
    world.proposers = {Proposer(0, 1), Proposer(1, 1)};
    explore(world);
    return most_values_;
  }
  size_t states() const { return seen_.size(); }

 private:
  void explore(const World& world) {
    if (most_values_ > 1 || !seen_.insert(std::hash<std::string>{}(key(world))).second) return;
    most_values_ = std::max(most_values_, world.decided.size());
    for (size_t i = 0; i < world.messages.size(); ++i) {
      if (!matters(world, world.messages[i])) continue;
      World next = world;
      next.messages.erase(next.messages.begin() + static_cast<ptrdiff_t>(i));
      deliver(next, world.messages[i]);
      explore(next);
    }
    for (const NodeId node : {NodeId{0}, NodeId{1}}) {
      if (world.begun[node] == rules_.ballots[node]) continue;
      World next = world;
      if (world.begun[node] != 0) crash(next, node);
      begin(next, node);
      explore(next);
    }
    if (rules_.third_forgets && !world.third_forgot) {
      World next = world;
      next.third_forgot = true;
      next.acceptors[kThird] = std::make_shared<Acceptor>(
          AcceptorState{.decided = world.acceptors[kThird]->decided()}, kThird, 1, true);
      explore(next);
    }
  }

  static void crash(World& world, NodeId node) {
    world.proposers[node] = Proposer(node, 1);
    // Its connections end with it; what it has sent may still come.
    std::erase_if(world.messages,
                  [&](const Message& each) { return each.is_reply && each.proposer == node; });
  }

  void begin(World& world, NodeId node) {
    BallotBlock own = world.acceptors[node]->block(node);
    if (rules_.restart_forgets) own = {.epoch = own.epoch, .mbal = own.mbal};
    const uint64_t wish = 1 + 2 * static_cast<uint64_t>(world.begun[node]++) + node;
    world.proposers[node].begin(world.acceptors[node]->decided(), own, value(wish));
    world.greatest[node] = {};
    send(world, node);
  }

  // As a member does: durable in its own acceptor first, which answers at once.
  void send(World& world, NodeId node) {
    const Small block = small(world.proposers[node].block());
    store(world, node, {.proposer = node, .acceptor = node, .blocks = {block}});
    for (NodeId acceptor = 0; acceptor < 3; ++acceptor) {
      if (acceptor == node) continue;
      world.messages.push_back({.proposer = node, .acceptor = acceptor, .blocks = {block}});
    }
    deliver(world, answer(world, node, node));
  }

  static bool store(World& world, NodeId acceptor, const Message& message) {
    const auto changed = std::make_shared<Acceptor>(*world.acceptors[acceptor]);
    if (!changed->store(message.proposer, large(message.blocks[0]))) return false;
    world.acceptors[acceptor] = changed;
    return true;
  }

  static Message answer(const World& world, NodeId acceptor, NodeId proposer) {
    const Acceptor& of = *world.acceptors[acceptor];
    return {.proposer = proposer,
            .acceptor = acceptor,
            .is_reply = true,
            .blocks = {small(of.block(0)), small(of.block(1))}};
  }

  void deliver(World& world, const Message& message) {
    const NodeId node = message.proposer;
    if (!message.is_reply) {
      // Refused as it is late: the reply would tell of another block, and not count.
      if (!store(world, message.acceptor, message)) return;
      const Message reply = answer(world, message.acceptor, node);
      if (!rules_.late_replies) return deliver(world, reply);
      world.messages.push_back(reply);
      return;
    }
    Proposer& proposer = world.proposers[node];
    if (!proposer.running()) return;
    Reply reply{.decided = Decision{.epoch = kEpoch - 1, .voters = NodeSet(0b111)}};
    for (const NodeId of : {NodeId{0}, NodeId{1}}) {
      if (message.blocks[of].mbal != 0) reply.blocks.push_back({of, large(message.blocks[of])});
    }
    for (const Small& each : message.blocks) {
      if (each.bal > world.greatest[node].bal) world.greatest[node] = each;
    }
    const uint64_t step = proposer.step();
    if (proposer.on_reply(message.acceptor, reply) == Proposer::State::decided) {
      const uint64_t version = proposer.value().config.version;
      if (std::ranges::find(world.decided, version) == world.decided.end()) {
        world.decided.push_back(version);
      }
    } else if (proposer.step() != step) {
      send(world, node);
    }
  }

  // Else it changes nothing, whenever it comes.
  static bool matters(const World& world, const Message& message) {
    if (message.is_reply) return world.proposers[message.proposer].running();
    const Small there = small(world.acceptors[message.acceptor]->block(message.proposer));
    return std::tie(message.blocks[0].mbal, message.blocks[0].bal) >
           std::tie(there.mbal, there.bal);
  }

  static std::string key(const World& world) {
    std::string key;
    for (const auto& acceptor : world.acceptors) {
      for (const NodeId node : {NodeId{0}, NodeId{1}}) write(key, small(acceptor->block(node)));
    }
    for (const NodeId node : {NodeId{0}, NodeId{1}}) {
      key += static_cast<char>('0' + world.begun[node]);
      key += static_cast<char>('0' + static_cast<int>(world.proposers[node].state()));
      write(key, small(world.proposers[node].block()));
      const bool first = world.proposers[node].state() == Proposer::State::phase1;
      write(key, first ? world.greatest[node] : Small{});
      for (NodeId acceptor = 0; acceptor < 3; ++acceptor) {
        key += world.proposers[node].has_answered(acceptor) ? '1' : '0';
      }
    }
    std::vector<std::string> messages;
    for (const Message& message : world.messages) {
      if (matters(world, message)) messages.push_back(message.key());
    }
    std::ranges::sort(messages);
    for (const std::string& message : messages) key += message;
    for (const uint64_t version : world.decided) key += static_cast<char>('0' + version);
    return key + (world.third_forgot ? "f" : "");
  }

  Rules rules_;
  size_t most_values_ = 0;
  std::unordered_set<size_t> seen_;
};

TEST(ProposerOrders, OneValueInEveryOrder) {
  Search search({.ballots = {1, 1}});
  EXPECT_EQ(search.run(), 1U);
  EXPECT_GT(search.states(), 3'000U);
}

TEST(ProposerOrders, OneValueWhereAProposerCrashesAfterAnyStepAndBeginsAgain) {
  for (const std::array<int, 2> ballots : {std::array{2, 1}, std::array{1, 2}}) {
    Search search({.ballots = ballots, .late_replies = false});
    EXPECT_EQ(search.run(), 1U);
    EXPECT_GT(search.states(), 2'000U);
  }
}

// What the search would find: were a proposer to begin again without what it had proposed, ...
TEST(ProposerOrders, AProposerThatForgetsItsValueWouldDecideTwice) {
  EXPECT_EQ(Search({.late_replies = false, .restart_forgets = true}).run(), 2U);
}

// ... and were an acceptor to answer that has lost what it had promised.
TEST(ProposerOrders, AnAcceptorWithoutMemoryWouldLetTwoValuesBeDecided) {
  EXPECT_EQ(Search({.ballots = {1, 1}, .third_forgets = true}).run(), 2U);
}

}  // namespace
}  // namespace holdfast::qdisk
