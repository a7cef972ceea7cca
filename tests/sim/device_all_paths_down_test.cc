// A multipath device without any path, in virtual time: what it tells, how long requests wait, how
// they end, and how they go on when a path is back in time.

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/sim/device_node.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;
using EventKind = DeviceNode::EventKind;
using Kind = DeviceNode::Kind;
using Request = DeviceNode::Request;

constexpr const char* kAddresses[] = {"10.1.0.1", "10.2.0.1"};
constexpr Duration kTimeout = 2s;
constexpr Duration kRoom = 5ms;  // of a timer, and of a turn of the loop
constexpr uint32_t kDepth = 32;
static_assert(kDepth > 2 * mpio::kSlowStart);

class DeviceAllPathsDown : public testing::Test {
 protected:
  DeviceAllPathsDown() {
    target_.start();
    node_.start();
    EXPECT_TRUE(world_.run_until([&] { return node_.up(); }, 10s));
    // Some service: the slow start of the beginning is over.
    DeviceNode::Requests reads;
    for (uint32_t i = 0; i < kDepth; ++i) reads.push_back(&node_.make(Kind::read));
    for (Request* each : reads) each->again = true;
    node_.submit(reads);
    world_.run_for(200ms);
    for (Request* each : reads) each->again = false;
    world_.run_for(50ms);
    node_.forget_told();
  }
  ~DeviceAllPathsDown() override {
    links(true);
    target_.disk(0).release();
    if (target_.paused()) target_.resume();
    fabric_.heal_all();
    EXPECT_TRUE(node_.stop());
    EXPECT_TRUE(target_.stop(60s));
  }

  void links(bool up) {
    for (const char* address : kAddresses) fabric_.set_link(address, up);
  }
  void reset_all() {
    for (size_t i = 0; i < 2; ++i) fabric_.reset_between(kAddresses[i], DeviceNode::kPortals[i]);
  }
  // Both links go. The answer is when the device said that no path is left.
  Duration lose_all() {
    links(false);
    EXPECT_TRUE(world_.run_until([&] { return node_.count(EventKind::paths_lost) > 0; }, 1s));
    return *node_.first(EventKind::paths_lost);
  }
  uint8_t on_medium(uint64_t place) {
    return target_.disk(0).medium().content()[place * DeviceNode::kBytes];
  }

  SimWorld world_{1};
  // Nothing overtakes: requests end in the order in which they were sent.
  SimFabric fabric_{world_, {.delay_min = 1ms, .delay_max = 1ms, .partial_per_million = 0}};
  TargetHost target_{world_,
                     fabric_,
                     {.volatile_cache = false,
                      .disks = {.volatile_cache = false, .delay_min = 1ms, .delay_max = 1ms}},
                     {{.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 1024}}};
  DeviceNode node_{world_, fabric_, {.no_path_timeout = kTimeout}};
};

// --- what it tells ---

TEST_F(DeviceAllPathsDown, ResetsOfAllAreToldAtOnce) {
  const Duration lost = world_.now();
  reset_all();
  world_.run_for(50ms);
  EXPECT_EQ(node_.count(EventKind::path_failed), 2U);
  ASSERT_EQ(node_.count(EventKind::paths_lost), 1U);
  EXPECT_LT(*node_.first(EventKind::paths_lost) - lost, 50ms);
  EXPECT_TRUE(node_.device().without_path_since().has_value());
  EXPECT_EQ(node_.device().counters().path_losses, 1U);
}

TEST_F(DeviceAllPathsDown, TheLossOfOneIsNoLossOfAll) {
  fabric_.set_link(kAddresses[0], false);
  world_.run_for(5s);
  EXPECT_EQ(node_.count(EventKind::path_failed), 1U);
  EXPECT_EQ(node_.count(EventKind::paths_lost), 0U);
  EXPECT_EQ(node_.count(EventKind::paths_back), 0U);
  EXPECT_EQ(node_.finish(node_.submit(Kind::read), 100ms), int32_t{DeviceNode::kBytes});
}

TEST_F(DeviceAllPathsDown, LostLinksAreToldAtOnce) {
  const Duration lost = world_.now();
  links(false);
  world_.run_for(150ms);
  EXPECT_EQ(node_.count(EventKind::path_failed), 2U);
  ASSERT_EQ(node_.count(EventKind::paths_lost), 1U);
  // As soon as neither may take anything: before they are given up.
  EXPECT_LT(*node_.first(EventKind::paths_lost) - lost, 100ms);
}

