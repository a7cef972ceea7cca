// A node of two without devices, driven by hand: what leaves it, and when.

#include "qdisk/node.h"

#include <gmock/gmock.h>

#include "tests/sim/sim_loop.h"
#include "tests/sim/world.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;
using qdisk::Decision;
using qdisk::Epoch;
using qdisk::NodeRecord;
using testing::Each;
using testing::IsEmpty;
using testing::SizeIs;

constexpr Epoch kFirst = Epoch{1} << qdisk::kGenerationShift | 1;

Decision first() {
  Decision made{.epoch = kFirst, .voters = qdisk::NodeSet(0b11)};
  made.incarnations[0] = made.incarnations[1] = 1;
  return made;
}

class Network final : public qdisk::Transport {
 public:
  void set_receiver(Receiver* to) override { receiver = to; }
  void broadcast(const qdisk::Heartbeat& heartbeat) override { heartbeats.push_back(heartbeat); }
  void send(qdisk::NodeId, const qdisk::Request& request) override { requests.push_back(request); }
  void send(qdisk::NodeId, const qdisk::Reply& reply) override { replies.push_back(reply); }

  Receiver* receiver = nullptr;
  std::vector<qdisk::Heartbeat> heartbeats;
  std::vector<qdisk::Request> requests;
  std::vector<qdisk::Reply> replies;
};

// Answers when the test says so.
class Disk final : public qdisk::StateStore {
 public:
  void save(const NodeRecord& record, Done done) override {
    ASSERT(!done_);
    asked.push_back(record);
    done_ = std::move(done);
    if (prompt) answer({});
  }
  void answer(base::Result<> result) { std::exchange(done_, nullptr)(result); }
  bool waits() const { return done_ != nullptr; }

  std::vector<NodeRecord> asked;
  bool prompt = false;

 private:
  Done done_;
};

struct NodeScene final : qdisk::NodeListener {
  NodeScene() {
    const qdisk::NodeOptions options{
        .membership = {.self = 0,
                       .policy = {.mode = qdisk::QuorumMode::node_majority,
                                  .configured = qdisk::NodeSet(0b11)}},
        .record = {.acceptor = {.decided = first()}, .remembers = true}};
    in_loop([&] {
      node = qdisk::Node::create({loop, random, network, disk, *this}, options, {}).value();
    });
  }
  ~NodeScene() override {
    if (node != nullptr) in_loop([&] { node.reset(); });
  }
  void on_decision(const Decision& decision) override { decisions.push_back(decision); }
  void on_evicted() override { ++evictions; }

  void in_loop(std::function<void()> action) {
    bool done = false;
    loop.post([&]() noexcept {
      action();
      done = true;
    });
    ASSERT(world.run_until([&] { return done; }, 1s));
  }
  void start() {
    in_loop([&] { node->start(); });
    world.run_for(100ms);
  }
  // Asks the node to take a block, as node 1 would.
  void propose(uint64_t round) {
    in_loop([&] {
      network.receiver->on_request(
          {.from = 1,
           .incarnation = 1,
           .decided = first(),
           .store =
               qdisk::BallotBlock{.epoch = kFirst + 1, .mbal = round << 8 | 1, .incarnation = 1}});
    });
  }
  void answer(base::Result<> result) {
    in_loop([&] { disk.answer(result); });
  }

  SimWorld world{1};
  SimLoop& loop = world.make_process("node 0").make_loop();
  base::SeededRandom random{1};
  Network network;
  Disk disk;
  std::unique_ptr<qdisk::Node> node;
  std::vector<Decision> decisions;
  int evictions = 0;
};

TEST(Node, NothingLeavesBeforeWhatItDependsOnIsDurable) {
  NodeScene scene;
  scene.start();
  scene.propose(1);
  scene.world.run_for(3s);
  EXPECT_THAT(scene.network.replies, IsEmpty());
  ASSERT_THAT(scene.disk.asked, SizeIs(1));
  EXPECT_EQ(scene.disk.asked[0].acceptor.blocks[1].mbal, 257U);
  EXPECT_TRUE(scene.disk.asked[0].remembers);
  scene.answer({});
  EXPECT_THAT(scene.network.replies, SizeIs(1));
  EXPECT_THAT(scene.disk.asked, SizeIs(1));
}

