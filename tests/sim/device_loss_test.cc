// How long a multipath device takes to find that a path is lost, in virtual time: until the path
// leaves service, and until what was under way on it is done elsewhere.

#include <gtest/gtest.h>

#include "tests/sim/device_node.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;
using EventKind = DeviceNode::EventKind;

constexpr const char* kAddress = "10.1.0.1";  // of the first path
constexpr const char* kPortal = DeviceNode::kPortals[0];
// Silence begins with the last byte, and the other path's answer takes a moment.
constexpr Duration kRoom = 20ms;
// What the product promises. The profile's own times are within.
constexpr Duration kSilenceBound = 1s;
constexpr Duration kCarrierBound = 150ms;
constexpr Duration kResetBound = 50ms;
constexpr Duration kLoads[] = {400ms, 470ms, 1130ms};

enum class Loss : uint8_t { silence, carrier, reset };

struct Found {
  Duration left_service{-1};  // after the loss; negative: never
  Duration longest_read{0};
};

// A slow network: fewer events in the same time.
struct Scene {
  explicit Scene(uint64_t seed) : world(seed) {
    target.start();
    node.start();
    EXPECT_TRUE(world.run_until([&] { return node.up(); }, 10s));
  }
  ~Scene() {
    EXPECT_TRUE(node.stop());
    EXPECT_TRUE(target.stop(60s));
  }

  SimWorld world;
  SimFabric fabric{world, {.delay_min = 1ms, .delay_max = 2ms, .partial_per_million = 0}};
  TargetHost target{
      world, fabric, {}, {{.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 1024}}};
  DeviceNode node{world, fabric, {}};
};

// `depth` reads under way all the time when the first path is lost; 0: idle.
Found lose_a_path(Loss loss, uint32_t depth, Duration load) {
  Scene scene(1 + depth);
  auto& [world, fabric, target, node] = scene;
  DeviceNode::Requests reads;
  for (uint32_t i = 0; i < depth; ++i) {
    reads.push_back(&node.make(DeviceNode::Kind::read));
    reads.back()->again = true;
  }
  node.submit(reads);
  world.run_for(load);
  for (const auto* read : reads) {
    EXPECT_GT(read->times, 50U);
    EXPECT_LT(read->longest, kRoom);
  }

  node.forget_told();
  const Duration lost = world.now();
  if (loss == Loss::silence) fabric.isolate(kPortal);
  if (loss == Loss::carrier) fabric.set_link(kAddress, false);
  if (loss == Loss::reset) fabric.reset_between(kAddress, kPortal);
  std::vector<uint64_t> before;
  for (const auto* read : reads) before.push_back(read->times);
  world.run_for(1500ms);

  Found found;
  if (const auto at = node.first(EventKind::path_failed, node.path(0).settings().name)) {
    found.left_service = *at - lost;
  }
  EXPECT_EQ(node.count(EventKind::path_failed), 1U) << "and only the one that was lost";
  EXPECT_EQ(node.count(EventKind::paths_lost), 0U);
  for (size_t i = 0; i < reads.size(); ++i) {
    auto* read = reads[i];
    EXPECT_GT(read->times, before[i] + 50) << "the other path goes on";
    found.longest_read = std::max(found.longest_read, read->longest);
    EXPECT_GE(read->result.value_or(0), 0);
    read->again = false;
  }
  return found;
}

TEST(DeviceLoss, SilenceUnderLoadIsFoundInTheTimesOfTheProfile) {
  constexpr Duration kDetection = mpio::kLan.suspect_after + mpio::kLan.nop_timeout;
  for (const uint32_t depth : {1U, 2U, 8U}) {
    for (const Duration load : kLoads) {
      const Found found = lose_a_path(Loss::silence, depth, load);
      EXPECT_GE(found.longest_read, kDetection - kRoom) << depth << " under way";
      EXPECT_LE(found.longest_read, kDetection + kRoom) << depth << " under way";
      EXPECT_GE(found.left_service, kDetection - kRoom) << depth << " under way";
      EXPECT_LT(found.left_service, kSilenceBound) << depth << " under way";
    }
  }
}

TEST(DeviceLoss, ALostCarrierIsFoundInItsGrace) {
  for (const uint32_t depth : {0U, 1U, 8U}) {
    for (const Duration load : kLoads) {
      const Found found = lose_a_path(Loss::carrier, depth, load);
      EXPECT_GE(found.left_service, mpio::kLan.link_grace) << depth << " under way";
      EXPECT_LT(found.left_service, kCarrierBound) << depth << " under way";
      EXPECT_LT(found.longest_read, kCarrierBound) << depth << " under way";
    }
  }
}

TEST(DeviceLoss, AResetIsFoundAtOnce) {
  for (const uint32_t depth : {0U, 1U, 8U}) {
    for (const Duration load : kLoads) {
      const Found found = lose_a_path(Loss::reset, depth, load);
      EXPECT_GE(found.left_service, 0ms) << depth << " under way";
      EXPECT_LT(found.left_service, kResetBound) << depth << " under way";
      EXPECT_LT(found.longest_read, kResetBound) << depth << " under way";
    }
  }
}

// A link that is back within the grace was no loss.
TEST(DeviceLoss, ALinkThatBlinksIsNone) {
  Scene scene(1);
  auto& [world, fabric, target, node] = scene;
  node.forget_told();
  fabric.set_link(kAddress, false);
  world.run_for(50ms);
  EXPECT_EQ(node.path(0).state(), mpio::PathState::suspect);
  fabric.set_link(kAddress, true);
  world.run_for(5s);
  EXPECT_TRUE(node.up());
  EXPECT_TRUE(node.told().empty());
}

}  // namespace
}  // namespace holdfast::sim