TEST_F(DeviceAllPathsDown, SilenceOfAllIsToldWhenItIsFound) {
  Request& read = node_.submit(Kind::read);
  for (const char* portal : DeviceNode::kPortals) fabric_.isolate(portal);
  const Duration lost = world_.now();
  world_.run_for(3s);
  EXPECT_EQ(node_.count(EventKind::path_failed), 2U);
  ASSERT_EQ(node_.count(EventKind::paths_lost), 1U);
  EXPECT_LT(*node_.first(EventKind::paths_lost) - lost, 1800ms);  // the idle one: a NOP each second
  EXPECT_EQ(node_.finish(read, 1s), -ETIMEDOUT);
}

// --- how long requests wait ---

TEST_F(DeviceAllPathsDown, WhatWaitsEndsWhenTheTimeIsUp) {
  const Duration lost = lose_all();
  DeviceNode::Requests waiting;
  for (const Duration wait : {1ms, 700ms, 1290ms}) {  // 1.991 s in all
    world_.run_for(wait);
    waiting.push_back(&node_.submit(Kind::read, 1));
    waiting.push_back(&node_.submit(Kind::write, 2, 0x22));
    waiting.push_back(&node_.submit(Kind::discard, 3));
    waiting.push_back(&node_.submit(Kind::flush));
  }
  world_.run_until([&] { return world_.now() >= lost + kTimeout - kRoom; }, 1s);
  for (Request* each : waiting) EXPECT_FALSE(each->done());
  EXPECT_EQ(node_.device().waiting(), waiting.size());
  world_.run_for(3 * kRoom);
  for (Request* each : waiting) {
    ASSERT_TRUE(each->done());
    EXPECT_EQ(*each->result, -ETIMEDOUT);
    EXPECT_GE(each->ended, lost + kTimeout);
    EXPECT_LT(each->ended, lost + kTimeout + kRoom);
  }
  EXPECT_EQ(node_.device().waiting(), 0U);
  EXPECT_EQ(node_.device().executing(), 0U);
}

TEST_F(DeviceAllPathsDown, WhatWasUnderWayEndsThenToo) {
  target_.disk(0).hang();
  Request& read = node_.submit(Kind::read, 1);
  Request& write = node_.submit(Kind::write, 2, 0x22);
  world_.run_for(20ms);
  const Duration lost = lose_all();
  world_.run_until([&] { return world_.now() >= lost + kTimeout - kRoom; }, 3s);
  EXPECT_FALSE(read.done());
  EXPECT_FALSE(write.done());
  EXPECT_EQ(node_.finish(read, 2 * kRoom), -ETIMEDOUT);
  EXPECT_EQ(node_.finish(write, 2 * kRoom), -ETIMEDOUT);
  EXPECT_GE(std::min(read.ended, write.ended), lost + kTimeout);

  // It may still land: nobody is told otherwise before the old session is fenced.
  const auto gone = node_.wait_ghosts(write);
  world_.run_for(3s);
  EXPECT_FALSE(*gone);
  target_.disk(0).release();
  links(true);
  EXPECT_TRUE(world_.run_until([&] { return *gone; }, 10s));
}

// The target is stopped: its kernel answers, it does not. The paths are suspect for longer than
// requests may wait.
TEST_F(DeviceAllPathsDown, WhatAStoppedTargetHoldsEndsToo) {
  Request& before = node_.submit(Kind::read, 1);
  EXPECT_EQ(node_.finish(before, 1s), int32_t{DeviceNode::kBytes});
  target_.pause();
  Request& held = node_.submit(Kind::read, 1);
  ASSERT_TRUE(world_.run_until([&] { return node_.count(EventKind::paths_lost) > 0; }, 3s));
  const Duration lost = *node_.first(EventKind::paths_lost);
  Request& later = node_.submit(Kind::read, 2);
  EXPECT_EQ(node_.finish(later, 3s), -ETIMEDOUT);
  EXPECT_GE(later.ended, lost + kTimeout);
  EXPECT_LT(later.ended, lost + kTimeout + kRoom);
  // A session has it, which is ended when the stall has lasted for too long.
  EXPECT_EQ(node_.finish(held, 60s), -ETIMEDOUT);
  EXPECT_LT(held.ended - held.began, mpio::kLan.suspect_after + mpio::kLan.target_stall + 1s);
}

