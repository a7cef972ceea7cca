#include "qdisk/witness_file.h"

#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "tests/unit/qdisk/witness_fixture.h"

namespace holdfast::qdisk {
namespace {

using base::Errc;

class WitnessFileTest : public WitnessTest {
 protected:
  static Errc code_of(const base::Result<WitnessFile>& result) {
    return result.has_value() ? Errc{} : result.error().code;
  }
};

TEST_F(WitnessFileTest, GivesBackWhatWasWritten) {
  auto file = open(WitnessFile::Use::format);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->size_bytes(), kMinWitnessBytes);
  EXPECT_EQ(file->sector_bytes(), 512U);
  EXPECT_FALSE(file->is_block_device());
  // Longer than its buffer, from memory that is not aligned.
  base::SeededRandom random(1);
  std::vector<uint8_t> data(kRecordsEnd + 1);
  random.fill(data);
  const base::Bytes odd = base::Bytes(data).subspan(1);
  int progress = 0;
  file->on_progress([&] { ++progress; });
  ASSERT_TRUE(file->write(0x3000, odd).has_value());
  EXPECT_EQ(peek(0x3000, odd.size()), std::vector<uint8_t>(odd.begin(), odd.end()));
  EXPECT_EQ(progress, 7);  // six requests and the flush
  std::vector<uint8_t> read(odd.size());
  ASSERT_TRUE(file->read(0x3000, read).has_value());
  EXPECT_TRUE(std::ranges::equal(read, odd));
  EXPECT_EQ(progress, 13);
}

TEST_F(WitnessFileTest, KnowsItsEnd) {
  auto file = open(WitnessFile::Use::format);
  ASSERT_TRUE(file.has_value());
  std::vector<uint8_t> slot(kSlotBytes);
  EXPECT_TRUE(file->write(kMinWitnessBytes - kSlotBytes, slot).has_value());
  EXPECT_FALSE(file->write(kMinWitnessBytes, slot).has_value());
  EXPECT_FALSE(file->read(UINT64_MAX - kSlotBytes + 1, slot).has_value());
  resize(kSlotBytes / 2);
  EXPECT_STREQ(file->read(kSlotBytes, slot).error().what, "it became smaller");
}

TEST_F(WitnessFileTest, WhatAnotherHasIsNotFormattedAndCanBeLookedAt) {
  const int fd = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(flock(fd, LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(code_of(open(WitnessFile::Use::format)), Errc::busy);
  EXPECT_TRUE(open(WitnessFile::Use::look).has_value());
  ::close(fd);
  auto first = open(WitnessFile::Use::format);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(code_of(open(WitnessFile::Use::format)), Errc::busy);
}

TEST_F(WitnessFileTest, OnlyFilesAndBlockDevices) {
  for (const WitnessFile::Use use : {WitnessFile::Use::look, WitnessFile::Use::format}) {
    EXPECT_EQ(code_of(WitnessFile::open("/dev/null", use)), Errc::invalid_argument);
    EXPECT_EQ(code_of(WitnessFile::open(testing::TempDir(), use)), Errc::invalid_argument);
    EXPECT_EQ(code_of(WitnessFile::open(path() + ".none", use)), Errc::not_found);
  }
  ASSERT_EQ(mkfifo((path() + ".fifo").c_str(), 0600), 0);
  EXPECT_EQ(code_of(WitnessFile::open(path() + ".fifo", WitnessFile::Use::look)),
            Errc::invalid_argument);
}

TEST_F(WitnessFileTest, LookingWritesNothing) {
  auto file = open(WitnessFile::Use::look);
  ASSERT_TRUE(file.has_value());
  EXPECT_FALSE(file->write(0, std::vector<uint8_t>(kSlotBytes)).has_value());
}

}  // namespace
}  // namespace holdfast::qdisk
