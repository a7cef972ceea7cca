#include "qdisk/quorum.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;

constexpr auto kNodes = QuorumMode::node_majority;
constexpr auto kDisk = QuorumMode::node_and_disk_majority;
constexpr Uuid kUuid = {1};

Decision with_members(NodeSet members) {
  Decision decision{.epoch = 1, .witness = kUuid};
  for (const NodeId node : members) decision.incarnations[node] = 1;
  return decision;
}

// As "012w": the numbers of the nodes that vote, and w for the witness.
std::string voters(const Decision& decision) {
  std::string out;
  for (const NodeId node : decision.voters) out += static_cast<char>('0' + node);
  return out + (decision.witness_votes ? "w" : "");
}

struct Case {
  uint64_t members = 0;  // bits
  bool witness_usable = true;
  VoterPolicy policy;
  uint64_t voters_before = 0b11111;
};

std::string chosen(const Case& given) {
  const Decision current{.epoch = 1, .voters = NodeSet(given.voters_before), .witness = kUuid};
  Decision next = with_members(NodeSet(given.members));
  choose_voters(next, current, given.policy, given.witness_usable);
  return voters(next);
}

VoterPolicy of(int configured, QuorumMode mode = kDisk) {
  return {.mode = mode, .configured = NodeSet((uint64_t{1} << configured) - 1)};
}

VoterPolicy with_lower(NodeId node, VoterPolicy policy) {
  policy.lower_priority = node;
  return policy;
}

VoterPolicy solo(VoterPolicy policy) {
  policy.last_man_solo = true;
  return policy;
}

TEST(Quorum, AMajorityIsMoreThanHalfOfTheVotes) {
  std::vector<int> nodes_only;
  std::vector<int> with_witness;
  for (int count = 1; count <= 6; ++count) {
    Decision decision{.voters = NodeSet((uint64_t{1} << count) - 1)};
    nodes_only.push_back(majority(decision));
    decision.witness_votes = true;
    with_witness.push_back(majority(decision));
  }
  EXPECT_THAT(nodes_only, ElementsAre(1, 2, 2, 3, 3, 4));
  EXPECT_THAT(with_witness, ElementsAre(2, 2, 3, 3, 4, 4));
}

TEST(Quorum, OnlyVotersCount) {
  Decision decision{.voters = NodeSet(0b0111)};
  EXPECT_EQ(votes_of(decision, {.nodes = NodeSet(0b1100), .witness = true}), 1);
  decision.witness_votes = true;
  EXPECT_EQ(votes_of(decision, {.nodes = NodeSet(0b1100), .witness = true}), 2);
  EXPECT_FALSE(is_majority(decision, {.nodes = NodeSet(0b1100), .witness = true}));
  EXPECT_TRUE(is_majority(decision, {.nodes = NodeSet(0b0110), .witness = true}));
}

TEST(ChooseVoters, AllMembersVoteAndTheWitnessMakesTheirNumberOdd) {
  EXPECT_EQ(chosen({.members = 0b1, .policy = of(1)}), "0");
  EXPECT_EQ(chosen({.members = 0b11, .policy = of(2)}), "01w");
  EXPECT_EQ(chosen({.members = 0b111, .policy = of(3)}), "012");
  EXPECT_EQ(chosen({.members = 0b1111, .policy = of(4)}), "0123w");
  EXPECT_EQ(chosen({.members = 0b11111, .policy = of(5)}), "01234");
  EXPECT_EQ(chosen({.members = 0b10101, .policy = of(5)}), "024");
  EXPECT_EQ(chosen({.members = 0b10001, .policy = of(5)}), "04w");
  EXPECT_EQ(chosen({.members = 0b101, .policy = of(3)}), "02w");
}

TEST(ChooseVoters, WithoutTheWitnessOneOfAnEvenNumberLosesItsVote) {
  const auto unusable = [](uint64_t members, const VoterPolicy& policy) {
    return chosen({.members = members, .witness_usable = false, .policy = policy});
  };
  EXPECT_EQ(unusable(0b111, of(3)), "012");
  EXPECT_EQ(unusable(0b1111, of(4)), "012");
  EXPECT_EQ(unusable(0b101, of(3)), "0");
  EXPECT_EQ(unusable(0b1, of(3)), "0");
  EXPECT_EQ(unusable(0b1111, with_lower(1, of(4))), "023");
  EXPECT_EQ(unusable(0b1101, with_lower(1, of(4))), "023");  // an odd number loses none
  EXPECT_EQ(unusable(0b1001, with_lower(1, of(4))), "0");    // who is no member has none to lose
  EXPECT_EQ(unusable(0b1001, with_lower(0, of(4))), "3");
}

