// The fence: who is removed and who is spared, and when a node may say that nothing of the fenced
// can land any more.

#include "qdisk/device_guard.h"
#include "tests/sim/guard_scene.h"

namespace holdfast::sim::guard {
namespace {

constexpr Life kVictim{1, 1};

FenceOrder order_of(std::vector<Life> lives) { return {.epoch = 5, .lives = std::move(lives)}; }

void expect_timed(const Answer<FenceProof>& answer, Duration begun) {
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(**answer.result, FenceProof::timed);
  EXPECT_GE(answer.at - begun, kHold);
  EXPECT_LT(answer.at - begun, kHold + kPrompt);
}

void expect_drained(const Answer<FenceProof>& answer, Duration begun) {
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(**answer.result, FenceProof::drained);
  EXPECT_LT(answer.at - begun, kPrompt);
}

TEST(DeviceGuardFence, IsDrainedOnceTheCommandsOfTheVictimHaveEnded) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Scene scene(seed);
    Host& a = scene.claimed(0);
    Host& victim = scene.claimed(1);
    a.guard.set_members(members({a.life}));
    scene.hang_writes(victim);
    const size_t before = scene.landed[victim.device.nexus()];
    const auto fence = a.fence(order_of({kVictim}));
    ASSERT_TRUE(scene.wait(*fence).ok());
    EXPECT_EQ(**fence->result, FenceProof::drained);
    const size_t landed = scene.landed[victim.device.nexus()];
    EXPECT_GT(landed, before + 10) << "of what was under way";
    victim.write(40);
    scene.world.run_for(60s);
    EXPECT_EQ(scene.landed[victim.device.nexus()], landed) << "after the answer";
    EXPECT_LT(scene.last_landed[victim.device.nexus()], fence->at);
    for (size_t i = 40; i < 80; ++i) EXPECT_EQ(victim.writes[i]->result, -EBADE);
    EXPECT_EQ(scene.state().keys, Keys{a.key()});
    EXPECT_EQ(fence->count, 1);
    EXPECT_TRUE(scene.wait(*victim.check()).is(Errc::permission));
  }
}

// Somebody else has removed its key, and its commands are still under way.
TEST(DeviceGuardFence, OfAKeyThatIsGoneIsTimedAfterTheHold) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& victim = scene.claimed(1);
  Host& other = scene.claimed(2);
  scene.hang_writes(victim);
  const auto lost = other.fence({.epoch = 5, .lives = {kVictim}, .joining = {a.life}});
  ASSERT_TRUE(scene.world.run_until([&] { return scene.lun.registrations() == 2; }, 1s));
  Scene::kill(other);
  const size_t before = scene.landed[victim.device.nexus()];
  const Duration begun = scene.world.now();
  const auto fence = a.fence({.epoch = 5, .lives = {kVictim}, .joining = {other.life}});
  scene.world.run_for(kHold - 1ms);
  EXPECT_EQ(fence->count, 0);
  EXPECT_TRUE(a.guard.busy());
  const size_t landed = scene.landed[victim.device.nexus()];
  EXPECT_GT(landed, before + 5) << "meanwhile";
  expect_timed(scene.wait(*fence), begun);
  scene.world.run_for(60s);
  EXPECT_EQ(scene.landed[victim.device.nexus()], landed);
  EXPECT_EQ(fence->count, 1);
  EXPECT_EQ(lost->count, 0);
}

TEST(DeviceGuardFence, WhatIsProvedStaysProvedWithItsKindOfProof) {
  Scene scene;
  Host& a = scene.claimed(0);
  scene.claimed(1);
  Duration begun = scene.world.now();
  // One of two is there: the worse proof counts for both.
  expect_timed(scene.wait(*a.fence(order_of({kVictim, {2, 1}}))), begun);
  begun = scene.world.now();
  const auto again = a.fence({.epoch = 6, .lives = {kVictim, {2, 1}}});
  ASSERT_TRUE(scene.wait(*again).ok());
  EXPECT_EQ(**again->result, FenceProof::timed);
  EXPECT_LT(again->at - begun, kPrompt);
  begun = scene.world.now();
  expect_drained(scene.wait(*a.fence({.epoch = 7, .lives = {kVictim}})), begun);
  // It was in no order for a time: nothing is known of it.
  expect_drained(scene.wait(*a.fence(order_of({}))), begun);
  begun = scene.world.now();
  expect_timed(scene.wait(*a.fence({.epoch = 8, .lives = {kVictim}})), begun);
}

