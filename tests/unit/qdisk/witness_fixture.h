#pragma once
// A file of 64 MiB that a test formats, fills and damages.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "qdisk/witness_contents.h"
#include "qdisk/witness_file.h"
#include "qdisk/witness_format.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {

class WitnessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "holdfast-witness-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    resize(kMinWitnessBytes);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ / "witness.img"; }

  void resize(uint64_t bytes) const {
    const int fd = ::open(path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(ftruncate(fd, static_cast<off_t>(bytes)), 0);
    ::close(fd);
  }
  void poke(uint64_t offset, base::Bytes bytes) const {
    const int fd = ::open(path().c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes.size()));
    ::close(fd);
  }
  std::vector<uint8_t> peek(uint64_t offset, size_t size) const {
    std::vector<uint8_t> out(size);
    const int fd = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(pread(fd, out.data(), size, static_cast<off_t>(offset)), static_cast<ssize_t>(size));
    ::close(fd);
    return out;
  }

  base::Result<WitnessFile> open(WitnessFile::Use use = WitnessFile::Use::look) const {
    return WitnessFile::open(path(), use);
  }
  void format() const {
    auto file = open(WitnessFile::Use::format);
    ASSERT_TRUE(file.has_value());
    ASSERT_TRUE(format_witness(*file, sample_superblock()).has_value());
  }
  // One of each kind; the configuration document has 1234 bytes of 'x'.
  void fill() const {
    SectorBytes sector;
    encode(sample_heartbeat(), kSampleCluster, sector);
    poke(heartbeat_offset(2, 4711), sector);
    encode(sample_ballot(), 2, kSampleCluster, sector);
    poke(ballot_offset(2), sector);
    encode(sample_mail(), kSampleCluster, sector);
    poke(mail_offset(2), sector);
    encode(sample_decision(), kSampleCluster, sector);
    poke(decided_offset(sample_decision().epoch), sector);
    ConfigHeader config = sample_config();
    config.sha256 = kDigestOfDocument;
    encode(config, 1, kSampleCluster, sector);
    poke(config_offset(1) + kSlotBytes, std::vector<uint8_t>(1234, 'x'));
    poke(config_offset(1), sector);
  }
  std::unique_ptr<WitnessContents> contents() const {
    auto file = open();
    EXPECT_TRUE(file.has_value());
    auto read = read_witness(*file);
    EXPECT_TRUE(read.has_value());
    return std::move(*read);
  }

  // python3 -c 'import hashlib; print(hashlib.sha256(b"x" * 1234).hexdigest())'
  static constexpr Sha256 kDigestOfDocument = {0x0b, 0xe2, 0x79, 0xb0, 0x41, 0x0c, 0x66, 0x5f,
                                               0x29, 0x87, 0x17, 0x23, 0x3b, 0x46, 0xe9, 0xd0,
                                               0x13, 0xc0, 0xd2, 0xa2, 0xf5, 0xa2, 0x61, 0xa2,
                                               0xec, 0x1e, 0xff, 0xe6, 0x2b, 0x7e, 0x26, 0x27};

 private:
  std::filesystem::path folder_;
};

}  // namespace holdfast::qdisk
