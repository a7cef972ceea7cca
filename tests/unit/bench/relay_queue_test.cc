#include "bench/relay_queue.h"

#include <gtest/gtest.h>

namespace holdfast::bench {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

TEST(DelayQueue, EachPieceLeavesItsDelayAfterItCame) {
  DelayQueue queue(500);
  queue.push({1, 2, 3}, 1000);
  queue.push({4}, 1200);
  EXPECT_EQ(queue.due_ns(), 1500U);
  EXPECT_TRUE(queue.front(1499).empty());
  ASSERT_EQ(queue.front(1500).size(), 3U);
  queue.pop(2);
  ASSERT_EQ(queue.front(1500).size(), 1U);
  EXPECT_EQ(queue.front(1500)[0], 3);
  queue.pop(1);
  EXPECT_TRUE(queue.front(1699).empty());
  EXPECT_EQ(queue.due_ns(), 1700U);
  ASSERT_EQ(queue.front(1700).size(), 1U);
  queue.pop(1);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.room(), DelayQueue::kCapacity);
}

TEST(DelayQueue, IsBounded) {
  DelayQueue queue(0);
  queue.push(std::vector<uint8_t>(DelayQueue::kCapacity - 10), 0);
  EXPECT_EQ(queue.room(), 10U);
  queue.push(std::vector<uint8_t>(10), 0);
  EXPECT_EQ(queue.room(), 0U);
}

TEST(TokenBucket, NothingIsFasterThanItsRateBeyondTheBurst) {
  TokenBucket bucket(1'000'000);
  uint64_t sent = 0;
  uint64_t now = 0;
  while (now < 2 * kSecond) {
    const size_t allowed = bucket.allowed(now);
    if (allowed == 0) {
      now = bucket.next_ns();
      continue;
    }
    bucket.take(allowed);
    sent += allowed;
  }
  EXPECT_GE(sent, 2'000'000U);
  EXPECT_LE(sent, 2'000'000U + 64 * 1024 + 4096);
}

TEST(TokenBucket, ARestDoesNotSaveUpMoreThanTheBurst) {
  TokenBucket bucket(1'000'000);
  bucket.take(bucket.allowed(0));
  EXPECT_LE(bucket.allowed(100 * kSecond), size_t{64 * 1024});
}

TEST(TokenBucket, WithoutARateEverythingMayGo) {
  TokenBucket bucket(0);
  bucket.take(1 << 30);
  EXPECT_EQ(bucket.allowed(1), SIZE_MAX);
}

}  // namespace
}  // namespace holdfast::bench
