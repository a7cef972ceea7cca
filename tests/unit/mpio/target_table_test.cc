#include "mpio/target_table.h"

#include <gtest/gtest.h>

namespace holdfast::mpio {
namespace {

TEST(TargetTable, KnowsOurTarget) {
  const TargetRow* row = find_target("HOLDFAST", "VIRTUAL DISK    ", "0001");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(target_knowledge(row, {}).drains_on_reinstatement, Known::yes);
  EXPECT_EQ(target_knowledge(row, {}).preempt_drains, Known::yes);
}

TEST(TargetTable, KnowsThatTgtDoesNotDrainButItsResetWaits) {
  const TargetRow* row = find_target("IET     ", "VIRTUAL-DISK    ", "0001");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(target_knowledge(row, {}).drains_on_reinstatement, Known::no);
  EXPECT_EQ(target_knowledge(row, {}).unit_reset_waits, Known::yes);
  EXPECT_EQ(target_knowledge(row, {}).preempt_drains, Known::no);
}

TEST(TargetTable, WhatWasOnlyReadCountsAsUnknown) {
  const TargetRow* row = find_target("LIO-ORG ", "disk1           ", "4.0 ");
  ASSERT_NE(row, nullptr);
  EXPECT_FALSE(row->tested);
  EXPECT_EQ(target_knowledge(row, {}), TargetKnowledge{});
}

TEST(TargetTable, OthersAreUnknown) {
  EXPECT_EQ(find_target("HOLDFAST2", "VIRTUAL DISK", "0001"), nullptr)
      << "no beginning of a vendor";
  EXPECT_EQ(find_target("IET", "CONTROLLER", "0001"), nullptr);
  EXPECT_EQ(target_knowledge(nullptr, {}), TargetKnowledge{});
}

TEST(TargetTable, TheAdministratorCountsMore) {
  const TargetRow* row = find_target("IET", "VIRTUAL-DISK", "");
  const TargetKnowledge said =
      target_knowledge(row, {.drains_on_reinstatement = true, .unit_reset_waits = false});
  EXPECT_EQ(said.drains_on_reinstatement, Known::yes);
  EXPECT_EQ(said.unit_reset_waits, Known::no);
  EXPECT_EQ(said.preempt_drains, Known::no) << "the table's";
  EXPECT_EQ(target_knowledge(nullptr, {.preempt_drains = true}).preempt_drains, Known::yes);
}

TEST(TargetTable, EveryRowSaysWhy) {
  ASSERT_FALSE(target_table().empty());
  for (const TargetRow& row : target_table()) EXPECT_NE(row.note[0], '\0') << row.vendor;
}

}  // namespace
}  // namespace holdfast::mpio