TEST_F(DeviceAllPathsDown, WhatComesAfterThatEndsAtOnce) {
  lose_all();
  world_.run_for(kTimeout + kRoom);
  for (const Kind kind : {Kind::read, Kind::write, Kind::flush}) {
    Request& late = node_.submit(kind, 1, 0x11);
    EXPECT_EQ(node_.finish(late, 1s), -ETIMEDOUT);
    EXPECT_LT(late.ended - late.began, 1ms);
  }
  links(true);
  ASSERT_TRUE(world_.run_until([&] { return node_.count(EventKind::paths_back) > 0; }, 5s));
  EXPECT_EQ(node_.finish(node_.submit(Kind::read, 1), 1s), int32_t{DeviceNode::kBytes});
  EXPECT_EQ(on_medium(1), 0x00) << "a write that was refused does not land later";
}

TEST_F(DeviceAllPathsDown, TheTimeBeginsAnewWithEachLoss) {
  for (int round = 0; round < 2; ++round) {
    node_.forget_told();
    const Duration lost = lose_all();
    Request& waits = node_.submit(Kind::read);
    world_.run_for(1200ms);
    EXPECT_FALSE(waits.done());
    links(true);
    EXPECT_EQ(node_.finish(waits, 1s), int32_t{DeviceNode::kBytes});
    EXPECT_LT(waits.ended, lost + kTimeout);
    ASSERT_TRUE(world_.run_until([&] { return node_.up(); }, 10s));
  }
}

TEST_F(DeviceAllPathsDown, ItsOwnDeadlineEndsARequestEarlier) {
  lose_all();
  Request& read = node_.make(Kind::read);
  read.request.timeout = 300ms;
  node_.submit({&read});
  EXPECT_EQ(node_.finish(read, 1s), -ETIMEDOUT);
  EXPECT_GE(read.ended - read.began, 300ms);
  EXPECT_LT(read.ended - read.began, 300ms + kRoom);
}

TEST_F(DeviceAllPathsDown, ACancelledRequestEndsAtOnce) {
  lose_all();
  Request& first = node_.submit(Kind::write, 1, 0x11);
  Request& second = node_.submit(Kind::write, 2, 0x22);
  world_.run_for(500ms);
  const Duration asked = world_.now();
  node_.cancel(first);
  EXPECT_EQ(node_.finish(first, 1s), -ECANCELED);
  EXPECT_LT(first.ended - asked, 1ms);
  EXPECT_FALSE(second.done());
  links(true);
  EXPECT_EQ(node_.finish(second, 1s), int32_t{DeviceNode::kBytes});
  EXPECT_EQ(on_medium(1), 0x00);
  EXPECT_EQ(on_medium(2), 0x22);
}

TEST_F(DeviceAllPathsDown, TheAdministratorEndsTheQueueAtOnce) {
  lose_all();
  Request& write = node_.submit(Kind::write, 1, 0x11);
  world_.run_for(100ms);
  const Duration asked = world_.now();
  node_.fail_queue();
  EXPECT_EQ(node_.finish(write, 1s), -ENOLINK);
  EXPECT_LT(write.ended - asked, 1ms);
  links(true);
  ASSERT_TRUE(world_.run_until([&] { return node_.up(); }, 10s));
  world_.run_for(100ms);
  EXPECT_EQ(on_medium(1), 0x00);
}

// --- back in time ---

