#include "tests/sim/sim_loop.h"

#include "tests/unit/sim/fixture.h"

namespace holdfast::sim {
namespace {

struct Alarm {
  explicit Alarm(SimLoop& on) : loop(on) {}
  void on_due() noexcept {
    ++fired;
    fired_at = loop.world().now();
    if (rearm > Duration::zero()) loop.start(timer, rearm);
  }
  SimLoop& loop;
  int fired = 0;
  Duration fired_at{0};
  Duration rearm{0};
  io::TimerOf<Alarm, &Alarm::on_due> timer{*this};
};

class SimLoopTest : public ::testing::Test {
 protected:
  SimWorld world{7};
  SimProcess& process = world.make_process("p");
  SimLoop& loop = process.make_loop();
};

TEST_F(SimLoopTest, CompletesLaterAndOnce) {
  TestOp soon, end;
  loop.complete_soon(soon.op, -5);
  loop.at_turn_end(end.op);
  EXPECT_FALSE(soon.result || end.result);
  world.run_for(1ms);
  EXPECT_EQ(soon.result, -5);
  EXPECT_EQ(end.result, 0);
  EXPECT_EQ(soon.completions + end.completions, 2);
  EXPECT_EQ(loop.turns(), 1u);
}

TEST_F(SimLoopTest, TurnEndComesAfterTheBatchAndInTheSameTurn) {
  struct Owner {
    void on_soon(int32_t) noexcept {
      order.push_back('s');
      if (order.size() == 1) {
        loop.at_turn_end(end);
        loop.complete_soon(soon, 0);
        EXPECT_EQ(order.size(), 1u);  // neither came from inside the call
      }
    }
    void on_end(int32_t) noexcept { order.push_back('e'); }
    SimLoop& loop;
    std::string order{};
    io::OpOf<Owner, &Owner::on_soon> soon{*this};
    io::OpOf<Owner, &Owner::on_end> end{*this};
  } owner{loop};
  loop.complete_soon(owner.soon, 0);
  world.run_for(1ms);
  EXPECT_EQ(owner.order, "sse");
  EXPECT_EQ(loop.turns(), 1u);
}

TEST_F(SimLoopTest, PostKeepsOrderAndRunsOnItsLoop) {
  SimLoop& other = process.make_loop();
  std::vector<int> seen;
  for (int i = 0; i < 50; ++i) {
    other.post([&seen, i]() noexcept { seen.push_back(i); });
  }
  EXPECT_TRUE(seen.empty());
  world.run_for(1ms);
  ASSERT_EQ(seen.size(), 50u);
  EXPECT_TRUE(std::ranges::is_sorted(seen));
}

TEST_F(SimLoopTest, TimersFireOnceInOrderAndCanBeStopped) {
  Alarm early(loop), late(loop), stopped(loop), moved(loop);
  loop.start(late.timer, 20ms);
  loop.start(early.timer, 10ms);
  loop.start(stopped.timer, 5ms);
  loop.start(moved.timer, 1ms);
  loop.stop(stopped.timer);
  loop.start(moved.timer, 50ms);
  world.run_for(30ms);
  EXPECT_EQ(early.fired, 1);
  EXPECT_EQ(late.fired, 1);
  EXPECT_LT(early.fired_at, late.fired_at);
  EXPECT_GE(early.fired_at, 10ms);
  EXPECT_EQ(stopped.fired + moved.fired, 0);
  world.run_for(30ms);
  EXPECT_EQ(moved.fired, 1);
}

TEST_F(SimLoopTest, ZeroDelayTimerThatRearmsDoesNotStarveTheTurn) {
  Alarm alarm(loop);
  alarm.rearm = Duration(1);
  loop.start(alarm.timer, Duration::zero());
  world.run_for(1ms);
  EXPECT_GT(alarm.fired, 3);
  EXPECT_LE(static_cast<uint64_t>(alarm.fired), loop.turns());
  loop.stop(alarm.timer);
}

TEST_F(SimLoopTest, ClockRateMovesTimers) {
  SimProcess& fast = world.make_process("fast");
  SimLoop& fast_loop = fast.make_loop();
  fast.set_clock_ppm(100'000);  // ten per cent
  Alarm normal(loop), hasty(fast_loop);
  loop.start(normal.timer, 100s);
  fast_loop.start(hasty.timer, 100s);
  const io::Instant before = fast_loop.now();
  world.run_for(150s);
  EXPECT_NEAR(static_cast<double>(normal.fired_at.count()), 100e9, 1e6);
  EXPECT_NEAR(static_cast<double>(hasty.fired_at.count()), 100e9 / 1.1, 1e6);
  EXPECT_NEAR(static_cast<double>((fast_loop.now() - before).count()), 165e9, 1e6);
}

TEST_F(SimLoopTest, ClockRateChangedUnderAnArmedTimer) {
  Alarm alarm(loop);
  loop.start(alarm.timer, 100s);
  world.run_for(50s);
  process.set_clock_ppm(-500'000);
  world.run_for(99s);
  EXPECT_EQ(alarm.fired, 0);
  world.run_for(2s);
  EXPECT_EQ(alarm.fired, 1);
}

TEST_F(SimLoopTest, PausedLoopRunsNothingUntilResumed) {
  TestOp op;
  Alarm alarm(loop);
  loop.complete_soon(op.op, 1);
  loop.start(alarm.timer, 1ms);
  process.pause();
  world.run_for(1s);
  EXPECT_FALSE(op.result);
  EXPECT_EQ(alarm.fired, 0);
  process.resume();
  world.run_for(1ms);
  EXPECT_EQ(op.result, 1);
  EXPECT_EQ(alarm.fired, 1);
}

TEST_F(SimLoopTest, KilledProcessRunsNothingAndItsObjectsCanGo) {
  {
    TestOp op;
    Alarm alarm(loop);
    bool ran = false;
    loop.complete_soon(op.op, 1);
    loop.start(alarm.timer, 1ms);
    loop.post([&ran]() noexcept { ran = true; });
    process.kill();
    loop.post([&ran]() noexcept { ran = true; });
    world.run_for(1s);
    EXPECT_FALSE(op.result);
    EXPECT_FALSE(ran);
    EXPECT_EQ(alarm.fired, 0);
    EXPECT_FALSE(process.alive());
    EXPECT_EQ(loop.ops_in_flight(), 0u);
  }  // neither ~Op nor ~Timer asserts
}

uint64_t run_chatter(uint64_t seed) {
  SimWorld world(seed);
  SimProcess& process = world.make_process("p");
  SimLoop& a = process.make_loop();
  SimLoop& b = process.make_loop();
  Alarm tick(a);
  tick.rearm = 3ms;
  a.start(tick.timer, 1ms);
  for (int i = 0; i < 20; ++i) {
    (i % 2 == 0 ? a : b).post([]() noexcept {});
    world.run_for(100us);
  }
  world.run_for(50ms);
  a.stop(tick.timer);
  return world.hash();
}

TEST(SimWorldTest, SeedDecidesEverything) {
  EXPECT_EQ(run_chatter(1), run_chatter(1));
  EXPECT_NE(run_chatter(1), run_chatter(2));
}

TEST(SimWorldTest, EventsRunByTimeThenSequenceAndCanBeCancelled) {
  SimWorld world(1);
  std::string order;
  world.at(2ms, [&] { order += 'c'; });
  world.at(1ms, [&] { order += 'a'; });
  world.at(1ms, [&] { order += 'b'; });
  auto cancelled = world.at(1ms, [&] { order += 'x'; });
  world.cancel(cancelled);
  EXPECT_FALSE(world.run_until([&] { return order.size() > 5; }, 1ms));
  EXPECT_EQ(order, "ab");
  EXPECT_EQ(world.now(), 1ms);
  EXPECT_TRUE(world.run_until([&] { return order.size() == 3; }, 1s));
  EXPECT_EQ(world.now(), 2ms);
  EXPECT_FALSE(world.step());
}

TEST(SimWorldDeathTest, TimeThatStandsStillIsFound) {
  SimWorld world(1);
  std::function<void()> again = [&] { world.after(0ms, [&] { again(); }); };
  again();
  EXPECT_DEATH(world.run_for(1ms), "time stands still");
}

}  // namespace
}  // namespace holdfast::sim
