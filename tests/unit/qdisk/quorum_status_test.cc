#include "qdisk/quorum_status.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace holdfast::qdisk {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// hv1 (this node) and hv2 with a witness: all three vote, and all are there.
QuorumStatus two_nodes() {
  QuorumStatus out{.cluster = "lab", .self = 0, .member = true, .lease_left = Milliseconds(9000)};
  for (NodeId node = 0; node < 2; ++node) {
    out.hosts.push_back({.id = node,
                         .name = node == 0 ? "hv1" : "hv2",
                         .heard = true,
                         .state = NodeState::member,
                         .incarnation = 1,
                         .networks = {true}});
    out.decision.incarnations[node] = 1;
  }
  out.disks = {{.name = "witness", .usable = true},
               {.name = "Volume1", .number = 0, .usable = true}};
  out.decision.epoch = Epoch{2} << kGenerationShift | 17;
  out.decision.voters = NodeSet(3);
  out.decision.witness_votes = true;
  out.decision.volumes[0] = {.coordinator = 1, .term = 3};
  out.fenced = out.decision.epoch;
  out.vouching = {.nodes = NodeSet(3), .witness = true};
  return out;
}

std::vector<std::string> texts(const QuorumStatus& status) {
  std::vector<std::string> out;
  for (const NextFailure& each : next_failures(status)) out.push_back(each.text);
  return out;
}

TEST(QuorumStatus, TwoNodesAndAWitnessBearAnyOneFailure) {
  const QuorumStatus status = two_nodes();
  EXPECT_EQ(epoch_text(status), "2.17");
  EXPECT_THAT(why(status), ElementsAre("There is quorum: 3 of 3 votes (hv1, hv2 and the witness), "
                                       "and 2 are needed."));
  EXPECT_THAT(texts(status),
              ElementsAre("If hv1 fails now, the cluster goes on: 2 of 3 votes would be left, and "
                          "2 are needed.",
                          "If hv2 fails now, the cluster goes on: 2 of 3 votes would be left, and "
                          "2 are needed.",
                          "If the witness fails now, the cluster goes on: 2 of 3 votes would be "
                          "left, and 2 are needed."));
}

TEST(QuorumStatus, TheLastReserveIsNamedBeforeItIsLost) {
  QuorumStatus status = two_nodes();
  status.hosts[1] = {.id = 1, .name = "hv2", .problem = "connection refused"};
  status.vouching.nodes = NodeSet(1);
  status.decision.incarnations[1] = 0;
  EXPECT_THAT(why(status),
              ElementsAre("There is quorum: 2 of 3 votes (hv1 and the witness), and 2 are needed.",
                          "The vote of hv2 is missing: it is not heard: connection refused."));
  EXPECT_THAT(texts(status), ElementsAre(HasSubstr("If hv1 fails now, THE CLUSTER STOPS: 1 of 3"),
                                         HasSubstr("If the witness fails now, THE CLUSTER STOPS")));
}

// Right after a decision nobody has been asked yet.
TEST(QuorumStatus, ANewDecisionRaisesNoAlarm) {
  QuorumStatus status = two_nodes();
  status.vouching = {.nodes = NodeSet(2)};
  EXPECT_THAT(why(status), Contains(HasSubstr("The vote of hv1 is missing")));
  status.settling = true;
  EXPECT_THAT(why(status), ElementsAre(HasSubstr("There is quorum: 3 of 3 votes")));
  status.hosts[1].heard = status.disks[0].usable = false;
  status.vouching = {};
  EXPECT_THAT(why(status), Contains(HasSubstr("1 of 3 votes (hv1)")));
}

TEST(QuorumStatus, AMemberWithoutALeaseSaysWhoseVotesAreMissing) {
  QuorumStatus status = two_nodes();
  status.lease_left.reset();
  status.hosts[1] = {.id = 1, .name = "hv2"};
  status.disks[0] = {.name = "witness", .problem = "it does not answer"};
  EXPECT_THAT(why(status),
              ElementsAre(HasSubstr("This node has no lease: it hears 1 of 3 votes (hv1)"),
                          "The vote of hv2 is missing: it is not heard over any network, nor on "
                          "the witness.",
                          "The vote of the witness is missing: it does not answer.",
                          "The witness is not usable on this node: it does not answer."));
  EXPECT_THAT(texts(status), IsEmpty());
}

TEST(QuorumStatus, ANodeThatWaitsIsToldFromAClusterThatIsLost) {
  QuorumStatus status = two_nodes();
  status.member = false;
  status.lease_left.reset();
  status.decision.incarnations[0] = 0;
  EXPECT_THAT(why(status),
              Contains(HasSubstr("is no member of epoch 2.17, and waits to be admitted: "
                                 "the members are hv2")));
  status.hosts[1].heard = false;
  status.disks[0].usable = false;
  EXPECT_THAT(why(status), Contains(HasSubstr("`holdfast quorum force` on ONE node")));
}

TEST(QuorumStatus, ANodeThatHasLostItsStateHasNoVoteToGive) {
  QuorumStatus status = two_nodes();
  status.lease_left.reset();
  status.hosts[1].remembers = false;
  EXPECT_THAT(why(status), Contains("The vote of hv2 is missing: it has lost its state, and waits "
                                    "to be admitted."));
}

TEST(QuorumStatus, WithoutAClusterTheWayToOneIsSaid) {
  QuorumStatus status = two_nodes();
  status.decision = {};
  status.member = false;
  EXPECT_THAT(why(status), ElementsAre(HasSubstr("`holdfast quorum create` on ONE node")));
  EXPECT_EQ(epoch_text(status), "none");
}

TEST(QuorumStatus, WhoIsNotHeardBeforeAClusterIsKnownIsSaidWithTheReason) {
  QuorumStatus status = two_nodes();
  status.decision = {};
  status.hosts[1].heard = false;
  status.hosts[1].problem = "its certificate has expired";
  EXPECT_THAT(why(status), Contains("hv2 is missing: it is not heard: its certificate has "
                                    "expired."));
  EXPECT_THAT(why(status), Not(Contains(HasSubstr("hv1 is missing"))));
}

TEST(QuorumStatus, AFenceUnderWayAndADiskThatFailsAreSaid) {
  QuorumStatus status = two_nodes();
  EXPECT_THAT(why(status), Not(Contains(HasSubstr("fence"))));
  status.fenced -= 1;
  status.disks[1].problem = "no path";
  EXPECT_THAT(why(status), Contains(HasSubstr("A fence is under way")));
  EXPECT_THAT(why(status), Contains("Volume Volume1 is not usable on this node: no path."));
}

TEST(QuorumStatus, ProgramsGetAllOfIt) {
  const nlohmann::json json = to_json(two_nodes());
  EXPECT_EQ(json["quorum"], true);
  EXPECT_EQ(json["epoch"], "2.17");
  EXPECT_EQ(json["needed"], 2);
  EXPECT_EQ(json["lease_left_ms"], 9000);
  EXPECT_EQ(json["nodes"][1]["node"], "hv2");
  EXPECT_EQ(json["nodes"][1]["vouches"], true);
  EXPECT_EQ(json["witness"]["votes"], true);
  EXPECT_EQ(json["volumes"][0]["coordinator"], "hv2");
  EXPECT_EQ(json["volumes"][0]["term"], 3);
  EXPECT_EQ(json["next_failures"].size(), 3U);
  EXPECT_EQ(json["fenced"], true);
}

}  // namespace
}  // namespace holdfast::qdisk
