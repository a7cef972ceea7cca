// Starting, looking at and stopping what is served.

#include "target/node_start.h"

#include "tests/unit/target/node_fakes.h"

namespace holdfast::target {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

bool is_served(const StoredDisk& disk) { return disk.served_bytes == 64 * kMiB; }

class NodeStartTest : public NodeTest {};

// --- start

TEST_F(NodeStartTest, StartPublishesBeforeItListens) {
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->start(make_config(), {{&shard0, &loop0}, {&shard1, &loop1}}, std::move(reply));
  EXPECT_THAT(network.accepting, IsEmpty());
  world.settle();
  EXPECT_TRUE(slot->value().has_value());
  EXPECT_THAT(network.accepting, SizeIs(1));
  EXPECT_THAT(shard1.units, SizeIs(2));
  EXPECT_EQ(map().find_target(kTarget)->luns.at(1), unit("csv1"));
  EXPECT_NE(state("csv1", shard1).backing, nullptr);
  EXPECT_EQ(state("csv1", shard1).description.capacity_blocks, 64 * kMiB / 512);
}

TEST_F(NodeStartTest, ABrokenDiskOfTheFileStartsNothing) {
  opener.errors["/srv/csv1"] = base::Errc::permission;
  const auto outcome = start(make_config());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("disk `csv1`: /srv/csv1: cannot be opened")));
  EXPECT_THAT(journal, IsEmpty());
  EXPECT_THAT(network.listening, IsEmpty());
  EXPECT_FALSE(opener.is_open("/srv/witness"));
}

// An empty file under the old identity would be taken for the data that was there: mostly its file
// system is not mounted.
TEST_F(NodeStartTest, AFileThatWasServedAndIsGoneIsNotMadeAnew) {
  opener.absent = {"/srv/csv1"};
  start();  // new: made
  EXPECT_TRUE(std::ranges::all_of(store.state.disks, is_served));
  destroy_node();
  shard0.units.clear();
  shard1.units.clear();
  make_node();
  const auto outcome = start(make_config());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("/srv/csv1: this file is gone")));
  EXPECT_FALSE(opener.is_open("/srv/witness"));
}

TEST_F(NodeStartTest, AStartThatIsRefusedServesNothing) {
  network.taken = "10.1.0.10:3260";
  ASSERT_FALSE(start(make_config()).has_value());
  EXPECT_TRUE(std::ranges::none_of(store.state.disks, is_served));
}

TEST_F(NodeStartTest, ThatADiskWasServedIsNotedWhenTheStoreHasRoomAgain) {
  store.fails = true;
  start();
  EXPECT_TRUE(std::ranges::none_of(store.state.disks, is_served));
  world.advance(kNoteAgain);
  store.fails = false;
  EXPECT_TRUE(std::ranges::none_of(store.state.disks, is_served));
  world.advance(kNoteAgain);
  EXPECT_TRUE(std::ranges::all_of(store.state.disks, is_served));
}

TEST_F(NodeStartTest, APortalThatCannotBeHadStartsNothing) {
  network.taken = "10.1.0.10:3260";
  const auto outcome = start(make_config());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_THAT(outcome.error(), ElementsAre(HasSubstr("portal 10.1.0.10:3260")));
  EXPECT_THAT(network.accepting, IsEmpty());
}

TEST_F(NodeStartTest, ADamagedStateStartsNothing) {
  store.broken = true;
  EXPECT_FALSE(start(make_config()).has_value());
}

TEST_F(NodeStartTest, ALockedDiskIsServedOnceItsLockIsOurs) {
  opener.errors["/srv/csv1"] = base::Errc::busy;
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->start(make_config(), {{&shard0, &loop0}, {&shard1, &loop1}}, std::move(reply));
  world.advance(4900ms);
  EXPECT_FALSE(slot->has_value());  // it may still come
  world.advance(100ms);
  ASSERT_TRUE(slot->has_value());
  EXPECT_TRUE((*slot)->has_value());
  EXPECT_EQ(state("csv1", shard1).backing, nullptr);
  EXPECT_NE(state("witness", shard1).backing, nullptr);
  EXPECT_GE(opener.attempts["/srv/csv1"], 24);
  EXPECT_THAT(status().disks[1].state, HasSubstr("opening: locked by another process"));

  opener.errors.clear();
  world.advance(200ms);
  EXPECT_NE(state("csv1", shard1).backing, nullptr);
  EXPECT_EQ(status().disks[1].state, "ready");
}

