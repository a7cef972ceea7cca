#include "qdisk/view.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using std::chrono::milliseconds;

// The standard times: a network is down after 10 s, and a disk after 10 + 2 + 4 s.
class ViewTest : public testing::Test {
 protected:
  static Heartbeat of(NodeId node, uint64_t sequence, Incarnation incarnation = 1) {
    return {.node = node, .incarnation = incarnation, .sequence = sequence};
  }
  static Heartbeat hearing(NodeId node, NodeSet first, NodeSet second = {}) {
    Heartbeat heartbeat = of(node, 1);
    heartbeat.heard_net = {first, second};
    return heartbeat;
  }
  static io::Instant at(int ms) { return io::Instant(milliseconds(ms)); }

  View view_{0, Timers{}};
};

TEST_F(ViewTest, ANetworkIsHeardUntilItHasBeenSilentForItsTime) {
  view_.on_network(1, of(3, 1), at(1'000));
  EXPECT_EQ(view_.heard_net(1, at(10'999)), NodeSet::of(3));
  EXPECT_EQ(view_.heard_net(0, at(1'000)), NodeSet());
  EXPECT_EQ(view_.heard_net(1, at(11'000)), NodeSet());
  EXPECT_NE(view_.of(3, at(10'999)), nullptr);
  EXPECT_EQ(view_.of(3, at(11'000)), nullptr);
}

TEST_F(ViewTest, OneNetworkIsEnoughToBeHeard) {
  view_.on_network(0, of(3, 1), at(0));
  view_.on_network(1, of(3, 1), at(5'000));
  EXPECT_EQ(view_.heard(at(12'000)), NodeSet::of(3));
  EXPECT_EQ(view_.heard_net(0, at(12'000)), NodeSet());
}

// Messages that are no heartbeats show that the node is heard, not over which network.
TEST_F(ViewTest, AnyMessageShowsLifeButDoesNotHideALostNetwork) {
  view_.on_contact(3, at(0));
  EXPECT_EQ(view_.of(3, at(0)), nullptr) << "nothing is known of it yet";
  view_.on_network(0, of(3, 1), at(0));
  view_.on_contact(3, at(9'000));
  EXPECT_EQ(view_.heard(at(18'000)), NodeSet::of(3));
  view_.on_network(1, of(3, 2), at(18'000));
  view_.on_contact(3, at(18'500));
  EXPECT_EQ(view_.heard_net(0, at(18'999)), NodeSet::of(3));
  EXPECT_EQ(view_.heard_net(0, at(19'000)), NodeSet());
  EXPECT_EQ(view_.heard_net(1, at(19'000)), NodeSet::of(3));
}

// Its daemon was restarted and has heard nobody yet; or it was paused, and all it knows is old.
TEST_F(ViewTest, WhomASettlingMemberHearsIsNotKnownAndAJoiningOneWaits) {
  Heartbeat blank = of(1, 2);
  blank.state = NodeState::member;
  blank.settling = true;
  view_.on_network(0, blank, at(0));
  view_.on_network(0, hearing(2, NodeSet(0b011)), at(0));
  const Heartbeat own = hearing(0, NodeSet(0b110));
  EXPECT_EQ(view_.graph(own, at(0))[1], NodeSet(0b101));
  blank.sequence = 3;
  blank.settling = false;
  view_.on_network(0, blank, at(0));
  EXPECT_EQ(view_.graph(own, at(0))[1], NodeSet());
  blank.sequence = 4;
  blank.settling = true;
  blank.state = NodeState::joining;
  view_.on_network(0, blank, at(0));
  EXPECT_EQ(view_.graph(own, at(0))[1], NodeSet());
}

TEST_F(ViewTest, AnEarlierLifeIsHeardOnlyWhenTheLaterOneIsSilent) {
  view_.on_network(1, of(3, 1, 5), at(0));
  view_.on_network(1, of(3, 9, 4), at(9'999));
  EXPECT_EQ(view_.of(3, at(9'999))->incarnation, 5U);
  EXPECT_EQ(view_.of(3, at(10'000)), nullptr);
  view_.on_network(1, of(3, 9, 4), at(10'000));
  EXPECT_EQ(view_.of(3, at(10'000))->incarnation, 4U);
}

// One reading shows nothing, as it may be years old; nor do many of the same.
TEST_F(ViewTest, TheDiskShowsLifeWhenASequenceHasChangedBetweenTwoReadings) {
  view_.on_disk(of(3, 7), at(0));
  view_.on_disk(of(3, 7), at(2'000));
  EXPECT_EQ(view_.heard_disk(at(2'000)), NodeSet());
  EXPECT_EQ(view_.of(3, at(2'000)), nullptr);
  view_.on_disk(of(3, 8), at(4'000));
  EXPECT_EQ(view_.heard_disk(at(19'999)), NodeSet::of(3));
  EXPECT_EQ(view_.heard(at(19'999)), NodeSet::of(3));
  EXPECT_EQ(view_.heard_disk(at(20'000)), NodeSet());
}

TEST_F(ViewTest, AnOlderSequenceIsNoChange) {
  view_.on_disk(of(3, 8), at(0));
  view_.on_disk(of(3, 7), at(2'000));
  EXPECT_EQ(view_.heard_disk(at(2'000)), NodeSet());
  view_.on_disk(of(3, 1, 2), at(4'000));  // a new life counts from the beginning
  EXPECT_EQ(view_.heard_disk(at(4'000)), NodeSet::of(3));
  EXPECT_EQ(view_.of(3, at(4'000))->incarnation, 2U);
}

TEST_F(ViewTest, TheNewestIsKeptWhateverTheOrderAndTheWay) {
  view_.on_network(0, of(3, 5), at(0));
  view_.on_network(1, of(3, 4), at(1));
  EXPECT_EQ(view_.of(3, at(1))->sequence, 5U);
  view_.on_disk(of(3, 6), at(2));
  EXPECT_EQ(view_.of(3, at(2))->sequence, 5U);
  view_.on_disk(of(3, 7), at(3));
  EXPECT_EQ(view_.of(3, at(3))->sequence, 7U);
}

TEST_F(ViewTest, AnEarlierLifeIsNotHeardAnyMore) {
  view_.on_network(0, of(3, 1, 2), at(0));
  view_.on_network(0, of(3, 900, 1), at(9'000));
  EXPECT_EQ(view_.heard_net(0, at(9'999)), NodeSet::of(3));
  EXPECT_EQ(view_.heard_net(0, at(10'000)), NodeSet());
}

TEST_F(ViewTest, ItselfAndWhatIsNoNodeAreNotHeard) {
  view_.on_network(0, of(0, 1), at(0));
  view_.on_network(0, of(64, 1), at(0));
  view_.on_network(0, of(kNoNode, 1), at(0));
  view_.on_network(kMaxNetworks, of(3, 1), at(0));
  view_.on_disk(of(0, 1), at(0));
  view_.on_disk(of(0, 2), at(1));
  view_.on_disk(of(64, 1), at(0));
  EXPECT_EQ(view_.heard(at(1)), NodeSet());
}

TEST_F(ViewTest, AnEdgeNeedsBothDirectionsOverTheSameNetwork) {
  view_.on_network(0, hearing(1, NodeSet(0b101), NodeSet(0b100)), at(0));  // 1 hears 0; and 2
  view_.on_network(0, hearing(2, NodeSet(0b001), NodeSet(0b010)), at(0));  // 2 hears 0; and 1
  const Graph graph = view_.graph(hearing(0, NodeSet(0b110)), at(0));
  EXPECT_EQ(graph[0], NodeSet(0b110));
  EXPECT_EQ(graph[1], NodeSet(0b101));
  EXPECT_EQ(graph[2], NodeSet(0b011));

  const Graph deaf = view_.graph(hearing(0, NodeSet(), NodeSet(0b110)), at(0));
  EXPECT_EQ(deaf[0], NodeSet());  // it hears them over one network, and they it over the other
  EXPECT_EQ(deaf[1], NodeSet(0b100));
}

// Node 1 says that it hears 5, which this node does not: 5 may hear 1 or not.
TEST_F(ViewTest, WhoIsSilentHereIsTakenToHearThoseWhoHearIt) {
  view_.on_network(0, hearing(1, NodeSet(0b100001)), at(0));
  const Graph graph = view_.graph(hearing(0, NodeSet(0b10)), at(0));
  EXPECT_EQ(graph[1], NodeSet(0b100001));
  EXPECT_EQ(graph[5], NodeSet(0b10));
  EXPECT_EQ(view_.graph(hearing(0, NodeSet()), at(10'000))[1], NodeSet());  // 1 is silent by now
}

}  // namespace
}  // namespace holdfast::qdisk
