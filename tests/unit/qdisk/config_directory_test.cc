#include "qdisk/config_directory.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const ConfigDocument kOne = make_document(1, "one");
const ConfigDocument kTwo = make_document(2, "two");
const ConfigDocument kThree = make_document(3, "three");

class ConfigDirectoryTest : public ::testing::Test {
 protected:
  ConfigDirectoryTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-config-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~ConfigDirectoryTest() override { std::filesystem::remove_all(path_); }

  ConfigDirectory directory(const Uuid& cluster = kSampleCluster) const {
    return ConfigDirectory(path_, cluster);
  }
  void save(const ConfigDocument& document, const ConfigTag& decided) const {
    const auto saved = directory().save(document, decided);
    EXPECT_TRUE(saved.has_value()) << saved.error();
  }
  ConfigCopies copies() const { return directory().load().copies; }
  std::string content(unsigned copy) const {
    std::ostringstream text;
    text << std::ifstream(directory().file(copy), std::ios::binary).rdbuf();
    return text.str();
  }
  void write(unsigned copy, const std::string& text) const {
    std::ofstream(directory().file(copy), std::ios::binary) << text;
  }
  // No intact document, and for this reason.
  void expect_damaged(unsigned copy, const char* why) const {
    const auto found = directory().load();
    EXPECT_FALSE(found.copies[copy].has_value()) << why;
    EXPECT_THAT(found.problems, ElementsAre(HasSubstr(why)));
    EXPECT_THAT(found.problems, ElementsAre(HasSubstr(directory().file(copy))));
  }

  std::string path_;
};

TEST_F(ConfigDirectoryTest, ANewDirectoryHasNone) {
  const auto found = directory().load();
  EXPECT_EQ(found.copies, ConfigCopies{});
  EXPECT_THAT(found.problems, IsEmpty());
}

TEST_F(ConfigDirectoryTest, KeepsTheDecidedOneAndOneThatMayBeNext) {
  save(kOne, {});
  EXPECT_EQ(copies(), (ConfigCopies{kOne, std::nullopt}));
  save(kTwo, kOne.tag);
  EXPECT_EQ(copies(), (ConfigCopies{kOne, kTwo}));
  // It was not decided, and another takes its place.
  const ConfigDocument other = make_document(2, "another two");
  save(other, kOne.tag);
  EXPECT_EQ(copies(), (ConfigCopies{kOne, other}));
  save(kThree, other.tag);
  EXPECT_EQ(copies(), (ConfigCopies{kThree, other}));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path_), {}), 2);
}

TEST_F(ConfigDirectoryTest, TheLongestIsKeptWhole) {
  const ConfigDocument longest = make_document(9, std::string(kMaxDocumentBytes, '\0'));
  save(longest, {});
  EXPECT_EQ(copies()[0], longest);
}

TEST_F(ConfigDirectoryTest, WhatIsThereIsNotWrittenAgain) {
  save(kOne, {});
  save(kTwo, kOne.tag);
  const auto before = std::filesystem::last_write_time(directory().file(1));
  std::filesystem::last_write_time(directory().file(1), before - std::chrono::hours(1));
  save(kTwo, kTwo.tag);
  EXPECT_EQ(std::filesystem::last_write_time(directory().file(1)), before - std::chrono::hours(1));
  EXPECT_EQ(copies(), (ConfigCopies{kOne, kTwo}));
}

TEST_F(ConfigDirectoryTest, WhatIsDamagedGivesWayAndTheOtherStays) {
  save(kOne, {});
  save(kTwo, kOne.tag);
  std::string spoilt = content(0);
  spoilt.back() ^= 1;
  write(0, spoilt);
  expect_damaged(0, "SHA-256");
  EXPECT_EQ(copies()[1], kTwo);
  save(kThree, kTwo.tag);
  EXPECT_EQ(copies(), (ConfigCopies{kThree, kTwo}));
  spoilt = content(0);
  spoilt[20] ^= 1;
  write(0, spoilt);
  expect_damaged(0, "checksum");
  save(kThree, {});
  EXPECT_EQ(copies(), (ConfigCopies{kThree, kTwo}));
}

TEST_F(ConfigDirectoryTest, WhatIsCutOffOrTooLongIsNotUsed) {
  save(kOne, {});
  const std::string good = content(0);
  for (const size_t length : {size_t{0}, kRecordBytes - 1}) {
    write(0, good.substr(0, length));
    expect_damaged(0, "cut off");
  }
  write(0, std::string(kRecordBytes, '\0'));
  expect_damaged(0, "empty");
  for (const std::string& each : {good.substr(0, kRecordBytes), good.substr(0, kRecordBytes + 2),
                                  good + "x", good + std::string(kMaxDocumentBytes, 'x')}) {
    write(0, each);
    expect_damaged(0, "length");
  }
  write(0, good);
  EXPECT_EQ(copies()[0], kOne);
}

TEST_F(ConfigDirectoryTest, AFileThatWasPutInAnothersPlaceIsNotUsed) {
  save(kOne, {});
  std::filesystem::rename(directory().file(0), directory().file(1));
  expect_damaged(1, "another place");
}

TEST_F(ConfigDirectoryTest, AFileOfAnotherClusterIsNotUsed) {
  save(kOne, {});
  EXPECT_EQ(directory(sample_uuid(0x11)).load().copies, ConfigCopies{});
}

TEST_F(ConfigDirectoryTest, WhatIsNoFileIsAProblemOfThatCopyOnly) {
  save(kOne, {});
  save(kTwo, kOne.tag);
  std::filesystem::remove(directory().file(1));
  std::filesystem::create_directory(directory().file(1));
  expect_damaged(1, "Invalid argument");
  const auto saved = directory().save(kThree, kOne.tag);
  ASSERT_FALSE(saved.has_value());
  EXPECT_THAT(saved.error(), HasSubstr(directory().file(1)));
  EXPECT_EQ(copies()[0], kOne);
}

// Files may become no longer than that, as where a disk or a quota ends.
TEST_F(ConfigDirectoryTest, AFullDiskIsSaidAndCostsNothing) {
  save(kOne, {});
  save(kTwo, kOne.tag);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const rlimit limit{.rlim_cur = 600, .rlim_max = old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  const auto saved = directory().save(make_document(3, std::string(5000, 'x')), kTwo.tag);
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(saved.has_value());
  EXPECT_THAT(saved.error(), HasSubstr("cannot be saved on this node"));
  EXPECT_THAT(saved.error(), HasSubstr("make room"));
  EXPECT_EQ(copies(), (ConfigCopies{kOne, kTwo}));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path_), {}), 2)
      << "what was half written is in the way";
}

TEST_F(ConfigDirectoryTest, HalfOfAFileThatACrashLeftMeansNothing) {
  save(kOne, {});
  std::ofstream(directory().file(1) + ".new") << content(0).substr(0, 100);
  EXPECT_EQ(copies(), (ConfigCopies{kOne, std::nullopt}));
  save(kTwo, kOne.tag);
  EXPECT_EQ(copies(), (ConfigCopies{kOne, kTwo}));
}

}  // namespace
}  // namespace holdfast::qdisk
