// Clients of an NbdServer that vanish: what they left under way is not overtaken, what they waited
// with is dropped, and neither place nor buffers are theirs any more.

#include "mpio/nbd_server.h"
#include "tests/unit/mpio/nbd_fixture.h"

namespace holdfast::mpio {
namespace {

using nbd::Command;

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kElsewhere = 32 * kMiB;
constexpr uint8_t kOld = 1, kNew = 2, kDropped = 3;

class NbdVanishTest : public NbdServerTest {
 protected:
  static nbd::Wire write_of(uint8_t seed, uint64_t offset = kBlock, uint64_t length = kBlock) {
    return nbd::request({Command::write, offset, static_cast<uint32_t>(length)},
                        pattern(length, seed));
  }
  bool holds(uint8_t seed, uint64_t offset = kBlock) const {
    const nbd::Wire expected = pattern(kBlock, seed);
    return std::equal(expected.begin(), expected.end(),
                      device.content.begin() + static_cast<ptrdiff_t>(offset));
  }
  // The old write is held by the device, and its client vanishes after these other requests.
  void vanish_with_a_write(const nbd::Wire& more = {}, size_t held = 1) {
    auto gone = client();
    device.hold = true;
    gone->begin_write(write_of(kOld) + more);
    ASSERT_TRUE(until([&] { return device.held.size() == held; }));
    world.run_for(100ms);
    gone->kill();
    world.run_for(100ms);
  }
  // Until the old write has ended. The device holds that one first.
  void the_next_write_waits() {
    const size_t before = device.seen.size();
    auto next = client();
    next->begin_write(write_of(kNew));
    world.run_for(10s);
    EXPECT_EQ(device.seen.size(), before) << "it overtakes the old write";
    device.hold = false;
    device.release(0);
    EXPECT_EQ(next->reply().error, 0u);
    device.release_all();
    EXPECT_TRUE(until([&] { return device.under_way == 0 && server->connections() == 1; }));
    EXPECT_TRUE(holds(kNew));
    EXPECT_EQ(device.seen.size(), before + 1) << "nothing that was not begun is executed";
  }
};

TEST_F(NbdVanishTest, TheNextWriteWaitsForTheOldOne) {
  start();
  vanish_with_a_write();
  the_next_write_waits();
}

TEST_F(NbdVanishTest, AlsoWhenTheClientTookItsLeave) {
  start();
  vanish_with_a_write(nbd::request({Command::disconnect}));
  the_next_write_waits();
}

TEST_F(NbdVanishTest, AlsoWhenItHadAllRequestsUnderWayThatItMay) {
  start();
  nbd::Wire more;
  for (uint64_t k = 1; k < kMaxNbdRequests; ++k) {
    more += base::Bytes(write_of(kOld, kElsewhere + k * kBlock));
  }
  vanish_with_a_write(more, kMaxNbdRequests);
  the_next_write_waits();
}

TEST_F(NbdVanishTest, AlsoWhenItHadOneMoreThanThat) {
  start();
  nbd::Wire more;
  for (uint64_t k = 1; k <= kMaxNbdRequests; ++k) {
    more += base::Bytes(write_of(kOld, kElsewhere + k * kBlock));
  }
  vanish_with_a_write(more, kMaxNbdRequests);
  the_next_write_waits();
}

// What is read could change by itself.
TEST_F(NbdVanishTest, AReadWaitsForAChangeThatItOverlaps) {
  start();
  vanish_with_a_write();
  device.hold = false;
  EXPECT_EQ(client()->error_of({Command::read, kElsewhere, kBlock}), 0u);
  auto next = client();
  next->begin_write(nbd::request({Command::read, 0, 2 * kBlock}));
  world.run_for(10s);
  EXPECT_EQ(device.seen.size(), 2u) << "the old write, and the read elsewhere";
  device.release(0);
  const nbd::Wire data = next->reply().data;
  ASSERT_EQ(data.size(), 2 * kBlock);
  const nbd::Wire expected = pattern(kBlock, kOld);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), data.begin() + kBlock));
}

TEST_F(NbdVanishTest, WhatAClientWaitedWithWhenItVanishedIsDropped) {
  start();
  vanish_with_a_write();
  auto waits = client();
  waits->begin_write(write_of(kDropped, kBlock, 2 * kBlock));
  world.run_for(100ms);
  EXPECT_EQ(device.held.size(), 1u);
  waits->kill();
  EXPECT_TRUE(until([&] { return server->connections() == 1; })) << "it is not noticed";
  the_next_write_waits();
  EXPECT_TRUE(holds(kNew));
  EXPECT_EQ(device.content[2 * kBlock], 0u);
}

// The next one asks after it has vanished: what of it lies unread in its socket would come later.
TEST_F(NbdVanishTest, WhatAClientHadSentAndWasNotReadIsDropped) {
  start();
  auto gone = client();
  auto next = client();
  process.pause();
  nbd::Wire many;
  for (int i = 0; i < 48; ++i) many += base::Bytes(write_of(kOld));
  gone->begin_write(many);
  world.run_for(100ms);
  gone->kill();
  world.run_for(100ms);
  next->begin_write(write_of(kNew));
  world.run_for(100ms);
  process.resume();
  EXPECT_EQ(next->reply().error, 0u);
  EXPECT_TRUE(holds(kNew));
  EXPECT_TRUE(until([&] { return device.under_way == 0 && server->connections() == 1; }));
  EXPECT_TRUE(holds(kNew)) << "an old write has landed on it";
}

TEST_F(NbdVanishTest, TheDeadWhoWaitDoNotKeepTheLivingOut) {
  start();
  vanish_with_a_write();
  for (int i = 0; i < 63; ++i) {
    auto waits = client();
    waits->begin_write(write_of(kDropped));
    world.run_for(10ms);
    waits->kill();
  }
  ASSERT_TRUE(until([&] { return server->connections() == 1; }));
  the_next_write_waits();
}

TEST_F(NbdVanishTest, AClientThatVanishesWhileItWaitsForBuffersIsForgotten) {
  start(32 * kMiB);
  auto has = client();
  device.hold = true;
  has->begin_write(nbd::request({Command::read, 0, 32 * kMiB}));
  ASSERT_TRUE(until([&] { return device.held.size() == 1; }));
  auto waits = client();
  waits->begin_write(nbd::request({Command::read, 0, 32 * kMiB}));
  world.run_for(100ms);
  waits->kill();
  EXPECT_TRUE(until([&] { return server->connections() == 1; }));
  device.hold = false;
  device.release_all();
  EXPECT_EQ(has->reply().data.size(), 32 * kMiB);
  EXPECT_EQ(device.seen.size(), 1u);
}

TEST_F(NbdVanishTest, LargeRequestsOfTheDeadDoNotKeepSmallOnesWaiting) {
  start(128 * kMiB);
  device.hold = true;
  for (int i = 0; i < 2; ++i) {
    auto large = client();
    large->begin_write(nbd::request({Command::read, 0, 32 * kMiB}) +
                       nbd::request({Command::read, 32 * kMiB, 32 * kMiB}));
    world.run_for(100ms);
    large->kill();
    world.run_for(100ms);
  }
  ASSERT_GE(device.held.size(), 3u) << "the last may have to wait for buffers";
  const size_t held = device.held.size();
  device.hold = false;
  auto small = client();
  small->begin_write(nbd::request({Command::read, 0, kBlock}) + write_of(kNew));
  EXPECT_TRUE(until([&] { return device.seen.size() == held + 2; })) << "they wait for buffers";
}

}  // namespace
}  // namespace holdfast::mpio
