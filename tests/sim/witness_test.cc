// The witness LUN as an acceptor: what a task writes and reads, in which order, and what it finds
// there. Virtual time.

#include "qdisk/witness.h"

#include "tests/sim/witness_scene.h"

namespace holdfast::sim::witness {
namespace {

// --- open ---

TEST(WitnessOpen, SaysWhatLiesThere) {
  Scene scene;
  Host& a = scene.host(0);
  const auto empty = a.open();
  ASSERT_FALSE(empty.has_value());
  EXPECT_EQ(empty.error().code, Errc::not_found);

  const SharedLun::Sector stranger{'N', 'T', 'F', 'S'};
  scene.lun.write_now(0, stranger);
  EXPECT_EQ(a.open().error().code, Errc::corrupt);

  scene.format(0);
  EXPECT_EQ(a.open()->generation, 1U);
  EXPECT_EQ(a.open()->cluster, kCluster);
  scene.format(1, 2);
  EXPECT_EQ(a.open()->generation, 2U);
  scene.lun.corrupt(qdisk::superblock_offset(0));
  EXPECT_EQ(a.open()->generation, 2U) << "one copy is enough";
  scene.lun.corrupt(qdisk::superblock_offset(1));
  EXPECT_EQ(a.open().error().code, Errc::corrupt) << "never taken for an empty one";
  // Of another cluster: its owner looks at that.
  scene.format(0, 1, qdisk::Uuid{0xee});
  EXPECT_EQ(a.open()->cluster, qdisk::Uuid{0xee});
  scene.format(1, 1);
  EXPECT_EQ(a.open().error().code, Errc::corrupt) << "two clusters";
  EXPECT_EQ(scene.landed, 0U);
}

TEST(WitnessOpen, ASilentDeviceFailsItInTime) {
  Scene scene;
  scene.format();
  Host& a = scene.host(0);
  a.device.cut(true);
  EXPECT_EQ(a.open().error().code, Errc::io);
  EXPECT_LT(scene.world.now(), kLimit + kPrompt);
  a.device.cut(false);
  EXPECT_TRUE(a.open().has_value());
}

// --- a task ---

TEST(WitnessTask, WritesInOrderEachDurableBeforeTheNextThenReads) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(1);
  const auto kept = block(1, 4, 1);
  ASSERT_TRUE(a.run(a.task(decision(3), kept)).ok);
  const auto heartbeats = Access{Kind::read, qdisk::heartbeat_offset(0, 0),
                                 kSlots * qdisk::kCopies * kSlotBytes, false, 3};
  const auto blocks = Access{Kind::read, qdisk::ballot_offset(0), kSlots * kSlotBytes, false, 3};
  const auto next = Access{Kind::read, qdisk::decided_offset(4), kSlotBytes, false, 3};
  EXPECT_EQ(a.noting.seen, (std::vector<Access>{
                               {Kind::read, qdisk::decided_offset(3), kSlotBytes, false, 0},
                               {Kind::write, qdisk::decided_offset(3), kSlotBytes, true, 0},
                               {Kind::write, qdisk::heartbeat_offset(1, 1), kSlotBytes, true, 1},
                               {Kind::write, qdisk::ballot_offset(1), kSlotBytes, true, 2},
                               heartbeats,
                               blocks,
                               next,
                           }));
  EXPECT_EQ(scene.decided_at(3), decision(3));
  EXPECT_EQ(qdisk::decode_ballot(scene.sector(qdisk::ballot_offset(1)), kCluster, 1).value, kept);

