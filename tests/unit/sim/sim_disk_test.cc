#include "tests/sim/sim_disk.h"

#include <cerrno>

#include "tests/unit/sim/fixture.h"

namespace holdfast::sim {
namespace {

constexpr uint64_t kSize = 1 << 20;

// One process that uses the disk.
struct User {
  User(SimWorld& world, SimDisks& disks, const char* name)
      : process(world.make_process(name)),
        loop(process.make_loop()),
        opener(world, process, disks) {}

  base::Result<> open(SimWorld& world, io::BackingSpec spec) {
    std::optional<base::Result<>> opened;
    opener.open(spec, loop, [&](base::Result<std::shared_ptr<io::Backing>> result) noexcept {
      if (result) {
        backing = *result;
        opened = base::Result<>{};
      } else {
        opened = std::unexpected(result.error());
      }
    });
    EXPECT_FALSE(opened);
    EXPECT_TRUE(world.run_until([&] { return opened.has_value(); }, 1s));
    if (*opened) device = backing->attach(loop);
    return *opened;
  }
  void write(uint8_t value, uint64_t offset = 0, io::Durability how = io::Durability::cached) {
    std::ranges::fill(buffer.bytes(), value);
    device->write(op.op, offset, buffer.bytes(), how);
  }

  SimProcess& process;
  SimLoop& loop;
  SimBackingOpener opener;
  std::shared_ptr<io::Backing> backing;
  std::unique_ptr<io::BlockDevice> device;
  AlignedBuffer buffer{16384};
  TestOp op;
};

class SimDiskTest : public ::testing::Test {
 protected:
  SimDiskTest() {
    spec.path = "/disk";
    spec.size_bytes = kSize;
    EXPECT_TRUE(user.open(world, spec));
    disk = disks.find("/disk");
  }
  int32_t finish(User& of) {
    EXPECT_TRUE(world.run_until([&] { return !of.op.op.busy(); }, 100s));
    return *of.op.result;
  }
  bool holds(uint8_t value, uint64_t offset = 0, size_t length = 16384) {
    std::vector<uint8_t> data(length);
    disk->medium().read(offset, data);
    return std::ranges::all_of(data, [value](uint8_t byte) { return byte == value; });
  }

