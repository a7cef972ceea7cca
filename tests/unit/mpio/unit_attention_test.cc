#include "mpio/unit_attention.h"

#include <gtest/gtest.h>

namespace holdfast::mpio {
namespace {

using std::chrono::seconds;
using Task = AttentionTask;

TEST(UnitAttention, CodesFallIntoClasses) {
  struct Case {
    uint8_t asc, ascq;
    Attention attention;
  };
  for (const Case& one : {Case{0x28, 0x00, Attention::medium},
                          {0x29, 0x00, Attention::reset},
                          {0x29, 0x03, Attention::reset},
                          {0x29, 0x07, Attention::reset},
                          {0x2a, 0x01, Attention::mode},
                          {0x2a, 0x03, Attention::reservations},
                          {0x2a, 0x04, Attention::reservations},
                          {0x2a, 0x05, Attention::reservations},
                          {0x2a, 0x06, Attention::access_state},
                          {0x2a, 0x07, Attention::access_state},
                          {0x2a, 0x09, Attention::capacity},
                          {0x2a, 0x02, Attention::other},
                          {0x2f, 0x00, Attention::cleared},
                          {0x2f, 0x02, Attention::other},
                          {0x38, 0x07, Attention::thin_threshold},
                          {0x38, 0x00, Attention::other},
                          {0x3f, 0x03, Attention::identity},
                          {0x3f, 0x0e, Attention::units},
                          {0x5d, 0x00, Attention::other}}) {
    EXPECT_EQ(classify_attention(one.asc, one.ascq), one.attention)
        << int{one.asc} << "/" << int{one.ascq};
  }
}

TEST(UnitAttention, AResetOfSomebodyElseMayHaveLostTheCache) {
  EXPECT_TRUE(tasks_of(Attention::reset, false, true).has(Task::report_cache_lost));
  EXPECT_FALSE(tasks_of(Attention::reset, true, true).has(Task::report_cache_lost)) << "our login";
  EXPECT_FALSE(tasks_of(Attention::reset, false, false).has(Task::report_cache_lost)) << "no cache";
  EXPECT_TRUE(tasks_of(Attention::reset, true, false).has(Task::verify_registration));
}

TEST(UnitAttention, EachClassAsksForItsWork) {
  const auto has = [](Attention attention, Task task) {
    return tasks_of(attention, false, true).has(task);
  };
  EXPECT_TRUE(has(Attention::mode, Task::read_mode));
  EXPECT_TRUE(has(Attention::reservations, Task::verify_registration));
  EXPECT_TRUE(has(Attention::reservations, Task::report_preempted));
  EXPECT_TRUE(has(Attention::access_state, Task::read_access));
  EXPECT_TRUE(has(Attention::capacity, Task::read_capacity));
  EXPECT_TRUE(has(Attention::units, Task::rescan));
  EXPECT_TRUE(has(Attention::identity, Task::reprobe));
  EXPECT_TRUE(has(Attention::medium, Task::reprobe));
  for (const Attention ended : {Attention::reset, Attention::reservations, Attention::cleared}) {
    EXPECT_TRUE(has(ended, Task::ask_for_commands));
  }
  EXPECT_FALSE(has(Attention::capacity, Task::ask_for_commands));
  EXPECT_TRUE(tasks_of(Attention::thin_threshold, false, true).none());
  EXPECT_TRUE(tasks_of(Attention::other, false, true).none());
}

TEST(AttentionFilter, OnePathDoesTheWork) {
  AttentionFilter filter;
  const io::Instant now = io::Instant{} + seconds(9);
  EXPECT_TRUE(filter.first(Attention::capacity, false, now));
  EXPECT_FALSE(filter.first(Attention::capacity, false, now + seconds(1)));
  EXPECT_TRUE(filter.first(Attention::mode, false, now)) << "another matter";
  EXPECT_TRUE(filter.first(Attention::capacity, false, now + kUnitAttentionDedupe));
}

TEST(AttentionFilter, OurOwnResetHidesNoOther) {
  AttentionFilter filter;
  const io::Instant now = io::Instant{} + seconds(9);
  EXPECT_TRUE(filter.first(Attention::reset, true, now));
  EXPECT_TRUE(filter.first(Attention::reset, false, now));
}

}  // namespace
}  // namespace holdfast::mpio
