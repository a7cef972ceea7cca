#include "common/iscsi/sequence.h"

#include <gtest/gtest.h>

namespace holdfast::iscsi {
namespace {

TEST(Sequence, OrdersAcrossTheWrap) {
  EXPECT_TRUE(serial_less(1, 2));
  EXPECT_FALSE(serial_less(2, 1));
  EXPECT_FALSE(serial_less(7, 7));
  EXPECT_TRUE(serial_less(0xffffffff, 0));
  EXPECT_TRUE(serial_less(0xfffffff0, 0x10));
  EXPECT_FALSE(serial_less(0x10, 0xfffffff0));
  EXPECT_TRUE(serial_less_equal(0, 0));
  EXPECT_EQ(serial_distance(0xfffffffe, 3), 5);
  EXPECT_EQ(serial_distance(3, 0xfffffffe), -5);
}

TEST(Sequence, HalfWayIsNeverNewer) {
  EXPECT_FALSE(serial_less(0, 0x80000000));
  EXPECT_FALSE(serial_less(0x80000000, 0));
}

TEST(Sequence, WindowContainsItsEndsAndNothingWhenClosed) {
  EXPECT_TRUE(in_window(10, 10, 12));
  EXPECT_TRUE(in_window(12, 10, 12));
  EXPECT_FALSE(in_window(9, 10, 12));
  EXPECT_FALSE(in_window(13, 10, 12));
  EXPECT_TRUE(in_window(1, 0xfffffffe, 3));
  EXPECT_FALSE(in_window(10, 10, 9));
  EXPECT_FALSE(in_window(9, 10, 9));
}

}  // namespace
}  // namespace holdfast::iscsi
