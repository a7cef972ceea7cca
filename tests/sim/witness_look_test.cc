// What a node learns from the witness before a life of it begins.

#include "qdisk/witness_look.h"

#include "tests/sim/witness_scene.h"

namespace holdfast::sim::witness {
namespace {

using qdisk::WitnessLook;
using qdisk::WitnessSight;

base::Result<WitnessSight> look(Host& host) {
  std::unique_ptr<WitnessLook> look =
      WitnessLook::create(host.loop, host.noting, host.self).value();
  return host.answer<base::Result<WitnessSight>>(
      [&look](auto done) { look->start(kLimit, std::move(done)); });
}

void put(Scene& scene, const Heartbeat& heartbeat) {
  SharedLun::Sector sector;
  qdisk::encode(heartbeat, kCluster, sector);
  scene.lun.write_now(qdisk::heartbeat_offset(heartbeat.node, heartbeat.sequence), sector);
}

TEST(WitnessLook, OfAnEmptyWitnessNothingButItsSuperblockIsKnown) {
  Scene scene;
  Host& a = scene.host(1);
  EXPECT_EQ(look(a).error().code, Errc::not_found);
  scene.format();
  const auto sight = look(a);
  ASSERT_TRUE(sight.has_value());
  EXPECT_EQ(sight->superblock.cluster, kCluster);
  EXPECT_EQ(sight->seen, 0U);
  EXPECT_EQ(sight->newest, 0U);
}

TEST(WitnessLook, TheLatestLifeCountsWhereverItIsMentioned) {
  Scene scene;
  scene.format();
  Host& a = scene.host(1);
  put(scene, {.node = 1, .state = qdisk::NodeState::member, .incarnation = 4, .sequence = 7});
  put(scene, {.node = 1, .state = qdisk::NodeState::member, .incarnation = 3, .sequence = 8});
  EXPECT_EQ(look(a)->seen, 4U);

  BallotBlock own = block(1, 9, 1);
  own.incarnation = 5;
  SharedLun::Sector sector;
  qdisk::encode(own, 1, kCluster, sector);
  scene.lun.write_now(qdisk::ballot_offset(1), sector);
  EXPECT_EQ(look(a)->seen, 5U);

  Decision decided = decision(8);
  decided.incarnations[1] = 6;
  scene.put(decided);
  decided.epoch = 9;
  decided.incarnations[1] = 0;
  scene.put(decided);
  EXPECT_EQ(look(a)->seen, 6U);
  EXPECT_EQ(look(a)->newest, 9U);
  // Another node's are not its own.
  EXPECT_EQ(look(scene.host(0))->seen, 1U);
}

TEST(WitnessLook, WhatIsDamagedHidesNothingElse) {
  Scene scene;
  scene.format();
  Host& a = scene.host(1);
  put(scene, {.node = 1, .state = qdisk::NodeState::member, .incarnation = 4, .sequence = 7});
  put(scene, {.node = 1, .state = qdisk::NodeState::member, .incarnation = 5, .sequence = 8});
  scene.put(decision(3));
  scene.lun.corrupt(qdisk::heartbeat_offset(1, 8));
  EXPECT_EQ(look(a)->seen, 4U);
  EXPECT_EQ(look(a)->newest, 3U);
}

TEST(WitnessLook, ASilentDeviceFailsItInTimeAndNothingIsWritten) {
  Scene scene;
  scene.format();
  Host& a = scene.host(0);
  const io::Instant before = a.loop.now();
  a.device.cut(true);
  EXPECT_EQ(look(a).error().code, Errc::io);
  EXPECT_LT(a.loop.now() - before, kLimit + kPrompt);
  a.device.cut(false);
  EXPECT_TRUE(look(a).has_value());
  EXPECT_EQ(scene.landed, 0U);
}

}  // namespace
}  // namespace holdfast::sim::witness