TEST(DeviceGuardFence, OfUnknownLivesIsTimedUntilTheirEpoch) {
  Scene scene;
  Host& a = scene.claimed(0);
  Duration begun = scene.world.now();
  expect_timed(scene.wait(*a.fence({.epoch = 5, .unknown_until = 5})), begun);
  begun = scene.world.now();
  const auto again = a.fence({.epoch = 6, .unknown_until = 5});
  ASSERT_TRUE(scene.wait(*again).ok());
  EXPECT_LT(again->at - begun, kPrompt);
  EXPECT_EQ(**again->result, FenceProof::timed) << "it was time that has ended them";
  begun = scene.world.now();
  expect_timed(scene.wait(*a.fence({.epoch = 7, .unknown_until = 7})), begun);
  begun = scene.world.now();
  expect_drained(scene.wait(*a.fence({.epoch = 8})), begun);
}

// --- the reservation ---

TEST(DeviceGuardFence, TheReservationPassesToWhoeverFencesItsHolder) {
  Scene scene;
  Host& holder = scene.claimed(1);
  Host& a = scene.claimed(0);
  ASSERT_EQ(scene.state().holder_key, holder.key());
  const Duration begun = scene.world.now();
  expect_drained(scene.wait(*a.fence(order_of({kVictim}))), begun);
  const auto state = scene.state();
  EXPECT_EQ(state.type, kType);
  EXPECT_EQ(state.holder_key, a.key());
}

TEST(DeviceGuardFence, AReservationThatIsGoneIsTakenAnew) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& victim = scene.claimed(1);
  a.device.unregister();  // as holder
  a.use_key(a.key());
  scene.world.run_for(kPrompt);
  ASSERT_FALSE(scene.lun.reserved());
  const Duration begun = scene.world.now();
  expect_drained(scene.wait(*a.fence(order_of({kVictim}))), begun);
  EXPECT_EQ(scene.state().type, kType);
  EXPECT_EQ(scene.state().holder_key, a.key());
  victim.write(1);
  scene.world.run_for(kPrompt);
  EXPECT_EQ(victim.writes[0]->result, -EBADE);
}

TEST(DeviceGuardFence, AReservationThatIsLostDuringTheHoldBeginsItAnew) {
  Scene scene;
  Host& holder = scene.claimed(2);
  Host& a = scene.claimed(0);
  const Duration begun = scene.world.now();
  const auto fence = a.fence({.epoch = 5, .lives = {kVictim}, .joining = {holder.life}});
  scene.world.run_for(3s);
  holder.device.unregister();
  EXPECT_FALSE(scene.lun.reserved());
  expect_timed(scene.wait(*fence), begun + kHold);
  EXPECT_EQ(scene.state().holder_key, a.key());
}

TEST(DeviceGuardFence, AReservationOfAnotherDuringTheHoldProvesNothing) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& foreign = scene.host(7);
  const auto fence = a.fence(order_of({kVictim}));
  scene.world.run_for(3s);
  a.device.unregister();  // as holder
  foreign.use_key(kForeignKey);
  scene.world.run_for(kPrompt);
  foreign.loop.post(
      [&foreign]() noexcept { foreign.device.reserve(kType, [](base::Result<>) noexcept {}); });
  a.use_key(a.key());
  scene.world.run_for(kPrompt);
  ASSERT_EQ(scene.state().holder_key, kForeignKey);
  EXPECT_TRUE(scene.wait(*fence).is(Errc::busy));
}

// --- who is spared ---

