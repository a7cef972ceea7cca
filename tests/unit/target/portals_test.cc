// Listening and placement.

#include "target/portals.h"

#include "tests/unit/target/node_fakes.h"

namespace holdfast::target {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PortalsTest : public NodeTest {};

TEST_F(PortalsTest, ConnectionsGoWhereTheFewestAre) {
  start();
  journal.clear();
  shard0.load_now = {.connections = 3, .busy_permille = 0};
  shard1.load_now = {.connections = 1, .busy_permille = 900};
  // Those on their way count: the shards' own numbers do not know them yet.
  for (int socket = 1; socket <= 3; ++socket) {
    network.arrive("10.1.0.10:3260", socket);
    loop0.step();
  }
  world.settle();
  EXPECT_EQ(count("shard1 adopt"), 2u);
  EXPECT_EQ(count("shard0 adopt"), 1u);  // a tie: the idler one
  EXPECT_EQ(status().connections_total, 3u);
}

TEST_F(PortalsTest, TooManyConnectionsAreRefused) {
  Config config = make_config();
  config.max_connections = 4;
  ASSERT_TRUE(start(config).has_value());
  shard0.load_now.connections = 2;
  shard1.load_now.connections = 2;
  network.arrive("10.1.0.10:3260", 7);
  world.settle();
  EXPECT_THAT(network.closed, ElementsAre(7));
  EXPECT_EQ(status().connections_refused, 1u);
  shard1.load_now.connections = 1;
  network.arrive("10.1.0.10:3260", 8);
  world.settle();
  EXPECT_EQ(count("adopt 8"), 1u);
}

TEST_F(PortalsTest, AnAddressThatIsAbsentAtTheStartIsWaitedFor) {
  network.absent = {"10.2.0.10:3260"};
  Config config = make_config();
  config.portal_groups[0].portals.push_back(io::Endpoint::parse("10.2.0.10:3260").value());
  ASSERT_TRUE(start(config).has_value());
  EXPECT_TRUE(network.listening.contains("10.1.0.10:3260"));
  ASSERT_EQ(status().portals.size(), 2u);
  EXPECT_THAT(status().portals[1].state, HasSubstr("does not have the address"));
  world.advance(kAddressRetry);
  EXPECT_FALSE(network.listening.contains("10.2.0.10:3260"));
  network.absent.clear();
  world.advance(kAddressRetry);
  EXPECT_EQ(status().portals[1].state, "listening");
  network.arrive("10.2.0.10:3260", 7);
  world.settle();
  EXPECT_EQ(count("adopt 7"), 1u);
}

TEST_F(PortalsTest, WithoutAnyOfItsAddressesNothingStarts) {
  network.absent = {"10.1.0.10:3260", "10.2.0.10:3260"};
  EXPECT_FALSE(start(make_config()).has_value());
}

TEST_F(PortalsTest, OutOfDescriptorsTheOldestLoginGivesWay) {
  start();
  shard0.load_now = {.connections = 5, .logging_in = 1};
  shard1.load_now = {.connections = 5, .logging_in = 3};
  network.arrive("10.1.0.10:3260", -EMFILE);
  world.settle();
  EXPECT_EQ(count("shard1 drop oldest login"), 1u);
  const int before = network.accepts;
  world.advance(2ms);  // its descriptor is free soon, and others wait behind
  EXPECT_EQ(network.accepts, before + 1);
  // Only sessions are left: none of them does.
  shard0.load_now.logging_in = shard1.load_now.logging_in = 0;
  network.arrive("10.1.0.10:3260", -EMFILE);
  world.settle();
  EXPECT_EQ(count("drop oldest login"), 1u);
}

TEST_F(PortalsTest, OutOfDescriptorsItDoesNotSpin) {
  start();
  const int before = network.accepts;
  network.arrive("10.1.0.10:3260", -EMFILE);
  world.advance(99ms);
  EXPECT_EQ(network.accepts, before);
  EXPECT_THAT(status().portals[0].state, HasSubstr("failed"));
  world.advance(1ms);
  EXPECT_EQ(network.accepts, before + 1);
  network.arrive("10.1.0.10:3260", -ECONNABORTED);
  world.settle();
  EXPECT_EQ(network.accepts, before + 2);
}

}  // namespace
}  // namespace holdfast::target