  SimWorld world{5};
  SimDisks disks{world};
  io::BackingSpec spec;
  User user{world, disks, "first"};
  SimDisk* disk = nullptr;
};

TEST_F(SimDiskTest, ReadsWhatWasWritten) {
  user.write(7, 4096);
  EXPECT_FALSE(user.op.result);
  EXPECT_EQ(finish(user), 16384);
  user.device->read(user.op.op, 4096, user.buffer.bytes());
  EXPECT_TRUE(user.buffer.all(0xa5));  // not before the completion
  EXPECT_EQ(finish(user), 16384);
  EXPECT_TRUE(user.buffer.all(7));
}

TEST_F(SimDiskTest, DiscardZeroesExtents) {
  user.write(7);
  finish(user);
  io::Extent extent;
  user.device->extent_at(user.op.op, 0, &extent);
  EXPECT_EQ(finish(user), 0);
  EXPECT_EQ(extent.state, io::ExtentState::mapped);
  EXPECT_EQ(extent.length_bytes, 16384u);
  user.device->discard(user.op.op, 0, 8192);
  EXPECT_EQ(finish(user), 0);
  EXPECT_TRUE(holds(0, 0, 8192));
  EXPECT_TRUE(holds(7, 8192, 8192));
  user.device->extent_at(user.op.op, 4096, &extent);
  finish(user);
  EXPECT_EQ(extent.state, io::ExtentState::deallocated);
  EXPECT_EQ(extent.length_bytes, 4096u);
  user.device->write_zeroes(user.op.op, 0, 16384);
  EXPECT_EQ(finish(user), 0);
  EXPECT_TRUE(holds(0));
  EXPECT_EQ(disk->medium().allocated_bytes(), 16384u);
}

TEST_F(SimDiskTest, BadRangeAndFullDisk) {
  disk->add_bad_range(8192, 512);
  user.write(1);
  EXPECT_EQ(finish(user), -EIO);
  user.write(1, 32768);
  EXPECT_EQ(finish(user), 16384);
  disk->options().free_bytes = 8192;
  user.write(1, 65536);
  EXPECT_EQ(finish(user), -ENOSPC);
  EXPECT_TRUE(holds(0, 65536));
  user.device->discard(user.op.op, 32768, 16384);
  EXPECT_EQ(finish(user), 0);
  user.write(1, 65536);
  EXPECT_EQ(finish(user), 16384);
}

TEST_F(SimDiskTest, HangsUntilReleased) {
  disk->hang();
  user.write(1);
  world.run_for(100s);
  EXPECT_FALSE(user.op.result);
  EXPECT_TRUE(holds(0));
  user.device->cancel(user.op.op);
  world.run_for(1s);
  EXPECT_FALSE(user.op.result);
  disk->release();
  EXPECT_EQ(finish(user), 16384);
}

TEST_F(SimDiskTest, CancelStopsOnlyWhatHasNotStarted) {
  int cancelled = 0, done = 0;
  for (int i = 0; i < 200; ++i) {
    const auto value = static_cast<uint8_t>(i);
    const auto before = static_cast<uint8_t>(i - 1);
    user.write(value);
    world.run_for(world.between(0us, 300us));
    user.device->cancel(user.op.op);
    const int32_t result = finish(user);
    if (result == -ECANCELED) {
      ++cancelled;
      EXPECT_TRUE(i == 0 || !holds(value));
      user.write(value);
      finish(user);
    } else {
      ++done;
      EXPECT_EQ(result, 16384);
      EXPECT_TRUE(holds(value));
    }
    EXPECT_FALSE(i > 0 && holds(before));
  }
  EXPECT_GT(cancelled, 20);
  EXPECT_GT(done, 20);
}

TEST_F(SimDiskTest, PowerLossTakesUnsyncedWritesInAnyCombination) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    base::SeededRandom random(seed);
    SimMedium medium(kSize, true);
    medium.write(0, std::vector<uint8_t>(1024, 'a'), true);
    medium.flush(medium.mark());
    medium.write(0, std::vector<uint8_t>(1024, 'b'), true);
    medium.write(0, std::vector<uint8_t>(1024, 'c'), true);
    medium.lose_power(random);
    uint8_t sectors[1024];
    medium.read(0, sectors);
    EXPECT_EQ(sectors[0], sectors[511]);  // a sector is never torn
    outcomes.insert({static_cast<char>(sectors[0]), static_cast<char>(sectors[512])});
  }
  EXPECT_TRUE(outcomes.contains("aa") && outcomes.contains("bb") && outcomes.contains("cc"));
  EXPECT_TRUE(outcomes.contains("ac") || outcomes.contains("ca"));  // torn
  EXPECT_FALSE(outcomes.contains("  "));
}

TEST_F(SimDiskTest, FlushCoversWhatEndedBeforeItAndDurableWritesStay) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    base::SeededRandom random(seed);
    SimMedium medium(kSize, true);
    medium.write(0, std::vector<uint8_t>(512, 'o'), true);
    medium.write(0, std::vector<uint8_t>(512, 'f'), false);  // FUA over an older cached one
    const uint64_t mark = medium.mark();
    medium.write(512, std::vector<uint8_t>(512, 'l'), true);
    medium.flush(mark);  // issued before the second write
    EXPECT_EQ(medium.cached_sectors(), 1u);
    medium.lose_power(random);
    uint8_t sectors[1024];
    medium.read(0, sectors);
    EXPECT_EQ(sectors[0], 'f');
    EXPECT_TRUE(sectors[512] == 'l' || sectors[512] == 0);
  }
}