TEST(Node, AfterASaveThatFailedNothingLeavesUntilOneSucceeds) {
  NodeScene scene;
  scene.start();
  scene.propose(1);
  scene.answer(base::fail(base::Errc::no_space, "full"));
  EXPECT_THAT(scene.network.replies, IsEmpty());
  const size_t heartbeats = scene.network.heartbeats.size();
  scene.world.run_for(5s);
  EXPECT_THAT(scene.network.heartbeats, SizeIs(heartbeats));
  ASSERT_THAT(scene.disk.asked, SizeIs(2));
  scene.disk.prompt = true;
  scene.answer({});
  scene.world.run_for(3s);
  EXPECT_GT(scene.network.heartbeats.size(), heartbeats);
}

// Each waits with its answer; those beyond the bound are lost, as on a network.
TEST(Node, WhileADiskHangsOnlySoMuchWaitsForIt) {
  constexpr size_t kAsked = 5000, kBound = 1024;
  NodeScene scene;
  scene.start();
  for (uint64_t round = 1; round <= kAsked; ++round) scene.propose(round);
  ASSERT_THAT(scene.disk.asked, SizeIs(1));
  scene.disk.prompt = true;
  scene.answer({});
  EXPECT_GT(scene.network.replies.size(), kBound / 2);
  EXPECT_LE(scene.network.replies.size(), kBound + 1);
  EXPECT_EQ(scene.disk.asked.back().acceptor.blocks[1].mbal, kAsked << 8 | 1);
}

TEST(Node, NobodyHearsThatItHasLeftBeforeItIsDurableThatThisLifeIsOver) {
  NodeScene scene;
  scene.start();
  scene.in_loop([&] { scene.node->leave(); });
  scene.network.heartbeats.clear();
  scene.world.run_for(5s);
  EXPECT_THAT(scene.network.heartbeats, IsEmpty());
  ASSERT_THAT(scene.disk.asked, SizeIs(1));
  EXPECT_TRUE(scene.disk.asked[0].ended);
  scene.answer({});
  scene.world.run_for(3s);
  ASSERT_FALSE(scene.network.heartbeats.empty());
  EXPECT_THAT(scene.network.heartbeats,
              Each(testing::Field(&qdisk::Heartbeat::state, qdisk::NodeState::stopped)));
}

TEST(Node, AForcedQuorumIsDurableBeforeItIsTold) {
  NodeScene scene;
  scene.start();
  scene.in_loop([&] { scene.node->force(); });
  EXPECT_THAT(scene.decisions, IsEmpty());
  scene.disk.prompt = true;
  scene.answer({});
  ASSERT_THAT(scene.decisions, SizeIs(1));
  EXPECT_EQ(qdisk::generation_of(scene.decisions[0].epoch), 2);
  EXPECT_EQ(scene.decisions[0].voters, qdisk::NodeSet::of(0));
  scene.world.run_for(2s);
  EXPECT_TRUE(scene.node->lease_valid());
}

TEST(Node, WhoIsEvictedIsToldOnceAndWhenItIsDurableThatItsLifeIsOver) {
  NodeScene scene;
  scene.start();
  Decision without = first();
  ++without.epoch;
  without.incarnations[0] = 0;
  scene.in_loop([&] {
    scene.network.receiver->on_request({.from = 1, .incarnation = 1, .decided = without});
  });
  EXPECT_EQ(scene.evictions, 0);
  EXPECT_TRUE(scene.disk.asked.back().ended);
  scene.disk.prompt = true;
  scene.answer({});
  scene.world.run_for(10s);
  EXPECT_EQ(scene.evictions, 1);
  EXPECT_THAT(scene.decisions, IsEmpty());
}

TEST(Node, ItsEndWaitsForTheSaveUnderWayAndNothingLeavesAnyMore) {
  NodeScene scene;
  scene.start();
  scene.propose(1);
  bool closed = false;
  scene.in_loop([&] { scene.node->close([&]() noexcept { closed = true; }); });
  scene.world.run_for(5s);
  EXPECT_FALSE(closed);
  EXPECT_EQ(scene.network.receiver, nullptr);
  scene.network.heartbeats.clear();
  scene.answer({});
  scene.world.run_for(1s);
  EXPECT_TRUE(closed);
  EXPECT_THAT(scene.network.replies, IsEmpty());
  EXPECT_THAT(scene.network.heartbeats, IsEmpty());
}

TEST(Node, WhatComesAfterItsEndHasBegunChangesNothing) {
  NodeScene scene;
  scene.start();
  scene.in_loop([&] {
    scene.node->close([]() noexcept {});
    scene.node->force();
  });
  scene.world.run_for(1s);
  EXPECT_THAT(scene.disk.asked, IsEmpty());
  EXPECT_THAT(scene.decisions, IsEmpty());
}

}  // namespace
}  // namespace holdfast::sim
