// What the witness says when its disk is damaged, slow or fenced off, and that no write that was
// given up undoes a newer one.

#include "qdisk/witness.h"

#include "tests/sim/witness_scene.h"

namespace holdfast::sim::witness {
namespace {

// --- damage ---

TEST(WitnessDamage, ABallotBlockMakesItPromiseNothingUntilItIsWrittenAnew) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  Host& b = scene.opened(1);
  ASSERT_TRUE(b.run(b.task(decision(3), block(1, 4, 1))).ok);
  scene.lun.corrupt(qdisk::ballot_offset(1));
  const WitnessResult seen = a.run(a.task(decision(3)));
  EXPECT_TRUE(seen.ok && seen.unreadable);
  EXPECT_TRUE(seen.blocks.empty());
  EXPECT_EQ(a.witness->corrupt_records(), 1U);
  EXPECT_FALSE(b.run(b.task(decision(3), block(1, 4, 2))).unreadable);
  EXPECT_FALSE(a.run(a.task(decision(3))).unreadable);
}

TEST(WitnessDamage, TheNextDecisionMakesItPromiseNothing) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  scene.put(decision(4));
  scene.lun.corrupt(qdisk::decided_offset(4));
  const WitnessResult seen = a.run(a.task(decision(3)));
  EXPECT_TRUE(seen.ok && seen.unreadable);
  EXPECT_EQ(seen.decided, decision(3));
  EXPECT_EQ(a.witness->corrupt_records(), 1U);
  // Who knows it writes it anew.
  Host& b = scene.opened(1);
  EXPECT_FALSE(b.run(b.task(decision(4))).unreadable);
  const WitnessResult healed = a.run(a.task(decision(3)));
  EXPECT_FALSE(healed.unreadable);
  EXPECT_EQ(healed.decided, decision(4));
}

TEST(WitnessDamage, AHeartbeatLeavesTheOneBeforeIt) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  Host& b = scene.opened(1);
  const WitnessTask first = b.task(decision(3));
  ASSERT_TRUE(b.run(first).ok);
  ASSERT_TRUE(b.run(b.task(decision(3))).ok);
  scene.lun.corrupt(qdisk::heartbeat_offset(1, 2));
  const WitnessResult seen = a.run(a.task(decision(3)));
  ASSERT_EQ(seen.heartbeats.size(), 2U);
  EXPECT_EQ(seen.heartbeats[1], first.heartbeat);
  EXPECT_FALSE(seen.unreadable);
}

// --- writes that fail ---

// Its node goes on as soon as it is answered, each time with a greater ballot.
TEST(WitnessGhosts, ALateWriteNeverLandsOverANewerOne) {
  size_t failed = 0, late = 0, refused = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::map<uint64_t, uint64_t> newest;  // by place; until the last late write has landed
    Scene scene(seed);
    scene.format();
    Host& a = scene.opened(0);
    scene.lun.options().slow_per_million = 100'000;
    scene.lun.options().slow_max = 20s;
    scene.on_landed = [&](uint64_t offset, base::Bytes bytes) {
      const auto sector = qdisk::Sector(bytes.first(qdisk::kRecordBytes));
      uint64_t number = 0;
      if (offset == qdisk::ballot_offset(0)) {
        number = qdisk::decode_ballot(sector, kCluster, 0).value->mbal;
      } else if (offset < qdisk::kBallotArea) {
        const auto parity = static_cast<unsigned>(a.sequence % qdisk::kCopies);
        auto found = qdisk::decode_heartbeat(sector, kCluster, 0, parity);
        if (!found.valid()) found = qdisk::decode_heartbeat(sector, kCluster, 0, parity + 1);
        number = found.value->sequence;
      }
      EXPECT_GE(number, newest[offset]) << "seed " << seed << " at " << offset;
      newest[offset] = std::max(newest[offset], number);
    };
    for (uint64_t round = 1; scene.world.now() < 120s; ++round) {
      const Duration begun = scene.world.now();
      const size_t asked = a.noting.seen.size();
      const WitnessResult result = a.run(a.task(decision(3), block(0, 4, round)));
      EXPECT_LE(scene.world.now() - begun, kLimit + kPrompt);
      if (a.was_busy) {
        EXPECT_FALSE(result.ok);
        EXPECT_EQ(a.noting.seen.size(), asked) << "nothing is asked of the device";
        ++refused;
      } else if (!result.ok) {
        ++failed;
        if (scene.world.now() - begun >= kLimit) ++late;
      }
      EXPECT_FALSE(a.witness->fenced());
      scene.world.run_for(500ms);
    }
    scene.lun.options().slow_per_million = 0;
  }
  EXPECT_GT(failed, 100U);
  EXPECT_GT(late, 100U);
  EXPECT_GT(refused, 100U);
}

TEST(WitnessGhosts, AReadThatFailsLeavesNone) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  ASSERT_TRUE(a.run(a.task(decision(3))).ok);
  scene.on_landed = [&](uint64_t, base::Bytes) { a.device.cut(true); };
  const auto result = a.run(a.task(decision(3)));
  EXPECT_FALSE(result.ok);
  EXPECT_TRUE(result.heartbeats.empty());
  EXPECT_FALSE(a.witness->busy());
  a.device.cut(false);
  scene.on_landed = nullptr;
  EXPECT_TRUE(a.run(a.task(decision(3))).ok);
}

// Of the whole task, not of each of its steps.
TEST(WitnessDeadline, IsOfTheWholeTask) {
  size_t failed = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Scene scene(seed);
    scene.format();
    Host& a = scene.opened(0);
    scene.lun.options().slow_per_million = 1'000'000;
    scene.lun.options().slow_max = 1500ms;
    const Duration begun = scene.world.now();
    const bool ok = a.run(a.task(decision(3), block(0, 4, 1))).ok;
    EXPECT_LE(scene.world.now() - begun, kLimit + kPrompt);
    if (ok) continue;
    ++failed;
    EXPECT_GE(scene.world.now() - begun, kLimit);
    EXPECT_FALSE(a.witness->fenced());
  }
  EXPECT_GT(failed, 15U);
}

TEST(WitnessFenced, WhoseKeyIsLostSaysSo) {
  Scene scene;
  scene.format();
  Host& a = scene.opened(0);
  Host& b = scene.opened(1);
  a.use_key(0xa);
  b.use_key(0xb);
  constexpr auto kType = io::ReservationType::write_exclusive_registrants_only;
  const auto reserved =
      b.answer<base::Result<>>([&](auto done) { b.device.reserve(kType, std::move(done)); });
  ASSERT_TRUE(reserved.has_value());
  ASSERT_TRUE(a.run(a.task(decision(3))).ok);
  const auto removed = b.answer<base::Result<>>(
      [&](auto done) { b.device.preempt_and_abort(0xa, kType, std::move(done)); });
  ASSERT_TRUE(removed.has_value());
  const size_t landed = scene.landed;
  EXPECT_FALSE(a.run(a.task(decision(3))).ok);
  EXPECT_TRUE(a.witness->fenced());
  EXPECT_EQ(scene.landed, landed);
  scene.world.run_for(1s);
  EXPECT_FALSE(a.witness->busy());
  a.use_key(0xa);
  EXPECT_TRUE(a.run(a.task(decision(3))).ok);
  EXPECT_FALSE(a.witness->fenced());
}

}  // namespace
}  // namespace holdfast::sim::witness
