#include "common/rpc/send_queue.h"

#include <gtest/gtest.h>

#include <deque>

#include "common/base/random.h"
#include "common/rpc/limits.h"

namespace holdfast::rpc {
namespace {

FrameHeader numbered(uint64_t id) { return {.kind = FrameKind::request, .type = 1, .id = id}; }

uint64_t id_of(base::Bytes frame) { return base::load<WireHeader>(frame).id; }

TEST(SendQueue, UrgentFramesOvertakeAndEachKindKeepsItsOrder) {
  SendQueue queue;
  const std::vector<uint8_t> payload(100);
  for (uint64_t id : {1u, 2u}) ASSERT_TRUE(queue.push(Priority::bulk, numbered(id), payload));
  for (uint64_t id : {11u, 12u}) ASSERT_TRUE(queue.push(Priority::urgent, numbered(id), payload));
  for (uint64_t id : {11u, 12u, 1u, 2u}) {
    ASSERT_FALSE(queue.empty());
    EXPECT_EQ(id_of(queue.front()), id);
    EXPECT_EQ(queue.front().size(), kFrameHeaderBytes + payload.size());
    queue.pop();
  }
  EXPECT_TRUE(queue.empty());
}

TEST(SendQueue, EachQueueHasItsOwnBoundAndAFullOneChangesNothing) {
  SendQueue queue;
  const std::vector<uint8_t> payload(kMaxPayload);
  const size_t frame = kFrameHeaderBytes + kMaxPayload;
  size_t taken = 0;
  while (queue.push(Priority::bulk, numbered(++taken), payload).has_value()) {
  }
  EXPECT_EQ(taken - 1, kBulkQueueBytes / frame);
  const size_t size = queue.size_bytes();
  EXPECT_EQ(size, (taken - 1) * frame);
  EXPECT_EQ(queue.push(Priority::bulk, numbered(1), payload).error().code, base::Errc::limit);
  EXPECT_EQ(queue.size_bytes(), size);
  EXPECT_TRUE(queue.push(Priority::urgent, numbered(1000), payload).has_value());
  EXPECT_EQ(id_of(queue.front()), 1000u);
  queue.pop();
  queue.pop();
  EXPECT_TRUE(queue.push(Priority::bulk, numbered(2000), payload).has_value());
}

TEST(SendQueue, TellsWhatWaitsOfEachPriority) {
  SendQueue queue;
  ASSERT_TRUE(queue.push(Priority::bulk, numbered(1), std::vector<uint8_t>(100)));
  EXPECT_EQ(queue.size_bytes(Priority::urgent), 0u);
  EXPECT_EQ(queue.size_bytes(Priority::bulk), kFrameHeaderBytes + 100);
  ASSERT_TRUE(queue.push(Priority::urgent, numbered(2), std::vector<uint8_t>(7)));
  EXPECT_EQ(queue.size_bytes(Priority::urgent), kFrameHeaderBytes + 7);
  queue.pop();
  EXPECT_EQ(queue.size_bytes(Priority::urgent), 0u);
  EXPECT_EQ(queue.size_bytes(Priority::bulk), queue.size_bytes());
}

TEST(SendQueue, TheBoundIsExact) {
  FrameBuffer buffer(2 * kFrameHeaderBytes + 10);
  EXPECT_FALSE(buffer.push(numbered(1), std::vector<uint8_t>(kFrameHeaderBytes + 11)).has_value());
  EXPECT_TRUE(buffer.push(numbered(1), std::vector<uint8_t>(10)).has_value());
  EXPECT_FALSE(buffer.push(numbered(2), std::vector<uint8_t>(1)).has_value());
  EXPECT_TRUE(buffer.push(numbered(2), {}).has_value());
}

TEST(SendQueue, IsAQueueInAnyOrderOfPushesAndPops) {
  base::SeededRandom random(3);
  FrameBuffer buffer(10'000);
  std::deque<std::pair<uint64_t, size_t>> model;
  size_t bytes = 0;
  for (uint64_t id = 1; id < 20'000; ++id) {
    if (random.below(2) == 0) {
      const size_t length = random.below(900);
      const bool fits = bytes + kFrameHeaderBytes + length <= 10'000;
      ASSERT_EQ(buffer.push(numbered(id), std::vector<uint8_t>(length)).has_value(), fits);
      if (fits) model.emplace_back(id, length);
      if (fits) bytes += kFrameHeaderBytes + length;
    } else if (!model.empty()) {
      ASSERT_EQ(id_of(buffer.front()), model.front().first);
      ASSERT_EQ(buffer.front().size(), kFrameHeaderBytes + model.front().second);
      bytes -= buffer.front().size();
      buffer.pop();
      model.pop_front();
    }
    ASSERT_EQ(buffer.size_bytes(), bytes);
    ASSERT_EQ(buffer.empty(), model.empty());
  }
}

}  // namespace
}  // namespace holdfast::rpc