TEST_F(DeviceAllPathsDown, WhatWaitsGoesOnInItsOrder) {
  const Duration lost = lose_all();
  DeviceNode::Requests waiting;
  for (uint32_t i = 0; i < kDepth; ++i) {
    Request& each = node_.make(i % 3 == 0 ? Kind::write : Kind::read, i, 0x11);
    each.request.length = each.part.iov_len = 512;  // the simulated disk takes more in pieces
    waiting.push_back(&each);
    node_.submit({&each});
    world_.run_for(10ms);
  }
  world_.run_until([&] { return world_.now() >= lost + 1200ms; }, 2s);
  for (Request* each : waiting) EXPECT_FALSE(each->done());
  const Duration back = world_.now();
  fabric_.set_link(kAddresses[1], true);  // one connection: there the order can be seen
  const auto all_done = [&] { return std::ranges::all_of(waiting, &Request::done); };
  EXPECT_TRUE(world_.run_until(all_done, lost + kTimeout - back));

  const std::string name = node_.path(1).settings().name;
  EXPECT_EQ(node_.count(EventKind::path_restored), 1U);
  EXPECT_EQ(node_.count(EventKind::paths_back), 1U);
  ASSERT_TRUE(node_.first(EventKind::path_restored, name).has_value());
  EXPECT_GE(*node_.first(EventKind::path_restored, name), back);
  EXPECT_LE(*node_.first(EventKind::path_restored, name), *node_.first(EventKind::paths_back));
  EXPECT_FALSE(node_.device().without_path_since().has_value());
  for (size_t i = 0; i < waiting.size(); ++i) {
    ASSERT_TRUE(waiting[i]->done());
    EXPECT_EQ(*waiting[i]->result, 512);
    if (i == 0) continue;
    EXPECT_GT(waiting[i]->place, waiting[i - 1]->place) << "request " << i;
  }
}

TEST_F(DeviceAllPathsDown, APathThatReturnsBeginsWithFewRequests) {
  lose_all();
  target_.disk(0).hang();  // what comes to the target stays there
  DeviceNode::Requests waiting;
  for (uint32_t i = 0; i < kDepth; ++i) waiting.push_back(&node_.make(Kind::read, 1));
  node_.submit(waiting);
  world_.run_for(1s);
  fabric_.set_link(kAddresses[1], true);
  ASSERT_TRUE(world_.run_until([&] { return node_.count(EventKind::paths_back) > 0; }, 900ms));
  world_.run_for(200ms);
  EXPECT_EQ(target_.disk(0).in_flight(), mpio::kSlowStart);
  EXPECT_EQ(node_.path(1).load().in_flight(), mpio::kSlowStart);
  EXPECT_EQ(node_.device().waiting(), kDepth - mpio::kSlowStart);
  // Each answer allows one more: besides the one that takes its place.
  target_.disk(0).release();
  uint32_t most = 0;
  const bool all = world_.run_until(
      [&] {
        const auto done = static_cast<uint32_t>(
            std::ranges::count_if(waiting, [](const Request* each) { return each->done(); }));
        const uint32_t now = node_.path(1).load().in_flight();
        EXPECT_LE(now, mpio::kSlowStart + done);
        most = std::max(most, now);
        return done == kDepth;
      },
      1s);
  EXPECT_TRUE(all);
  EXPECT_GT(most, mpio::kSlowStart);
  for (Request* each : waiting) EXPECT_EQ(*each->result, int32_t{DeviceNode::kBytes});
}

// A target that is restarted: its host is there, and refuses connections.
class DeviceTargetAway : public testing::Test {
 protected:
  DeviceTargetAway() {
    target_.start();
    node_.start();
    EXPECT_TRUE(world_.run_until([&] { return node_.up(); }, 10s));
  }
  ~DeviceTargetAway() override {
    EXPECT_TRUE(node_.stop());
    EXPECT_TRUE(target_.stop(60s));
  }

  SimWorld world_{1};
  SimFabric fabric_{world_, {}};
  TargetHost target_{world_,
                     fabric_,
                     {.volatile_cache = false, .disks = {.volatile_cache = false}},
                     {{.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 1024}}};
  DeviceNode node_{world_, fabric_, {.no_path_timeout = 60s}};
};

TEST_F(DeviceTargetAway, RequestsGoOnSoonAfterItIsBackHoweverLongItWasAway) {
  for (const Duration away : {3s, 20s, 50s}) {
    target_.kill();
    world_.run_for(10ms);
    Request& read = node_.submit(Kind::read);
    world_.run_for(away);
    EXPECT_FALSE(read.done());
    target_.start();
    EXPECT_EQ(node_.finish(read, 3s), int32_t{DeviceNode::kBytes});
    world_.run_for(1s);
  }
}

TEST_F(DeviceTargetAway, NoPathIsTheWorseForIt) {
  for (int i = 0; i < 5; ++i) {
    target_.kill();
    world_.run_for(2s);
    target_.start();
    EXPECT_TRUE(world_.run_until([&] { return node_.all_in(mpio::PathState::active); }, 20s));
    world_.run_for(5s);
    EXPECT_TRUE(node_.all_in(mpio::PathState::active)) << i;
  }
}

}  // namespace
}  // namespace holdfast::sim
