#include "tests/sim/data_model.h"

#include <gtest/gtest.h>

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;

class DataModelTest : public ::testing::Test {
 protected:
  // Reads sector 0 from `began` to `ended` and finds `value`.
  bool allows(Duration began, Duration ended, WriteId value) {
    std::vector<uint8_t> sector(DataModel::kSectorBytes);
    DataModel::fill(sector, value);
    const uint64_t read = model.begin_read(began);
    return model.end_read(read, ended, {0, 1}, sector).empty();
  }
  WriteId write(Duration at) { return model.begin_write(at, {0, 1}, false); }

  DataModel model{"lun", 8, true};
};

TEST_F(DataModelTest, BeginsWithZeroes) {
  EXPECT_TRUE(allows(1s, 2s, 0));
  EXPECT_FALSE(allows(1s, 2s, 5));
}

TEST_F(DataModelTest, ReadDuringAWriteSeesEitherAfterItOnlyTheNew) {
  const WriteId w = write(1s);
  EXPECT_TRUE(allows(1s, 2s, 0));
  model.write_acknowledged(w, 3s, false);
  EXPECT_TRUE(allows(4s, 5s, w));
  EXPECT_FALSE(allows(4s, 5s, 0));
}

TEST_F(DataModelTest, WhatAReadHasSeenDoesNotGoAway) {
  const WriteId w = write(1s);
  EXPECT_TRUE(allows(2s, 3s, w));
  EXPECT_FALSE(allows(4s, 5s, 0));
}

TEST_F(DataModelTest, AMixtureIsNeverAllowed) {
  std::vector<uint8_t> sector(DataModel::kSectorBytes);
  sector[100] = 1;
  const uint64_t read = model.begin_read(1s);
  EXPECT_NE(model.end_read(read, 2s, {0, 1}, sector), "");
}

TEST_F(DataModelTest, UnknownWriteMayLandUntilTheBarrier) {
  const WriteId lost = write(1s);
  const WriteId newer = write(2s);
  model.write_acknowledged(newer, 3s, false);
  EXPECT_TRUE(allows(4s, 5s, newer));
  EXPECT_TRUE(allows(6s, 7s, lost));  // late, over newer data
  model.barrier(lost, 8s);
  const WriteId last = write(9s);
  model.write_acknowledged(last, 10s, false);
  EXPECT_TRUE(allows(11s, 12s, last));
  EXPECT_FALSE(allows(11s, 12s, lost));
  EXPECT_FALSE(allows(11s, 12s, newer));
}

TEST_F(DataModelTest, AnOverwrittenWriteDoesNotComeBackWhereItWas) {
  const WriteId lost = model.begin_write(1s, {0, 2}, false);
  const WriteId newer = write(2s);
  model.write_acknowledged(newer, 3s, false);
  model.overwritten(lost, {0, 1}, 2s);
  EXPECT_TRUE(allows(4s, 5s, newer));
  EXPECT_FALSE(allows(4s, 5s, lost));
  std::vector<uint8_t> sector(DataModel::kSectorBytes);
  DataModel::fill(sector, lost);
  EXPECT_EQ(model.end_read(model.begin_read(6s), 7s, {1, 1}, sector), "") << "the other sector";
}

TEST_F(DataModelTest, BarrierLeavesBothFatesOpen) {
  const WriteId lost = write(1s);
  model.barrier(lost, 2s);
  EXPECT_TRUE(allows(3s, 4s, 0));
  EXPECT_TRUE(allows(3s, 4s, lost));  // it had landed before the barrier, and now shows
  EXPECT_FALSE(allows(5s, 6s, 0));
}

TEST_F(DataModelTest, LiftedBarrierLetsItLandAgain) {
  const WriteId lost = write(1s);
  model.barrier(lost, 2s);
  const WriteId newer = write(3s);
  model.write_acknowledged(newer, 4s, true);
  write(5s);  // looks through what can be forgotten
  EXPECT_FALSE(allows(6s, 7s, lost));
  model.lift_barrier(lost);
  EXPECT_TRUE(allows(8s, 9s, lost));
}

TEST_F(DataModelTest, RefusedWriteMustNotShow) {
  const WriteId refused = write(1s);
  EXPECT_EQ(model.write_refused(refused), "");
  EXPECT_FALSE(allows(2s, 3s, refused));
  const WriteId seen = write(4s);
  EXPECT_TRUE(allows(5s, 6s, seen));
  EXPECT_NE(model.write_refused(seen), "");
}

TEST_F(DataModelTest, PowerLossTakesOnlyWhatWasNotFlushed) {
  const WriteId flushed = write(1s);
  model.write_acknowledged(flushed, 2s, false);
  model.flushed(3s, 4s);
  const WriteId cached = write(5s);
  model.write_acknowledged(cached, 6s, false);
  model.power_lost(7s);
  EXPECT_TRUE(allows(8s, 9s, flushed));
  EXPECT_FALSE(allows(8s, 9s, 0));
  EXPECT_FALSE(allows(10s, 11s, cached));  // which of the two it is has shown
}

TEST_F(DataModelTest, FlushThatBeganTooEarlyCoversNothing) {
  const WriteId w = write(1s);
  model.write_acknowledged(w, 3s, false);
  model.flushed(2s, 4s);
  model.power_lost(5s);
  EXPECT_TRUE(allows(6s, 7s, 0));
}

TEST_F(DataModelTest, DurableWriteSurvives) {
  const WriteId w = write(1s);
  model.write_acknowledged(w, 2s, true);
  model.power_lost(3s);
  EXPECT_TRUE(allows(4s, 5s, w));
  EXPECT_FALSE(allows(4s, 5s, 0));
}

TEST_F(DataModelTest, NothingLandsAfterAPowerLoss) {
  const WriteId lost = write(1s);
  model.power_lost(2s);
  const WriteId newer = write(3s);
  model.write_acknowledged(newer, 4s, false);
  EXPECT_FALSE(allows(5s, 6s, lost));
}

TEST_F(DataModelTest, OneValueIsSwappedOnce) {
  const WriteId base = write(1s);
  model.write_acknowledged(base, 2s, false);
  std::vector<uint8_t> compared(DataModel::kSectorBytes);
  DataModel::fill(compared, base);
  const auto swap = [&](Duration at) {
    const uint64_t read = model.begin_read(at);
    const WriteId id = write(at);
    const std::string wrong = model.swap_succeeded(id, read, at + 1s, {0, 1}, compared);
    model.write_acknowledged(id, at + 1s, false);
    return wrong;
  };
  EXPECT_EQ(swap(3s), "");
  EXPECT_NE(swap(3s), "");  // at the same time: each alone would be fine
  EXPECT_NE(swap(6s), "");  // it is no longer there
}

TEST_F(DataModelTest, MiscompareNeedsAReason) {
  const WriteId base = write(1s);
  model.write_acknowledged(base, 2s, false);
  std::vector<uint8_t> compared(DataModel::kSectorBytes);
  DataModel::fill(compared, base);
  EXPECT_NE(model.swap_miscompared(model.begin_read(3s), 4s, {0, 1}, compared), "");
  write(5s);
  EXPECT_EQ(model.swap_miscompared(model.begin_read(5s), 6s, {0, 1}, compared), "");
}

}  // namespace
}  // namespace holdfast::sim