  // The ring has it, and there is nothing to store: the other place of the heartbeat.
  a.noting.seen.clear();
  ASSERT_TRUE(a.run(a.task(decision(3))).ok);
  ASSERT_EQ(a.noting.seen.size(), 4U);
  EXPECT_EQ(a.noting.seen[0],
            (Access{Kind::write, qdisk::heartbeat_offset(1, 2), kSlotBytes, true, 3}));
}

TEST(WitnessTask, WhatIsBehindTheRecordIsZero) {
  Scene scene;
  scene.format();
  // Something lies behind the records that are read, and so in the buffer.
  std::vector<uint8_t> behind(kSlotBytes - SharedLun::kSector, 0xee);
  for (uint64_t slot = qdisk::kHeartbeatArea; slot < qdisk::kRecordsEnd; slot += kSlotBytes) {
    scene.lun.write_now(slot + SharedLun::kSector, behind);
  }
  Host& a = scene.opened(0);
  ASSERT_TRUE(a.run(a.task(decision(3))).ok);
  ASSERT_TRUE(a.run(a.task(decision(4), block(0, 5, 1))).ok);
  for (const uint64_t offset :
       {qdisk::heartbeat_offset(0, 0), qdisk::ballot_offset(0), qdisk::decided_offset(4)}) {
    EXPECT_NE(scene.sector(offset), SharedLun::Sector{});
    for (uint64_t at = SharedLun::kSector; at < kSlotBytes; at += SharedLun::kSector) {
      EXPECT_EQ(scene.sector(offset + at), SharedLun::Sector{});
    }
  }
}

TEST(WitnessTask, TwoNodesSeeEachOther) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  Host& b = scene.opened(1);
  const WitnessTask of_a = a.task(decision(3), block(0, 4, 1));
  const WitnessResult alone = a.run(of_a);
  EXPECT_EQ(alone.heartbeats, std::vector{of_a.heartbeat});
  EXPECT_EQ(alone.decided, decision(3));
  const WitnessTask of_b = b.task(decision(2), block(1, 4, 2));
  const WitnessResult seen = b.run(of_b);
  EXPECT_EQ(seen.heartbeats, (std::vector{of_a.heartbeat, of_b.heartbeat}));
  EXPECT_EQ(seen.decided, decision(3));
  ASSERT_EQ(seen.blocks.size(), 2U);
  EXPECT_EQ(seen.blocks[0].node, 0);
  EXPECT_EQ(seen.blocks[0].block, *of_a.store);
  EXPECT_EQ(seen.blocks[1].block, *of_b.store);
  const WitnessTask later = a.task(decision(3));
  const WitnessResult both = a.run(later);
  EXPECT_EQ(both.heartbeats, (std::vector{later.heartbeat, of_b.heartbeat}));
  EXPECT_EQ(both.blocks.size(), 2U);
  EXPECT_FALSE(alone.unreadable || seen.unreadable || both.unreadable);
  EXPECT_EQ(a.run(a.task(decision(3)), 1).heartbeats.size(), 1U) << "of as many as it is asked for";
}

// --- a ring that is ahead of this node ---

TEST(WitnessRing, WhoWasAwayFindsTheNewestAtOnce) {
  for (const Epoch newest : {Epoch{10}, Epoch{90}}) {
    Scene scene;
    scene.format();
    Host& a = scene.opened(0);
    Host& b = scene.opened(1);
    for (Epoch epoch = 3; epoch <= newest; ++epoch) {
      ASSERT_TRUE(b.run(b.task(decision(epoch))).ok);
    }
    const WitnessResult seen = a.run(a.task(decision(3)));
    EXPECT_EQ(seen.decided, decision(newest));
    EXPECT_EQ(a.noting.seen.back().length, qdisk::kDecidedSlots * kSlotBytes);
    // Then the next one is looked for behind it.
    scene.put(decision(newest + 1));
    a.noting.seen.clear();
    EXPECT_EQ(a.run(a.task(decision(newest))).decided, decision(newest + 1));
    EXPECT_EQ(scene.decided_at(newest), decision(newest));
  }
}

TEST(WitnessRing, ABlockOfALaterEpochShowsThatOneWasMissed) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  scene.put(decision(10));
  SharedLun::Sector sector;
  qdisk::encode(block(1, 11, 1), 1, kCluster, sector);
  scene.lun.write_now(qdisk::ballot_offset(1), sector);
  EXPECT_EQ(a.run(a.task(decision(3))).decided, decision(10));
  // A block of the very next epoch shows nothing.
  a.noting.seen.clear();
  ASSERT_TRUE(a.run(a.task(decision(10))).ok);
  EXPECT_EQ(a.noting.seen.back().length, kSlotBytes);
}

constexpr Epoch kForced =
    Epoch{1} << qdisk::kGenerationShift | Epoch{1} << qdisk::kForcedByShift | 1;

TEST(WitnessRing, AForcedEpochIsFoundThoughItsCountIsLess) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  Host& b = scene.opened(1);
  ASSERT_TRUE(a.run(a.task(decision(20))).ok);
  Decision forced = decision(kForced);
  forced.forced = true;
  ASSERT_TRUE(b.run(b.task(forced)).ok);
  EXPECT_EQ(a.run(a.task(decision(20))).decided, forced);
}

// The slot of both: the earlier one is told to nobody any more.
TEST(WitnessRing, AnEarlierDecisionIsNotWrittenOverALaterOne) {
  for (const Epoch later : {kForced, Epoch{65 + qdisk::kDecidedSlots}}) {
    Scene scene;
    scene.format();
    Host& b = scene.opened(1);
    ASSERT_TRUE(b.run(b.task(decision(later))).ok);
    Host& a = scene.opened(0);  // it was away, and begins
    const Epoch earlier = 65;
    ASSERT_EQ(qdisk::decided_offset(earlier), qdisk::decided_offset(later));
    const WitnessResult seen = a.run(a.task(decision(earlier)));
    EXPECT_EQ(scene.decided_at(later), decision(later));
    EXPECT_TRUE(seen.ok);
    EXPECT_EQ(seen.decided, decision(later));
    EXPECT_FALSE(seen.unreadable);
  }
}

}  // namespace
}  // namespace holdfast::sim::witness
