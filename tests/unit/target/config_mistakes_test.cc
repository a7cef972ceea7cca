// What people get wrong in a configuration, and that each mistake is told in the line it is in. The
// keys themselves: config_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "target/config.h"

namespace holdfast::target {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// Seven lines; what follows begins in line 8.
constexpr const char* kGroupAndDisk =
    "[[portal_group]]\ntag = 1\nportals = [\"10.1.0.10:3260\"]\n"
    "[[disk]]\nname = \"a\"\nkind = \"memory\"\nsize = \"1MiB\"\n";

// As an administrator sees them.
std::vector<std::string> errors(const std::string& text) {
  const auto parsed = parse_config(text, "t.toml");
  std::vector<std::string> out;
  if (parsed) return out;
  for (const auto& error : parsed.error()) out.push_back(error.to_string());
  return out;
}

std::string disk(const std::string& rest) {
  return "[[disk]]\nname = \"a\"\nkind = \"memory\"\nsize = \"1MiB\"\n" + rest;
}

TEST(ConfigMistakes, OptionalKeysOfADiskHaveTypes) {
  for (const char* key : {"read_only", "removable", "thin", "write_cache"}) {
    const std::string name(key);
    EXPECT_THAT(errors(disk(name + " = 1\n")),
                ElementsAre("t.toml:5: `" + name + "` must be true or false, not a whole number"));
    EXPECT_THAT(errors(disk(name + " = true\n")), ElementsAre());
  }
  for (const char* key : {"block_size", "physical_block_size"}) {
    EXPECT_THAT(errors(disk(std::string(key) + " = \"4KiB\"\n")),
                ElementsAre(StartsWith("t.toml:5: `" + std::string(key) +
                                       "` must be a whole number from 0 to ")));
  }
  EXPECT_THAT(errors("[[disk]]\nname = 7\nkind = true\nsize = \"1MiB\"\n"),
              ElementsAre("t.toml:2: `name` must be a string in quotes, not a whole number",
                          "t.toml:3: `kind` must be a string in quotes, not true or false"));
}

// Absent, they are what docs/config.md says.
TEST(ConfigMistakes, OptionalKeysOfADiskHaveDefaults) {
  const auto parsed = parse_config(disk(""), "t.toml");
  ASSERT_TRUE(parsed.has_value());
  const DiskConfig& made = parsed->disks.at(0);
  EXPECT_FALSE(made.backing.read_only);
  EXPECT_FALSE(made.removable);
  EXPECT_EQ(made.write_cache, std::nullopt);
  EXPECT_TRUE(made.backing.thin);
  EXPECT_EQ(made.backing.block_size, 512u);
  EXPECT_EQ(made.backing.physical_block_size, 4096u);
  EXPECT_EQ(parsed->drain_deadline_ms, 10'000u);
}

TEST(ConfigMistakes, SizesMeanBinaryUnits) {
  const auto size = [](const std::string& text) {
    const auto parsed =
        parse_config("[[disk]]\nname = \"a\"\nkind = \"memory\"\nsize = " + text + "\n", "t.toml");
    return parsed ? parsed->disks.at(0).backing.size_bytes : 0;
  };
  EXPECT_EQ(size("\"512\""), 512u);
  EXPECT_EQ(size("\"64KiB\""), 64u << 10);
  EXPECT_EQ(size("\"64MiB\""), 64u << 20);
  EXPECT_EQ(size("\"64GiB\""), uint64_t{64} << 30);
  EXPECT_EQ(size("\"64 GiB\""), uint64_t{64} << 30);
  EXPECT_EQ(size("\"64G\""), uint64_t{64} << 30);
  EXPECT_EQ(size("\"2TiB\""), uint64_t{2} << 40);
  EXPECT_EQ(size("68719476736"), uint64_t{64} << 30);
  for (const char* wrong : {"\"64GB\"", "\"64gib\"", "\"64Gi\"", "\"GiB\"", "\"-1GiB\"",
                            "\"1.5GiB\"", "\"\"", "64.0", "true"}) {
    EXPECT_THAT(
        errors("[[disk]]\nname = \"a\"\nkind = \"memory\"\nsize = " + std::string(wrong) + "\n"),
        ElementsAre(StartsWith("t.toml:4: `size` ")))
        << wrong;
  }
}

TEST(ConfigMistakes, DrainDeadline) {
  const auto milliseconds = [](const std::string& text) {
    const auto parsed = parse_config("drain_deadline = \"" + text + "\"\n", "t.toml");
    return parsed ? parsed->drain_deadline_ms : 0;
  };
  EXPECT_EQ(milliseconds("1s"), 1'000u);
  EXPECT_EQ(milliseconds("2500ms"), 2'500u);
  EXPECT_EQ(milliseconds("1m"), 60'000u);
  for (const char* wrong : {"999ms", "0s", "61s"}) {
    EXPECT_THAT(errors("drain_deadline = \"" + std::string(wrong) + "\"\n"),
                ElementsAre("t.toml:1: `drain_deadline` must be from 1 to 60 seconds"))
        << wrong;
  }
}

TEST(ConfigMistakes, SingleBracketsWhereThereMayBeSeveral) {
  EXPECT_THAT(errors("[portal_group]\ntag = 1\n"),
              ElementsAre("t.toml:1: write [[portal_group]], in double brackets: there may be "
                          "several"));
  EXPECT_THAT(errors("\n[target]\nname = \"x\"\n"),
              ElementsAre(StartsWith("t.toml:2: write [[target]], in double brackets")));
  EXPECT_THAT(errors(std::string(kGroupAndDisk) +
                     "[[target]]\nname = \"iqn.2026-11.org.x:t\"\nportal_groups = [1]\n"
                     "[target.initiator]\nname = \"*\"\n"),
              ElementsAre(StartsWith("t.toml:11: write [[target.initiator]], in double brackets")));
  EXPECT_THAT(errors("[[discovery]]\n"),
              ElementsAre("t.toml:1: `discovery` must be a table, not an array"));
}

TEST(ConfigMistakes, ListsOfTheWrongThing) {
  const std::string target =
      std::string(kGroupAndDisk) + "[[target]]\nname = \"iqn.2026-11.org.x:t\"\n";
  EXPECT_THAT(
      errors(target + "portal_groups = 1\n"),
      ElementsAre("t.toml:10: `portal_groups` must be an array in [ ], not a whole number"));
  EXPECT_THAT(errors(target + "portal_groups = [\"1\"]\n"),
              ElementsAre("t.toml:10: `portal_groups` must be a whole number from 1 to 65535"));
  EXPECT_THAT(errors(target + "portal_groups = [1]\nluns = { lun = 0, disk = \"a\" }\n"),
              ElementsAre(StartsWith("t.toml:11: write [[target.luns]]")));
  EXPECT_THAT(errors(target + "portal_groups = [1]\nluns = [{ lun = \"0\", disk = 1 }]\n"),
              ElementsAre("t.toml:11: `lun` must be a whole number from 0 to 16383",
                          "t.toml:11: `disk` must be a string in quotes, not a whole number"));
  EXPECT_THAT(errors(target + "portal_groups = [1]\n[[target.initiator]]\nname = \"*\"\n"
                              "addresses = \"10.1.0.1\"\n"),
              ElementsAre("t.toml:13: `addresses` must be an array in [ ], not a string"));
}

TEST(ConfigMistakes, TheSameTwice) {
  const std::string two_disks = std::string(kGroupAndDisk) +
                                "[[disk]]\nname = \"b\"\nkind = \"memory\"\nsize = \"1MiB\"\n"
                                "[[target]]\nname = \"iqn.2026-11.org.x:t\"\nportal_groups = [1]\n";
  EXPECT_THAT(
      errors(two_disks + "luns = [{ lun = 3, disk = \"a\" },\n{ lun = 3, disk = \"b\" }]\n"),
      ElementsAre("t.toml:16: LUN 3 is already used in line 15"));
  EXPECT_THAT(
      errors(two_disks + "luns = [{ lun = 0, disk = \"a\" },\n{ lun = 1, disk = \"a\" }]\n"),
      ElementsAre("t.toml:16: disk `a` of this target is already used in line 15"));
  EXPECT_THAT(errors(two_disks + "[[target.initiator]]\nname = \"*\"\n"
                                 "[[target.initiator]]\nname = \"*\"\n"),
              ElementsAre("t.toml:18: initiator * of this target is already used in line 16"));
  // One socket however it is written, and in whichever group.
  EXPECT_THAT(errors("[[portal_group]]\ntag = 1\nportals = [\"[fd00::1]:3260\"]\n"
                     "[[portal_group]]\ntag = 2\nportals = [\"[fd00:0:0::1]:3260\"]\n"),
              ElementsAre(HasSubstr("t.toml:6: portal [fd00::1]:3260 is already used in line 3")));
  // A device and a file are opened alike.
  EXPECT_THAT(
      errors("[[disk]]\nname = \"a\"\nkind = \"block\"\npath = \"/dev/x\"\n"
             "[[disk]]\nname = \"b\"\nkind = \"file\"\nsize = \"1MiB\"\npath = \"/dev//x\"\n"),
      ElementsAre("t.toml:9: path /dev//x is already used in line 4"));
}

class SecretModes : public testing::Test {
 protected:
  SecretModes() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-secret-XXXXXX");
    file_ = std::string(::mkdtemp(pattern.data())) + "/secret";
    std::ofstream(file_) << "long-enough-one\n";
  }
  ~SecretModes() override {
    std::filesystem::remove_all(std::filesystem::path(file_).parent_path());
  }

  std::vector<std::string> with_mode(mode_t mode) const {
    EXPECT_EQ(::chmod(file_.c_str(), mode), 0);
    return errors("\n[discovery]\nchap = { user = \"u\", secret_file = \"" + file_ + "\" }\n");
  }

  std::string file_;
};

// Nobody else reads it, nobody else changes it; a group of its own may read it.
TEST_F(SecretModes, OnlyItsOwnerAndReadersOfItsGroup) {
  for (const mode_t mode : {0400u, 0600u, 0700u, 0440u, 0640u}) {
    EXPECT_THAT(with_mode(mode), ElementsAre()) << mode;
  }
  for (const mode_t mode : {0604u, 0602u, 0601u, 0620u, 0660u, 0644u, 0666u, 0777u}) {
    EXPECT_THAT(with_mode(mode), ElementsAre(StartsWith("t.toml:3: secret file " + file_ +
                                                        " is open to other "
                                                        "users")))
        << mode;
  }
}

}  // namespace
}  // namespace holdfast::target
