#include "target/unit_attention.h"

#include <gtest/gtest.h>

namespace holdfast::target {
namespace {

TEST(AttentionQueue, EachCodeOnceOldestFirst) {
  AttentionQueue queue;
  queue.raise(scsi::kCapacityChanged);
  queue.raise(scsi::kReportedLunsChanged);
  queue.raise(scsi::kCapacityChanged);
  EXPECT_EQ(queue.take(), scsi::kCapacityChanged);
  EXPECT_EQ(queue.take(), scsi::kReportedLunsChanged);
  EXPECT_EQ(queue.take(), std::nullopt);
}

TEST(AttentionQueue, ResetIsToldBeforeAllElse) {
  AttentionQueue queue;
  queue.raise(scsi::kReservationsPreempted);
  queue.raise(scsi::kPowerOn);
  queue.raise(scsi::kBusDeviceReset);
  EXPECT_EQ(queue.take(), scsi::kPowerOn);
  EXPECT_EQ(queue.take(), scsi::kBusDeviceReset);
  EXPECT_EQ(queue.take(), scsi::kReservationsPreempted);
}

TEST(AttentionQueue, ClearTakesOneCodeOut) {
  AttentionQueue queue;
  queue.raise(scsi::kReportedLunsChanged);
  queue.raise(scsi::kCapacityChanged);
  queue.clear(scsi::kReportedLunsChanged);
  EXPECT_EQ(queue.take(), scsi::kCapacityChanged);
  EXPECT_TRUE(queue.empty());
}

TEST(AttentionQueue, FullBecomesPowerOn) {
  AttentionQueue queue;
  for (uint8_t i = 0; i < AttentionQueue::kMax; ++i) {
    queue.raise({.key = scsi::SenseKey::unit_attention, .asc = 0x40, .ascq = i});
  }
  queue.raise(scsi::kCapacityChanged);
  EXPECT_EQ(queue.take(), scsi::kPowerOn);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace holdfast::target
