// A node's hold on a shared device: what it registers, and what it finds out. Virtual time; each
// case makes one thing happen.

#include "qdisk/device_guard.h"

#include "tests/sim/guard_scene.h"

namespace holdfast::sim::guard {
namespace {

// --- claim ---

TEST(DeviceGuardClaim, RegistersThisLifeAndReserves) {
  Scene scene;
  Host& a = scene.claimed(0);
  const auto state = scene.state();
  EXPECT_EQ(state.keys, Keys{a.key()});
  EXPECT_EQ(state.type, kType);
  EXPECT_EQ(state.holder_key, a.key());
  EXPECT_FALSE(a.guard.busy());
  EXPECT_TRUE(scene.wait(*a.check()).ok());
}

TEST(DeviceGuardClaim, EndsWhatAnEarlierLifeHasUnderWay) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Scene scene(seed);
    Host& old = scene.claimed(0, 1);
    Host& other = scene.claimed(1, 1);
    scene.hang_writes(old);
    Scene::kill(old);
    Host& next = scene.host(0, 2);
    const auto answer = next.claim();
    ASSERT_TRUE(scene.wait(*answer).ok());
    const size_t landed = scene.landed[old.device.nexus()];
    EXPECT_GT(landed, 10U) << "of what was under way";
    EXPECT_GT(answer->at, 1s) << "it waits for them";
    scene.world.run_for(30s);
    EXPECT_EQ(scene.landed[old.device.nexus()], landed);
    const auto state = scene.state();
    EXPECT_EQ(state.keys, (Keys{next.key(), other.key()}));
    EXPECT_EQ(state.type, kType);
    EXPECT_EQ(state.holder_key, next.key());
    EXPECT_EQ(answer->count, 1);
  }
}

TEST(DeviceGuardClaim, OfTwoNodesAtOnceBothSucceed) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Scene scene(seed);
    Host& a = scene.host(0);
    Host& b = scene.host(1);
    const auto first = a.claim(), second = b.claim();
    scene.world.run_for(kPrompt);
    EXPECT_TRUE(first->ok() && second->ok()) << seed;
    const auto state = scene.state();
    EXPECT_EQ(state.keys, (Keys{a.key(), b.key()}));
    EXPECT_EQ(state.type, kType);
    EXPECT_TRUE(state.holder_key == a.key() || state.holder_key == b.key());
  }
}

TEST(DeviceGuardClaim, AForeignReservationIsRefusedWithItsReason) {
  for (const auto type : {ReservationType::write_exclusive, kType}) {
    Scene scene;
    Host& owner = scene.host(5);
    // Of a node of ours, but another type; or of the same, and of nobody in this cluster.
    owner.use_key(type == kType ? kForeignKey : owner.key());
    scene.world.run_for(kPrompt);
    owner.loop.post([&]() noexcept { owner.device.reserve(type, [](base::Result<>) noexcept {}); });
    scene.world.run_for(kPrompt);
    Host& a = scene.host(0);
    const auto claim = a.claim();
    ASSERT_TRUE(scene.wait(*claim).is(Errc::busy));
    EXPECT_STREQ(claim->result->error().what, "the device is reserved by somebody else");
    EXPECT_TRUE(scene.wait(*a.check()).is(Errc::permission));
    EXPECT_TRUE(scene.wait(*a.fence({.epoch = 5})).is(Errc::permission));
    const auto state = scene.state();
    EXPECT_EQ(state.type, type);
    EXPECT_EQ(state.holder_key, type == kType ? kForeignKey : owner.key());
    EXPECT_EQ(state.keys.size(), 1U) << "with its key this node could write there";
  }
}

TEST(DeviceGuardClaim, AKeyThatIsTakenAwayMeanwhileIsNotTakenBack) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& b = scene.host(1);
  const auto claim = b.claim();
  ASSERT_TRUE(scene.world.run_until([&] { return scene.lun.registrations() == 2; }, 1s));
  b.device.unregister();
  EXPECT_TRUE(scene.wait(*claim).is(Errc::permission));
  scene.world.run_for(30s);
  EXPECT_EQ(scene.state().keys, Keys{a.key()});
  EXPECT_EQ(scene.state().holder_key, a.key());
  EXPECT_EQ(claim->count, 1);
}

TEST(DeviceGuardClaim, KeysThatComeBackAllTheTimeEndIt) {
  Scene scene;
  Host& old = scene.claimed(0, 1);
  Host& next = scene.host(0, 2);
  std::function<void()> again = [&] {
    old.use_key(old.key());
    scene.world.after(50us, again);
  };
  again();
  const auto claim = next.claim();
  EXPECT_TRUE(scene.wait(*claim).is(Errc::busy));
  EXPECT_STREQ(claim->result->error().what, "the keys of the device do not settle");
  EXPECT_LT(claim->at, 1s);
}