TEST(DeviceGuardFence, MembersAndJoiningLivesAreSpared) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& victim = scene.claimed(1);
  Host& member = scene.claimed(2);
  Host& joining = scene.claimed(3);
  Host& old = scene.claimed(4, 1);   // an earlier life of a node that joins
  Host& stray = scene.claimed(5);    // of nobody's order
  Host& leaving = scene.claimed(6);  // it wants to join again, and is among the lives
  Host& foreign = scene.host(7);
  foreign.use_key(kForeignKey);
  scene.world.run_for(kPrompt);
  a.guard.set_members(members({a.life, member.life}));
  const Duration begun = scene.world.now();
  const auto fence = a.fence({.epoch = 5,
                              .lives = {victim.life, leaving.life},
                              .joining = {joining.life, {4, 2}, leaving.life}});
  expect_drained(scene.wait(*fence), begun);
  EXPECT_EQ(scene.state().keys, (Keys{a.key(), member.key(), joining.key(), kForeignKey}));
  for (Host* out : {&victim, &old, &stray, &leaving}) {
    EXPECT_TRUE(scene.wait(*out->check()).is(Errc::permission));
  }
}

TEST(DeviceGuardFence, MembersOfANewerDecisionAreSparedDuringAHoldToo) {
  for (const bool told : {true, false}) {
    Scene scene;
    Host& a = scene.claimed(0);
    Host& next = scene.host(3);
    a.guard.set_members(members({a.life}));
    const Duration begun = scene.world.now();
    const auto fence = a.fence(order_of({kVictim}));
    scene.world.run_for(1s);
    ASSERT_TRUE(scene.wait(*next.claim()).ok());
    scene.world.run_for(1s);
    if (told) a.guard.set_members(members({a.life, next.life}));
    scene.wait(*fence);
    EXPECT_EQ(scene.wait(*next.check()).ok(), told);
    if (told) expect_timed(*fence, begun);
  }
}

TEST(DeviceGuardFence, AVictimThatComesBackDuringTheHoldIsRemoved) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& victim = scene.host(1);
  const Duration begun = scene.world.now();
  const auto fence = a.fence(order_of({kVictim}));
  scene.world.run_for(3s);
  ASSERT_TRUE(scene.wait(*victim.claim()).ok());
  ASSERT_TRUE(scene.wait(*fence).ok());
  EXPECT_EQ(**fence->result, FenceProof::drained) << "this time it was there to be removed";
  EXPECT_GE(fence->at - begun, kHold);
  EXPECT_LT(fence->at - begun, kHold + kPrompt);
  EXPECT_EQ(scene.state().keys, Keys{a.key()});
}

// It may have been a member in an epoch that this node has missed: its commands are ended, and
// then it may register and wait.
TEST(DeviceGuardFence, AJoiningLifeIsEndedOnceWhereSomeAreUnknown) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& joining = scene.claimed(3);
  scene.hang_writes(joining);
  const Duration begun = scene.world.now();
  const auto fence = a.fence({.epoch = 5, .unknown_until = 5, .joining = {joining.life}});
  ASSERT_TRUE(scene.world.run_until([&] { return scene.lun.registrations() == 1; }, 1s));
  std::shared_ptr<Answer<void>> claim;
  std::function<void()> looks = [&] {
    scene.world.after(1s, looks);
    if (joining.guard.busy() || scene.lun.registrations() == 2) return;
    claim = joining.claim();
  };
  looks();
  scene.wait(*fence, kSlowest + kHold + kPrompt);
  ASSERT_TRUE(fence->ok());
  EXPECT_EQ(**fence->result, FenceProof::timed);
  EXPECT_GE(fence->at - begun, kHold);
  EXPECT_EQ(scene.state().keys, (Keys{a.key(), joining.key()}));
  EXPECT_TRUE(claim->ok());
}

// --- a node that is fenced itself ---

TEST(DeviceGuardFence, WhoseOwnKeyIsGoneFencesNobodyAndClaimsNothing) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& b = scene.claimed(1);
  Host& c = scene.claimed(2);
  const auto first = b.fence({.epoch = 5, .lives = {a.life}, .joining = {c.life}});
  ASSERT_TRUE(scene.wait(*first).ok());
  EXPECT_TRUE(scene.wait(*a.fence(order_of({b.life, c.life}))).is(Errc::permission));
  EXPECT_TRUE(scene.wait(*a.check()).is(Errc::permission));
  scene.world.run_for(30s);
  EXPECT_EQ(scene.state().keys, (Keys{b.key(), c.key()}));
  EXPECT_EQ(scene.state().holder_key, b.key());
}