TEST(ChooseVoters, ByNodesAloneTheWitnessNeverVotes) {
  EXPECT_EQ(chosen({.members = 0b1, .policy = of(2, kNodes)}), "0");
  EXPECT_EQ(chosen({.members = 0b11, .policy = of(2, kNodes)}), "0");
  EXPECT_EQ(chosen({.members = 0b11, .policy = with_lower(0, of(2, kNodes))}), "1");
  EXPECT_EQ(chosen({.members = 0b1111, .policy = of(4, kNodes)}), "012");
}

// Of two nodes and a witness any two go on, whoever is absent.
TEST(ChooseVoters, OfTwoConfiguredNodesBothAndTheWitnessKeepTheirVotes) {
  EXPECT_EQ(chosen({.members = 0b11, .policy = of(2)}), "01w");
  EXPECT_EQ(chosen({.members = 0b11, .witness_usable = false, .policy = of(2)}), "01w");
  EXPECT_EQ(chosen({.members = 0b01, .policy = of(2)}), "01w");
  EXPECT_EQ(chosen({.members = 0b10, .policy = of(2)}), "01w");
}

// The one that a forced quorum has left alone must be a majority of its voters.
TEST(ChooseVoters, ALastNodeWithoutTheWitnessVotesAlone) {
  EXPECT_EQ(chosen({.members = 0b10, .witness_usable = false, .policy = of(2)}), "1");
  EXPECT_EQ(chosen({.members = 0b10, .witness_usable = false, .policy = of(5)}), "1");
}

TEST(ChooseVoters, TheLastOfMoreNodesVotesWithTheWitnessAndOneThatVotedBefore) {
  EXPECT_EQ(chosen({.members = 0b00100, .policy = of(5), .voters_before = 0b10100}), "24w");
  EXPECT_EQ(chosen({.members = 0b00100, .policy = of(5), .voters_before = 0b00100}), "02w");
  // One that is configured no more is no partner.
  EXPECT_EQ(chosen({.members = 0b001, .policy = of(3), .voters_before = 0b10001}), "01w");
  EXPECT_EQ(chosen({.members = 0b1, .policy = of(1), .voters_before = 0b11}), "0");
}

TEST(ChooseVoters, ALastManWhoGoesOnAloneNeedsNobody) {
  EXPECT_EQ(chosen({.members = 0b01, .policy = solo(of(2))}), "0");
  EXPECT_EQ(chosen({.members = 0b01, .witness_usable = false, .policy = solo(of(2))}), "0");
  EXPECT_EQ(chosen({.members = 0b100, .policy = solo(of(5))}), "2");
  EXPECT_EQ(chosen({.members = 0b11, .policy = solo(of(2))}), "01w");  // two are not alone
}

// A member that was taken out of the configuration still votes until it leaves.
TEST(ChooseVoters, OfTwoConfiguredNodesAThirdMemberVotesToo) {
  EXPECT_EQ(chosen({.members = 0b111, .policy = of(2)}), "012");
  EXPECT_EQ(chosen({.members = 0b101, .policy = of(2)}), "02w");
}

TEST(ChooseVoters, NoWitnessNamedIsNoWitness) {
  Decision next = with_members(NodeSet(0b11));
  next.witness = {};
  choose_voters(next, next, of(2), true);
  EXPECT_EQ(voters(next), "0");
}

// All of them: 1 to 5 nodes, any members of these, any policy, any voters before. What must hold
// without exception, as else a cluster stands still although all its members are well.
TEST(ChooseVoters, TheMembersAndAUsableWitnessAreAlwaysAMajority) {
  for (int count = 1; count <= 5; ++count) {
    const uint64_t all = (uint64_t{1} << count) - 1;
    for (uint64_t members = 1; members <= all; ++members) {
      for (uint64_t mask = 0; mask < 8; ++mask) {
        for (NodeId lower = 0; lower <= count; ++lower) {
          const bool usable = (mask & 1) != 0;
          const VoterPolicy policy{.mode = (mask & 2) != 0 ? kDisk : kNodes,
                                   .configured = NodeSet(all),
                                   .lower_priority = lower < count ? lower : kNoNode,
                                   .last_man_solo = (mask & 4) != 0};
          for (uint64_t before = 0; before <= all; ++before) {
            const Decision current{.voters = NodeSet(before), .witness = kUuid};
            Decision next = with_members(NodeSet(members));
            choose_voters(next, current, policy, usable);
            ASSERT_TRUE(is_majority(next, {.nodes = NodeSet(members), .witness = usable}))
                << voters(next);
            ASSERT_EQ(votes(next) % 2, 1) << voters(next);
            ASSERT_TRUE(NodeSet(all).contains(next.voters));
            ASSERT_TRUE(policy.mode == kDisk || !next.witness_votes);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::qdisk