TEST(DeviceGuardClaim, ATargetThatIsSilentFailsItInTime) {
  Scene scene;
  Host& a = scene.host(0);
  a.device.cut(true);
  const auto claim = a.claim();
  EXPECT_TRUE(scene.wait(*claim).is(Errc::timed_out));
  EXPECT_LE(claim->at, 10s + kPrompt);
  a.device.cut(false);
  EXPECT_TRUE(scene.wait(*a.claim()).ok());
  a.device.cut(true);
  EXPECT_TRUE(scene.wait(*a.check()).is(Errc::timed_out)) << "nothing is known of the key";
  EXPECT_TRUE(scene.wait(*a.fence({.epoch = 5})).is(Errc::timed_out));
}

// --- a target that is restarted ---

TEST(DeviceGuardRestart, WithAptplNothingIsLost) {
  Scene scene;
  Host& a = scene.claimed(0);
  scene.lun.restart_target();
  EXPECT_TRUE(scene.wait(*a.check()).ok());
  EXPECT_EQ(scene.state().holder_key, a.key());
}

TEST(DeviceGuardRestart, WithoutAptplTheLossIsFoundAndMadeGoodByAClaim) {
  Scene scene;
  scene.lun.options().aptpl = false;
  Host& a = scene.claimed(0);
  Host& b = scene.claimed(1);
  scene.lun.restart_target();
  for (Host* each : {&a, &b}) EXPECT_TRUE(scene.wait(*each->check()).is(Errc::permission));
  EXPECT_TRUE(scene.wait(*a.fence({.epoch = 5})).is(Errc::permission));
  EXPECT_EQ(scene.lun.registrations(), 0U) << "nobody has asked for it";
  EXPECT_TRUE(scene.wait(*a.claim()).ok());
  EXPECT_TRUE(scene.wait(*b.check()).is(Errc::permission)) << "its own key is not there";
  EXPECT_TRUE(scene.wait(*b.claim()).ok());
  for (Host* each : {&a, &b}) EXPECT_TRUE(scene.wait(*each->check()).ok());
  EXPECT_EQ(scene.state().keys, (Keys{a.key(), b.key()}));
  EXPECT_EQ(scene.state().holder_key, a.key());
}

TEST(DeviceGuardRestart, ALostReservationIsFoundThoughTheKeyIsThere) {
  Scene scene;
  Host& a = scene.claimed(0);
  Host& b = scene.claimed(1);
  a.device.unregister();
  EXPECT_FALSE(scene.lun.reserved());
  EXPECT_TRUE(scene.wait(*b.check()).is(Errc::permission));
  EXPECT_TRUE(scene.wait(*b.claim()).ok());
  EXPECT_EQ(scene.state().holder_key, b.key());
}

TEST(DeviceGuardRestart, DuringAFenceItsOwnKeyIsGone) {
  Scene scene;
  scene.lun.options().aptpl = false;
  Host& a = scene.claimed(0);
  const auto fence = a.fence({.epoch = 5, .lives = {{1, 1}}});
  scene.world.run_for(3s);
  scene.lun.restart_target();
  EXPECT_TRUE(scene.wait(*fence).is(Errc::permission));
  EXPECT_EQ(scene.lun.registrations(), 0U);
}

// --- a device without reservations ---

TEST(DeviceGuardPlain, OnlyTimeFences) {
  Scene scene;
  Host& host = scene.host(0);
  PlainDevice plain(host.loop);
  auto guard = std::make_unique<DeviceGuard>(host.loop, plain, host.settings());
  Answer<void> claim, check;
  Answer<FenceProof> fence;
  const auto note = [&](auto& answer) {
    return [&scene, &answer](auto result) noexcept {
      ++answer.count;
      answer.result = result;
      answer.at = scene.world.now();
    };
  };
  host.loop.post([&]() noexcept { guard->claim(note(claim)); });
  ASSERT_TRUE(scene.wait(claim).ok());
  EXPECT_TRUE(guard->without_reservations());
  host.loop.post([&]() noexcept { guard->check(note(check)); });
  EXPECT_TRUE(scene.wait(check).ok());
  const Duration begun = scene.world.now();
  host.loop.post([&]() noexcept { guard->fence({.epoch = 5, .lives = {{1, 1}}}, note(fence)); });
  ASSERT_TRUE(scene.wait(fence).ok());
  EXPECT_EQ(**fence.result, FenceProof::timed);
  EXPECT_GE(fence.at - begun, kTakeover + kHold);
  EXPECT_LT(fence.at - begun, kTakeover + kHold + kPrompt);
  scene.world.run_for(60s);
  EXPECT_EQ(claim.count + check.count + fence.count, 3);

  Answer<FenceProof> stopped;
  host.loop.post([&]() noexcept { guard->fence({.epoch = 6, .lives = {{2, 1}}}, note(stopped)); });
  scene.world.run_for(1s);
  host.loop.post([&]() noexcept { guard->stop(); });
  scene.world.run_for(kPrompt);
  EXPECT_TRUE(stopped.is(Errc::cancelled));
}

}  // namespace
}  // namespace holdfast::sim::guard
