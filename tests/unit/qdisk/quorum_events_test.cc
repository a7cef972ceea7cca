#include "qdisk/quorum_events.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// hv1 of three members with a volume that hv2 coordinates; all is well.
QuorumStatus well() {
  QuorumStatus out{.cluster = "lab", .self = 0, .member = true, .lease_left = Milliseconds(3000)};
  out.decision = {.epoch = 7, .voters = NodeSet(0b111)};
  out.policy.configured = NodeSet(0b111);
  for (NodeId node = 0; node < 3; ++node) {
    out.decision.incarnations[node] = 4;
    out.hosts.push_back({.id = node,
                         .name = "hv" + std::to_string(node + 1),
                         .heard = true,
                         .state = NodeState::member,
                         .incarnation = 4,
                         .networks = {true, true}});
  }
  out.decision.volumes[2] = {.coordinator = 1, .term = 5};
  out.disks = {{.name = "witness", .usable = true},
               {.name = "Volume1", .number = 2, .usable = true}};
  out.vouching.nodes = NodeSet(0b111);
  out.fenced = 7;
  return out;
}

std::vector<int> numbers(const QuorumStatus& before, const QuorumStatus& after) {
  std::vector<int> out;
  for (const Event& event : events_between(before, after))
    out.push_back(static_cast<int>(event.id));
  return out;
}

TEST(QuorumEvents, WhatStaysAsItIsIsNoEvent) { EXPECT_THAT(numbers(well(), well()), IsEmpty()); }

TEST(QuorumEvents, AnEvictionIsToldFromItsBeginningToTheEndOfItsFence) {
  QuorumStatus silent = well();
  silent.hosts[1].networks = {false, true};
  EXPECT_THAT(numbers(well(), silent), ElementsAre(1202));
  QuorumStatus evicted = silent;
  evicted.decision.epoch = 8;
  evicted.decision.incarnations[1] = 0;
  evicted.decision.voters = evicted.vouching.nodes = NodeSet(0b101);
  evicted.decision.witness_votes = evicted.vouching.witness = true;
  evicted.decision.volumes[2] = {.coordinator = 0, .term = 6};
  const auto told = events_between(silent, evicted);
  EXPECT_THAT(numbers(silent, evicted), ElementsAre(1403, 1102, 1501));
  EXPECT_EQ(told[1], (Event{EventId::left, Severity::warning,
                            "hv2 is no member any more: it was evicted."}));
  QuorumStatus fenced = evicted;
  fenced.fenced = 8;
  EXPECT_THAT(numbers(evicted, fenced), ElementsAre(1502));
  fenced.fenced_timed = true;
  EXPECT_THAT(numbers(evicted, fenced), ElementsAre(1503));
  QuorumStatus back = fenced;
  back.decision.epoch = back.fenced = 9;
  back.decision.incarnations[1] = 5;
  EXPECT_THAT(numbers(fenced, back), ElementsAre(1101));
}

TEST(QuorumEvents, WhoLeavesOfItsOwnWillAndWhoLivesAnewAreToldApart) {
  QuorumStatus left = well();
  left.decision.incarnations[1] = 0;
  left.hosts[1].state = NodeState::stopped;
  EXPECT_EQ(events_between(well(), left)[0],
            (Event{EventId::left, Severity::info, "hv2 has left of its own will."}));
  QuorumStatus anew = well();
  anew.decision.incarnations[1] = 5;
  EXPECT_THAT(numbers(well(), anew), ElementsAre(1103));
}

TEST(QuorumEvents, QuorumIsLostAndRegainedAndForced) {
  QuorumStatus without = well();
  without.lease_left.reset();
  EXPECT_THAT(numbers(well(), without), ElementsAre(1002));
  EXPECT_THAT(numbers(without, well()), ElementsAre(1001));
  QuorumStatus forced = well();
  forced.decision.epoch = forced.fenced = Epoch{2} << kGenerationShift | 1;
  forced.decision.forced = true;
  EXPECT_THAT(numbers(without, forced), ElementsAre(1003, 1001));
}

TEST(QuorumEvents, ThatOneMoreFailureWouldStopTheClusterIsSaidBefore) {
  QuorumStatus near = well();
  near.vouching.nodes = NodeSet(0b011);
  EXPECT_THAT(numbers(well(), near), ElementsAre(1004));
  EXPECT_THAT(numbers(near, well()), ElementsAre(1005));
  near.settling = true;  // not all have been asked yet
  EXPECT_THAT(numbers(well(), near), IsEmpty());
}

TEST(QuorumEvents, DisksWatchdogAndProblemsAreWatched) {
  QuorumStatus worse = well();
  worse.disks[0].usable = worse.disks[1].usable = false;
  worse.disks[1].problem = "no path";
  worse.hosts[0].watchdog = WatchdogKind::real;
  worse.problems = {"The local state cannot be saved."};
  EXPECT_THAT(numbers(well(), worse), ElementsAre(1302, 1402, 1601, 1701));
  EXPECT_EQ(events_between(well(), worse)[1].text,
            "Volume Volume1 is not usable on this node: no path.");
  EXPECT_THAT(numbers(worse, well()), ElementsAre(1301, 1401, 1602));
  QuorumStatus replaced = well();
  replaced.decision.witness = {9};
  EXPECT_THAT(numbers(well(), replaced), ElementsAre(1303));
}

TEST(QuorumEvents, TheNewestAreKept) {
  EventLog log;
  log.look(well(), {});
  EXPECT_THAT(log.entries(), IsEmpty());  // the first look shows what is, not what happened
  QuorumStatus without = well();
  without.lease_left.reset();
  for (size_t i = 0; i < EventLog::kMax; ++i) {
    log.look(i % 2 == 0 ? without : well(), io::Instant(std::chrono::seconds(i)));
  }
  EXPECT_EQ(log.entries().size(), EventLog::kMax);
  log.look(without, io::Instant(std::chrono::seconds(900)));
  EXPECT_EQ(log.entries().size(), EventLog::kMax);
  EXPECT_EQ(log.entries().front().sequence, 2U);
  EXPECT_EQ(log.entries().back().at, io::Instant(std::chrono::seconds(900)));
}

}  // namespace
}  // namespace holdfast::qdisk
