#include "common/scsi/status.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::scsi {
namespace {

TEST(Status, NamesAreThoseOfSam) {
  EXPECT_EQ(std::string(to_string(Status::reservation_conflict)), "reservation conflict");
  EXPECT_EQ(std::string(to_string(static_cast<Status>(0x18))), "reservation conflict");
  EXPECT_EQ(std::string(to_string(static_cast<Status>(0x40))), "task aborted");
  EXPECT_EQ(std::string(to_string(static_cast<Status>(0x28))), "task set full");
  EXPECT_EQ(std::string(to_string(static_cast<Status>(0x04))), "condition met");
  EXPECT_EQ(std::string(to_string(static_cast<Status>(0x77))), "unknown");
}

}  // namespace
}  // namespace holdfast::scsi