TEST_F(SimDiskTest, ProcessKillKeepsCompletedWritesAndTheCache) {
  user.write(9);
  finish(user);
  user.process.kill();
  world.run_for(1s);
  EXPECT_TRUE(holds(9));
}

TEST_F(SimDiskTest, WriteUnderWayIsTornByPowerLoss) {
  std::set<size_t> kept;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimWorld other(seed);
    SimDisks others(other);
    User victim(other, others, "victim");
    ASSERT_TRUE(victim.open(other, spec));
    victim.write(3);
    victim.process.kill(true);
    others.lose_power();
    std::vector<uint8_t> data(16384);
    others.find("/disk")->medium().read(0, data);
    kept.insert(static_cast<size_t>(std::ranges::count(data, uint8_t{3})));
  }
  EXPECT_GT(kept.size(), 4u);
  for (const size_t count : kept) EXPECT_EQ(count % 512, 0u);
}

TEST_F(SimDiskTest, LateWriteLandsAfterAKillAndTheLockWaitsForIt) {
  disk->hang();
  user.write(1);
  world.run_for(1ms);
  user.process.kill();
  std::ranges::fill(user.buffer.bytes(), uint8_t{99});  // the page is pinned: too late to change it
  User next(world, disks, "next");
  world.run_for(10s);
  EXPECT_EQ(disk->in_flight_of_dead(), 1u);
  auto refused = next.open(world, spec);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Errc::busy);
  disk->release();
  world.run_for(1s);
  EXPECT_TRUE(holds(1));
  EXPECT_TRUE(next.open(world, spec));
}

TEST_F(SimDiskTest, BrokenLockRuleLetsALateWriteOverwriteNewerData) {
  disk->options().lock_outlives_process = false;
  disk->options().cancel_per_million = 0;
  disk->options().slow_per_million = 1'000'000;
  user.write(1);
  user.process.kill();
  disk->options().slow_per_million = 0;
  User next(world, disks, "next");
  ASSERT_TRUE(next.open(world, spec));
  next.write(2);
  EXPECT_EQ(finish(next), 16384);
  EXPECT_TRUE(holds(2));
  world.run_for(10s);
  EXPECT_TRUE(holds(1));  // what the rule is there to prevent
}

TEST_F(SimDiskTest, LockIsExclusiveAndGoesWithTheBacking) {
  User next(world, disks, "next");
  EXPECT_FALSE(next.open(world, spec));
  user.device.reset();
  user.backing.reset();
  EXPECT_TRUE(next.open(world, spec));
}

TEST_F(SimDiskTest, GrowsNeverShrinks) {
  std::optional<base::Result<>> grown;
  user.backing->grow(2 * kSize, user.loop, [&](base::Result<> r) noexcept { grown = r; });
  EXPECT_FALSE(grown);
  world.run_for(1s);
  ASSERT_TRUE(grown && *grown);
  user.backing->use_grown();
  EXPECT_EQ(user.device->info().size_bytes, 2 * kSize);
  grown.reset();
  user.backing->grow(kSize, user.loop, [&](base::Result<> r) noexcept { grown = r; });
  world.run_for(1s);
  EXPECT_FALSE(*grown);
  user.device.reset();
  user.backing.reset();
  const auto shrunk = user.open(world, spec);
  ASSERT_FALSE(shrunk);
  EXPECT_EQ(shrunk.error().code, base::Errc::invalid_argument);
}

TEST_F(SimDiskTest, MisuseIsABug) {
  EXPECT_DEATH(user.device->write(user.op.op, 100, user.buffer.bytes(), io::Durability::cached),
               "block_size");
  EXPECT_DEATH(user.device->read(user.op.op, kSize, user.buffer.bytes()), "size_bytes");
  EXPECT_DEATH(user.device->read(user.op.op, 0, user.buffer.bytes().subspan(8, 512)), "address");
}

}  // namespace
}  // namespace holdfast::sim