TEST(DeviceGuardFence, WhoseOwnKeyGoesDuringTheHoldProvesNothing) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& b = scene.claimed(2);
  const auto fence = a.fence({.epoch = 5, .lives = {kVictim}, .joining = {b.life}});
  scene.world.run_for(1s);
  ASSERT_TRUE(scene.wait(*b.fence(order_of({a.life}))).ok());
  EXPECT_TRUE(scene.wait(*fence).is(Errc::permission));
  EXPECT_EQ(scene.state().keys, Keys{b.key()});
}

// --- stop ---

// Wherever it comes: one answer, soon, and nothing is begun after it.
TEST(DeviceGuardStop, InTheMiddleOfAFenceEndsIt) {
  size_t removed = 0, kept = 0;
  for (Duration at = 0us; at < 12ms; at += 100us) {
    Scene scene;
    Host& a = scene.claimed(0);
    for (qdisk::NodeId node = 1; node <= 3; ++node) scene.claimed(node);
    const Duration begun = scene.world.now();
    const auto fence = a.fence(order_of({{1, 1}, {2, 1}, {3, 1}, {4, 1}}));
    scene.world.run_for(at);
    a.guard.stop();
    const size_t there = scene.lun.registrations();
    scene.wait(*fence);
    EXPECT_TRUE(fence->is(Errc::cancelled)) << at.count();
    EXPECT_LT(fence->at - begun, kPrompt) << at.count();
    EXPECT_FALSE(a.guard.busy());
    scene.world.run_for(60s);
    EXPECT_EQ(fence->count, 1);
    // At most the one that was under way.
    EXPECT_GE(scene.lun.registrations() + 1, there) << at.count();
    removed += 4 - scene.lun.registrations();
    kept += scene.lun.registrations() - 1;
  }
  EXPECT_GT(removed, 50U);
  EXPECT_GT(kept, 50U);
}

TEST(DeviceGuardStop, AReadingThatIsAnsweredLaterBeginsNothing) {
  Scene scene;
  Host& a = scene.claimed(0);
  scene.claimed(1);
  const auto fence = a.fence(order_of({kVictim}));
  ASSERT_TRUE(scene.world.run_until([&] { return a.guard.busy(); }, 1s));
  a.guard.stop();
  EXPECT_TRUE(scene.wait(*fence).is(Errc::cancelled));
  scene.world.run_for(30s);
  EXPECT_EQ(scene.lun.registrations(), 2U);
}

TEST(DeviceGuardStop, DuringTheHoldEndsItAtOnce) {
  Scene scene;
  Host& a = scene.claimed(0);
  const auto fence = a.fence(order_of({kVictim}));
  scene.world.run_for(1s);
  ASSERT_TRUE(a.guard.busy());
  const Duration begun = scene.world.now();
  a.loop.post([&]() noexcept { a.guard.stop(); });
  EXPECT_TRUE(scene.wait(*fence).is(Errc::cancelled));
  EXPECT_LT(fence->at - begun, kPrompt);
  scene.world.run_for(60s);
  EXPECT_EQ(fence->count, 1);
}

TEST(DeviceGuardStop, InTheMiddleOfAClaimEndsIt) {
  size_t cancelled = 0;
  for (Duration at = 0us; at < 8ms; at += 100us) {
    Scene scene;
    Host& old = scene.claimed(0, 1);
    Host& next = scene.host(0, 2);
    const auto claim = next.claim();
    scene.world.run_for(at);
    next.guard.stop();
    const size_t there = scene.lun.registrations();
    scene.wait(*claim);
    EXPECT_TRUE(claim->ok() || claim->is(Errc::cancelled)) << at.count();
    if (claim->is(Errc::cancelled)) ++cancelled;
    scene.world.run_for(60s);
    EXPECT_EQ(claim->count, 1);
    EXPECT_GE(scene.lun.registrations(), std::min(there, size_t{1}));
    Scene::kill(old);
  }
  EXPECT_GT(cancelled, 20U);
}

}  // namespace
}  // namespace holdfast::sim::guard