TEST_F(NodeStartTest, ALockThatIsGivenUpSoonDelaysTheStartOnlyThatLong) {
  opener.errors["/srv/csv1"] = base::Errc::busy;
  auto [slot, reply] = expect<NodeControl::Outcome>();
  node->start(make_config(), {{&shard0, &loop0}, {&shard1, &loop1}}, std::move(reply));
  world.advance(1s);
  opener.errors.clear();
  world.advance(200ms);
  EXPECT_TRUE(slot->has_value());
}

// --- sessions and the end

TEST_F(NodeStartTest, SessionCommands) {
  start();
  admit(session_id(1, 4), nexus("iqn.a"));
  ASSERT_TRUE(ask([&](auto reply) {
                node->session_request_logout(session_id(1, 4), std::move(reply));
              }).has_value());
  EXPECT_THAT(shard1.logouts, ElementsAre(session_id(1, 4)));
  ASSERT_TRUE(
      ask([&](auto reply) { node->session_drop(session_id(1, 4), std::move(reply)); }).has_value());
  EXPECT_THAT(shard1.dropped, ElementsAre(session_id(1, 4)));
  EXPECT_FALSE(
      ask([&](auto reply) { node->session_drop(session_id(1, 4), std::move(reply)); }).has_value());
}

TEST_F(NodeStartTest, StatusAddsUpAndHidesSecrets) {
  Config config = make_config();
  config.targets[0].initiators[0].chap =
      daemon::ChapConfig{.user = "hv1", .secret_file = "/etc/s", .secret = "do not show this"};
  ASSERT_TRUE(start(config).has_value());
  LunCounters counters;
  counters.reads = 5;
  counters.read_latency.buckets[3] = 2;
  shard0.status_now.counters = {{unit("csv1"), counters}};
  shard1.status_now.counters = {{unit("csv1"), counters}};
  shard0.status_now.logins_failed = 1;
  shard1.status_now.logins_failed = 2;
  const NodeStatus now = status();
  EXPECT_EQ(now.disks[1].counters.reads, 10u);
  EXPECT_EQ(now.disks[1].counters.read_latency.buckets[3], 4u);
  EXPECT_EQ(now.disks[0].counters.reads, 0u);
  EXPECT_EQ(now.logins_failed, 3u);
  EXPECT_EQ(now.threads, 2u);
  EXPECT_EQ(now.targets[0].initiators[0].chap->secret, "");
  EXPECT_EQ(now.disks[1].mapped.at(0).lun, 1);
  EXPECT_EQ(now.disks[1].uuid, "00000000-0000-0000-0000-000000000002");
  EXPECT_EQ(now.alua.at(0).state, "active/optimized");
}

TEST_F(NodeStartTest, ShutdownStopsListeningAndWaitsForTheShards) {
  start();
  shard1.holds = true;
  auto [slot, reply] = expect<bool>();
  node->shutdown(std::move(reply));
  world.settle();
  EXPECT_THAT(network.listening, IsEmpty());
  EXPECT_FALSE(slot->has_value());
  shard1.let_go();
  world.settle();
  EXPECT_EQ(*slot, true);
  node.reset();
}

TEST_F(NodeStartTest, AStalledBackingDoesNotHoldTheEnd) {
  start();
  shard1.holds = true;
  auto [slot, reply] = expect<bool>();
  node->shutdown(std::move(reply));
  world.advance(4s);
  EXPECT_EQ(*slot, false);
  shard1.let_go();
  world.settle();
  node.reset();
}

}  // namespace
}  // namespace holdfast::target
