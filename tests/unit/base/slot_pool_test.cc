#include "common/base/slot_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace holdfast::base {
namespace {

TEST(SlotPool, GivesEachSlotOnceAndThenNothing) {
  SlotPool<int> pool(3);
  EXPECT_EQ(pool.count(), 3u);
  std::set<int*> slots;
  for (int i = 0; i < 3; ++i) slots.insert(pool.acquire());
  EXPECT_EQ(slots.size(), 3u);
  EXPECT_FALSE(slots.contains(nullptr));
  EXPECT_EQ(pool.available(), 0u);
  EXPECT_EQ(pool.acquire(), nullptr);
  for (int* slot : slots) pool.release(slot);
  EXPECT_EQ(pool.available(), 3u);
}

TEST(SlotPool, AReleasedSlotIsGivenAgain) {
  SlotPool<int> pool(1);
  int* const slot = pool.acquire();
  pool.release(slot);
  EXPECT_EQ(pool.acquire(), slot);
  pool.release(slot);
}

using SlotPoolDeathTest = ::testing::Test;

TEST_F(SlotPoolDeathTest, MisuseStopsTheProgram) {
  SlotPool<int> pool(1);
  int stranger = 0;
  int* const slot = pool.acquire();
  EXPECT_DEATH(pool.release(&stranger), "slot >= slots_");
  pool.release(slot);
  EXPECT_DEATH(pool.release(slot), "free_.size\\(\\) < count_");
  EXPECT_DEATH(
      {
        SlotPool<int> leaked(1);
        leaked.acquire();
      },
      "free_.size\\(\\) == count_");
}

}  // namespace
}  // namespace holdfast::base
