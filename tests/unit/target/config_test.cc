#include "target/config.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/daemon/limits.h"

namespace holdfast::target {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-config-XXXXXX");
    directory_ = ::mkdtemp(pattern.data());
    forward_ = secret("forward", "forward-secret\n");
    mutual_ = secret("mutual", "mutual-secret1\n");
  }
  ~ConfigTest() override { std::filesystem::remove_all(directory_); }

  std::string secret(const std::string& name, const std::string& text, mode_t mode = 0600) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }

  // The messages, each "line: text"; empty when the text is right.
  static std::vector<std::string> errors(const std::string& text) {
    const auto parsed = parse_config(text, "t.toml");
    std::vector<std::string> out;
    if (parsed) return out;
    for (const daemon::ConfigError& error : parsed.error()) {
      EXPECT_EQ(error.file, "t.toml");
      out.push_back(std::to_string(error.line) + ": " + error.message);
    }
    EXPECT_FALSE(out.empty());
    return out;
  }

  std::string directory_, forward_, mutual_;
};

// Line 1 is the portal group; the tests' own text begins at line 10.
constexpr const char* kGood = R"([[portal_group]]
tag = 1
portals = ["10.1.0.10:3260", "10.2.0.10:3260"]

[[disk]]
name = "csv1"
kind = "memory"
size = "1MiB"

)";

std::string with_target(const std::string& rest) {
  return std::string(kGood) +
         "[[target]]\nname = \"iqn.2026-11.org.holdfast:store\"\n"
         "portal_groups = [1]\n" +
         rest;
}

std::string with_initiator(const std::string& rest) {
  return with_target("[[target.initiator]]\nname = \"iqn.2026-11.org.holdfast:hv1\"\n" + rest);
}

std::string with_disk(const std::string& rest) { return "[[disk]]\n" + rest; }

TEST_F(ConfigTest, ReadsEveryKey) {
  const std::string text = R"(
state_dir = "/var/lib/x"
control_socket = "/run/x.sock"
threads = 4
metrics = "127.0.0.1:9464"
spin_us = 50
buffer_memory = "64MiB"
max_connections = 10
drain_deadline = "5s"
chap_md5 = false
chap_sha1 = false

[[portal_group]]
tag = 7
portals = ["10.1.0.10:3260", "[fd00::1]:3261"]

[[disk]]
name = "csv1"
kind = "file"
path = "/srv/csv1.img"
size = "64GiB"
thin = false
block_size = 4096
physical_block_size = 8192
read_only = true
removable = true
write_cache = false

[[disk]]
name = "witness"
kind = "block"
path = "/dev/sdz"

[[disk]]
name = "scratch"
kind = "memory"
size = 1048576

[[target]]
name = "iqn.2026-11.org.holdfast:store"
portal_groups = [7]
luns = [{ lun = 0, disk = "witness" },
        { lun = 1, disk = "csv1" }]
[[target.initiator]]
name = "iqn.2026-11.org.holdfast:hv1"
addresses = ["10.1.0.1", "10.2.0.0/24"]
chap = { user = "hv1", secret_file = ")" +
                           forward_ + R"(" }
mutual_chap = { user = "store", secret_file = ")" +
                           mutual_ + R"(" }
[[target.initiator]]
name = "*"

[discovery]
chap = { user = "d", secret_file = ")" +
                           forward_ + R"(" }
mutual_chap = { user = "e", secret_file = ")" +
                           mutual_ + R"(" }
)";
  const auto parsed = parse_config(text, "t.toml");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().front().to_string();
  const Config& c = *parsed;
  EXPECT_EQ(c.state_dir, "/var/lib/x");
  EXPECT_EQ(c.control_socket, "/run/x.sock");
  EXPECT_EQ(c.threads, 4u);
  EXPECT_EQ(c.metrics, "127.0.0.1:9464");
  EXPECT_EQ(c.spin_us, 50u);
  EXPECT_EQ(c.buffer_memory_bytes, 64u << 20);
  EXPECT_EQ(c.max_connections, 10u);
  EXPECT_EQ(c.drain_deadline_ms, 5000u);
  EXPECT_FALSE(c.chap_allow_md5);
  EXPECT_FALSE(c.chap_allow_sha1);
  ASSERT_EQ(c.portal_groups.size(), 1u);
  EXPECT_EQ(c.portal_groups[0].tag, 7);
  EXPECT_EQ(c.portal_groups[0].portals[1].to_string(), "[fd00::1]:3261");
  ASSERT_EQ(c.disks.size(), 3u);
  const io::BackingSpec file{.kind = io::BackingKind::file,
                             .path = "/srv/csv1.img",
                             .size_bytes = uint64_t{64} << 30,
                             .thin = false,
                             .block_size = 4096,
                             .physical_block_size = 8192,
                             .read_only = true};
  EXPECT_EQ(c.disks[0].backing, file);
  EXPECT_TRUE(c.disks[0].removable);
  EXPECT_EQ(c.disks[0].write_cache, std::optional<bool>(false));
  EXPECT_EQ(c.disks[1].backing.kind, io::BackingKind::block);
  EXPECT_EQ(c.disks[1].write_cache, std::nullopt);
  EXPECT_EQ(c.disks[2].backing.size_bytes, 1048576u);
  ASSERT_EQ(c.targets.size(), 1u);
  EXPECT_EQ(c.targets[0].portal_groups, std::vector<uint16_t>{7});
  EXPECT_EQ(c.targets[0].luns[1], (LunConfig{.lun = 1, .disk = "csv1"}));
  ASSERT_EQ(c.targets[0].initiators.size(), 2u);
  const InitiatorConfig& hv1 = c.targets[0].initiators[0];
  EXPECT_EQ(hv1.addresses.size(), 2u);
  EXPECT_EQ(hv1.chap->user, "hv1");
  EXPECT_EQ(hv1.chap->secret, "forward-secret");
  EXPECT_EQ(hv1.mutual_chap->secret, "mutual-secret1");
  EXPECT_FALSE(c.targets[0].initiators[1].chap.has_value());
  EXPECT_EQ(c.discovery.chap->user, "d");
  EXPECT_EQ(c.discovery.mutual_chap->secret, "mutual-secret1");
}

TEST_F(ConfigTest, EmptyFileIsTheDefaults) {
  const auto parsed = parse_config("", "t.toml");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(*parsed, Config{});
}

TEST_F(ConfigTest, SyntaxError) {
  EXPECT_THAT(errors("state_dir = \"/a\"\nthreads = = 4\n"),
              ElementsAre(StartsWith("2: not valid TOML: ")));
  EXPECT_THAT(errors("threads = 1\nthreads = 2\n"), ElementsAre(StartsWith("2: not valid TOML: ")));
  EXPECT_THAT(errors("metrics = \"never closed\n"), ElementsAre(StartsWith("1: not valid TOML")));
  EXPECT_THAT(errors(std::string("x = ") + std::string(100'000, '[')),
              ElementsAre(StartsWith("1: not valid TOML")));
  EXPECT_THAT(errors(std::string("a\0b = 1", 7)), ElementsAre(StartsWith("1: not valid TOML")));
}

TEST_F(ConfigTest, UnknownKeysWithAGuess) {
  EXPECT_THAT(errors("thread = 4\n"),
              ElementsAre("1: unknown key `thread`: did you mean `threads`?"));
  EXPECT_THAT(errors("\nqqqqqqqqqqqq = 4\n"), ElementsAre("2: unknown key `qqqqqqqqqqqq`"));
  EXPECT_THAT(
      errors(with_disk("name = \"a\"\nkind = \"memory\"\nsize = \"1MiB\"\nblocksize = 512\n")),
      ElementsAre("5: unknown key `blocksize` in [disk]: did you mean `block_size`?"));
  EXPECT_THAT(errors(with_target("luns = [{ lun = 0, disk = \"csv1\", id = 1 }]\n")),
              ElementsAre("13: unknown key `id` in [target.luns]"));
  EXPECT_THAT(errors(with_initiator("adresses = [\"10.1.0.1\"]\n")),
              ElementsAre("15: unknown key `adresses` in [target.initiator]: did you mean "
                          "`addresses`?"));
  EXPECT_THAT(errors(with_initiator("chap = { user = \"u\", secret_file = \"" + forward_ +
                                    "\", secret = \"x\" }\n")),
              ElementsAre(StartsWith("15: unknown key `secret` in [target.initiator.chap]")));
  EXPECT_THAT(errors("[discovery]\nchapp = 1\n"),
              ElementsAre("2: unknown key `chapp` in [discovery]: did you mean `chap`?"));
}

TEST_F(ConfigTest, WrongTypes) {
  EXPECT_THAT(errors("state_dir = 1\n"),
              ElementsAre("1: `state_dir` must be a string in quotes, not a whole number"));
  EXPECT_THAT(errors("threads = \"4\"\n"),
              ElementsAre("1: `threads` must be a whole number from 0 to 256"));
  EXPECT_THAT(errors("threads = -1\n"), ElementsAre(StartsWith("1: `threads` must be")));
  EXPECT_THAT(errors("threads = 257\n"), ElementsAre(StartsWith("1: `threads` must be")));
  EXPECT_THAT(errors("threads = 1.5\n"), ElementsAre(StartsWith("1: `threads` must be")));
  EXPECT_THAT(errors("spin_us = 1001\n"), ElementsAre(StartsWith("1: `spin_us` must be")));
  EXPECT_THAT(errors("max_connections = 0\n"),
              ElementsAre(StartsWith("1: `max_connections` must be a whole number from 1 to")));
  EXPECT_THAT(errors("chap_md5 = \"no\"\n"),
              ElementsAre("1: `chap_md5` must be true or false, not a string"));
  EXPECT_THAT(errors("disk = 1\n"), ElementsAre("1: `disk` must be an array in [ ], not a whole "
                                                "number"));
  EXPECT_THAT(errors("disk = [1]\n"),
              ElementsAre("1: `disk` must hold tables, not a whole number"));
  EXPECT_THAT(errors("\n[disk]\nname = \"a\"\n"),
              ElementsAre("2: write [[disk]], in double brackets: there may be several"));
  EXPECT_THAT(errors("discovery = 2026-11-01\n"),
              ElementsAre("1: `discovery` must be a table, not a date or time"));
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"memory\"\nsize = \"1MiB\"\n"
                               "write_cache = \"on\"\n")),
              ElementsAre("5: `write_cache` must be true or false, not a string"));
  EXPECT_THAT(errors(with_target("luns = [1]\n")),
              ElementsAre("13: `luns` must hold tables, not a whole number"));
}

TEST_F(ConfigTest, MissingKeys) {
  EXPECT_THAT(errors("\n[[portal_group]]\n"),
              ElementsAre("2: missing key `tag`", "2: missing key `portals`"));
  EXPECT_THAT(errors("\n\n[[disk]]\n"),
              ElementsAre("3: missing key `name`", "3: missing key `kind`"));
  EXPECT_THAT(errors("[[target]]\n"),
              ElementsAre("1: missing key `name`", "1: missing key `portal_groups`"));
  EXPECT_THAT(errors(with_target("luns = [\n  { lun = 0 },\n  { disk = \"csv1\" }\n]\n")),
              ElementsAre("14: missing key `disk`", "15: missing key `lun`"));
  EXPECT_THAT(errors(with_target("[[target.initiator]]\naddresses = [\"10.1.0.1\"]\n")),
              ElementsAre("13: missing key `name`"));
  EXPECT_THAT(errors(with_initiator("chap = {}\n")),
              ElementsAre("15: missing key `user`", "15: missing key `secret_file`"));
}

TEST_F(ConfigTest, SizesAndTimes) {
  const auto disk = [](const std::string& rest) {
    return with_disk("name = \"a\"\nkind = \"memory\"\n" + rest);
  };
  EXPECT_THAT(errors(disk("size = \"64 gigs\"\n")),
              ElementsAre("4: `size` = \"64 gigs\": unknown unit of size: use KiB, MiB, GiB or "
                          "TiB"));
  EXPECT_THAT(errors(disk("size = \"0\"\n")),
              ElementsAre("4: `size` must not be 0: write a size such as \"64GiB\""));
  EXPECT_THAT(errors(disk("size = -5\n")),
              ElementsAre("4: `size` must be a size such as \"64GiB\", not a whole number"));
  EXPECT_THAT(errors(disk("size = \"99999999999TiB\"\n")), ElementsAre(StartsWith("4: `size` = ")));
  EXPECT_THAT(errors(disk("size = \"2097152TiB\"\n")),
              ElementsAre(StartsWith("4: `size` is larger than ")));
  EXPECT_THAT(errors(disk("size = 1000\n")),
              ElementsAre("4: `size` is 1000 bytes: it must be a multiple of the block size 512"));
  EXPECT_THAT(errors(disk("size = 1536\nblock_size = 4096\n")),
              ElementsAre(StartsWith("4: `size` is 1536 bytes: it must be a multiple of the block "
                                     "size 4096")));
  EXPECT_THAT(errors(disk("size = \"1MiB\"\nblock_size = 1024\n")),
              ElementsAre("5: `block_size` is 1024: it must be 512 or 4096"));
  EXPECT_THAT(errors(disk("size = \"1MiB\"\nphysical_block_size = 6000\n")),
              ElementsAre(StartsWith("5: `physical_block_size` is 6000: it must be a power of")));
  EXPECT_THAT(errors(disk("size = \"1MiB\"\nblock_size = 4096\nphysical_block_size = 512\n")),
              ElementsAre(StartsWith("6: `physical_block_size` is 512")));
  EXPECT_THAT(errors("buffer_memory = \"1MiB\"\n"),
              ElementsAre("1: `buffer_memory` (of each thread) must be from 8MiB to 64GiB"));
  EXPECT_THAT(errors("drain_deadline = \"10\"\n"),
              ElementsAre("1: `drain_deadline` = \"10\": unknown unit of time: use ms, s or m"));
  EXPECT_THAT(
      errors("drain_deadline = 10\n"),
      ElementsAre("1: `drain_deadline` must be a time such as \"10s\", not a whole number"));
  EXPECT_THAT(errors("drain_deadline = \"2m\"\n"),
              ElementsAre("1: `drain_deadline` must be from 1 to 60 seconds"));
}

TEST_F(ConfigTest, DiskKinds) {
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"zfs\"\nsize = \"1GiB\"\n")),
              ElementsAre("3: `kind` is \"zfs\": it must be \"file\", \"block\" or \"memory\""));
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"block\"\npath = \"/dev/sdz\"\n"
                               "size = \"1GiB\"\n")),
              ElementsAre("5: a disk of kind `block` has the size of its device: remove `size`"));
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"memory\"\npath = \"/x\"\n"
                               "size = \"1GiB\"\n")),
              ElementsAre("4: a disk of kind `memory` has no `path`"));
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"file\"\n")),
              ElementsAre("1: a disk of kind `file` needs `path`",
                          "1: a disk of kind `file` needs `size`, such as \"64GiB\""));
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"block\"\n")),
              ElementsAre("1: a disk of kind `block` needs `path`"));
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"file\"\npath = \"srv/a\"\n"
                               "size = \"1GiB\"\n")),
              ElementsAre("4: `srv/a` must be an absolute path"));
  EXPECT_THAT(errors(with_disk("name = \"a\"\nkind = \"file\"\npath = \"/srv/../etc/shadow\"\n"
                               "size = \"1GiB\"\n")),
              ElementsAre("4: `/srv/../etc/shadow` must not contain `..`"));
  EXPECT_THAT(errors(with_disk("name = \"a/b\"\nkind = \"memory\"\nsize = \"1GiB\"\n")),
              ElementsAre(StartsWith("2: `a/b` is not a disk name: use 1 to 64 letters")));
  EXPECT_THAT(errors(with_disk("name = \"\"\nkind = \"memory\"\nsize = \"1GiB\"\n")),
              ElementsAre(StartsWith("2: `` is not a disk name")));
}

TEST_F(ConfigTest, Duplicates) {
  const std::string memory = "kind = \"memory\"\nsize = \"1MiB\"\n";
  EXPECT_THAT(errors("[[disk]]\nname = \"a\"\n" + memory + "[[disk]]\nname = \"a\"\n" + memory),
              ElementsAre("6: disk `a` is already used in line 2"));
  const std::string file = "kind = \"file\"\nsize = \"1MiB\"\n";
  EXPECT_THAT(
      errors("[[disk]]\nname = \"a\"\n" + file + "path = \"/srv/x\"\n[[disk]]\nname = \"b\"\n" +
             file + "path = \"/srv//./x\"\n"),
      ElementsAre("10: path /srv//./x is already used in line 5"));
  EXPECT_THAT(errors("[[portal_group]]\ntag = 1\nportals = [\"10.1.0.1:1\"]\n"
                     "[[portal_group]]\ntag = 1\nportals = [\"10.1.0.1:1\",\n\"10.1.0.1:1\"]\n"),
              ElementsAre("5: portal group tag 1 is already used in line 2",
                          "6: portal 10.1.0.1:1 is already used in line 3",
                          "7: portal 10.1.0.1:1 is already used in line 3"));
  EXPECT_THAT(errors(with_target("luns = [\n{ lun = 0, disk = \"csv1\" },\n"
                                 "{ lun = 0, disk = \"csv1\" }]\n")),
              ElementsAre("15: LUN 0 is already used in line 14",
                          "15: disk `csv1` of this target is already used in line 14"));
  EXPECT_THAT(errors(with_target("[[target]]\nname = \"iqn.2026-11.org.holdfast:store\"\n"
                                 "portal_groups = [1, 1]\n")),
              ElementsAre("14: target iqn.2026-11.org.holdfast:store is already used in line 11",
                          "15: portal group 1 is already used in line 15"));
  EXPECT_THAT(
      errors(with_initiator("[[target.initiator]]\nname = \"iqn.2026-11.org.holdfast:hv1\"\n")),
      ElementsAre("16: initiator iqn.2026-11.org.holdfast:hv1 of this target is already "
                  "used in line 14"));
}

TEST_F(ConfigTest, OneDiskMayBelongToTwoTargets) {
  EXPECT_THAT(errors(with_target("luns = [{ lun = 0, disk = \"csv1\" }]\n[[target]]\n"
                                 "name = \"iqn.2026-11.org.holdfast:other\"\nportal_groups = [1]\n"
                                 "luns = [{ lun = 5, disk = \"csv1\" }]\n")),
              ElementsAre());
}

// Only the daemon knows what `disk create` made, so it is the daemon that refuses.
TEST_F(ConfigTest, LunsOfUnknownDisks) {
  const auto unknown = [](const std::string& disk) {
    const auto parsed =
        parse_config(with_target("luns = [{ lun = 0, disk = \"" + disk + "\" }]\n"), "t.toml");
    return parsed.value().unknown_disks.at(0).error.to_string();
  };
  EXPECT_EQ(unknown("csv2"), "t.toml:13: no disk is named `csv2`: did you mean `csv1`?");
  EXPECT_EQ(unknown("witness"),
            "t.toml:13: no disk is named `witness`: add a [[disk]], or make it with `holdfast "
            "target disk create`");
}

TEST_F(ConfigTest, References) {
  EXPECT_THAT(errors("[[target]]\nname = \"iqn.2026-11.org.holdfast:s\"\nportal_groups = [9]\n"),
              ElementsAre("3: portal group 9 is not in this file: add a [[portal_group]] with tag "
                          "= 9"));
  EXPECT_THAT(errors(with_target("luns = [{ lun = 16384, disk = \"csv1\" }]\n")),
              ElementsAre("13: `lun` must be a whole number from 0 to 16383"));
}

TEST_F(ConfigTest, Names) {
  EXPECT_THAT(errors(std::string(kGood) +
                     "[[target]]\nname = \"iqn.2026-11.org.Holdfast:a\"\nportal_groups = [1]\n"),
              ElementsAre("11: `iqn.2026-11.org.Holdfast:a` has upper-case letters: iSCSI names "
                          "are written in lower case"));
  EXPECT_THAT(errors(with_target("[[target.initiator]]\nname = \"hv1\"\n")),
              ElementsAre(StartsWith("14: `hv1` is not an iSCSI name")));
}

TEST_F(ConfigTest, Addresses) {
  const auto portal = [](const std::string& text) {
    return errors("[[portal_group]]\ntag = 1\nportals = [\"" + text + "\"]\n");
  };
  EXPECT_THAT(portal("0.0.0.0:3260"),
              ElementsAre("3: portal 0.0.0.0:3260: initiators would be told an address they cannot "
                          "reach; list each address of this server instead"));
  EXPECT_THAT(portal("[::]:3260"), ElementsAre(HasSubstr("cannot reach")));
  EXPECT_THAT(portal("10.1.0.10:0"), ElementsAre(HasSubstr("the port must not be 0")));
  EXPECT_THAT(portal("10.1.0.10"), ElementsAre(HasSubstr("must be ADDRESS:PORT")));
  EXPECT_THAT(portal("san1.example:3260"), ElementsAre(HasSubstr("host names are not looked up")));
  EXPECT_THAT(errors("[[portal_group]]\ntag = 1\nportals = [3260]\n"),
              ElementsAre("3: `portals` must hold strings in quotes, not a whole number"));
  EXPECT_THAT(errors("[[portal_group]]\ntag = 0\nportals = []\n"),
              ElementsAre("2: `tag` must be a whole number from 1 to 65535",
                          "3: `portals` must not be empty"));
  EXPECT_THAT(errors("metrics = \"localhost:9464\"\n"), ElementsAre(StartsWith("1: `metrics` = ")));
  EXPECT_THAT(errors("metrics = \"127.0.0.1:0\"\n"),
              ElementsAre("1: `metrics` needs a port other than 0"));
  EXPECT_THAT(errors(with_initiator("addresses = [\"10.2.0.0/33\"]\n")),
              ElementsAre(StartsWith("15: address \"10.2.0.0/33\": the prefix length")));
  EXPECT_THAT(errors(with_initiator("addresses = [\"10.2.0.7/24\"]\n")),
              ElementsAre(HasSubstr("bits set beyond the prefix")));
  EXPECT_THAT(errors(with_initiator("addresses = []\n")),
              ElementsAre("15: `addresses` must not be empty: leave it out to allow any address"));
}

TEST_F(ConfigTest, Secrets) {
  const auto chap = [&](const std::string& file) {
    return errors(with_initiator("chap = { user = \"u\", secret_file = \"" + file + "\" }\n"));
  };
  EXPECT_THAT(chap(forward_), ElementsAre());
  EXPECT_THAT(chap(directory_ + "/none"), ElementsAre("15: cannot read secret file " + directory_ +
                                                      "/none: No such file or directory"));
  const std::string open = secret("open", "long-enough-secret", 0644);
  EXPECT_THAT(chap(open), ElementsAre("15: secret file " + open +
                                      " is open to other users (mode 0644): chmod 600 " + open));
  EXPECT_THAT(chap(secret("group", "long-enough-secret", 0640)), ElementsAre());
  EXPECT_THAT(chap(secret("short", "elevenchars\n")),
              ElementsAre("15: the secret in " + directory_ +
                          "/short has 11 characters: use 12 to 255 (Windows takes at most 16)"));
  EXPECT_THAT(chap(secret("twelve", "twelve-chars\r\n")), ElementsAre());
  EXPECT_THAT(chap(secret("lines", "first-line-of-it\nsecond\n")),
              ElementsAre(HasSubstr("must hold one line of text")));
  EXPECT_THAT(chap(secret("long", std::string(10'000, 'x'))),
              ElementsAre(HasSubstr("is longer than 255 characters")));
  EXPECT_THAT(chap(directory_), ElementsAre(HasSubstr("is not a regular file")));
  EXPECT_THAT(chap("relative"),
              ElementsAre("15: secret_file: `relative` must be an absolute path"));
  const std::string fifo = directory_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(chap(fifo), ElementsAre(HasSubstr("is not a regular file")));
}

TEST_F(ConfigTest, SecretsNeverReachMessages) {
  const std::string file = secret("leaky", "hunter2", 0600);
  const auto found =
      errors(with_initiator("chap = { user = \"u\", secret_file = \"" + file + "\" }\n"));
  EXPECT_THAT(found, ElementsAre(testing::Not(HasSubstr("hunter2"))));
}

TEST_F(ConfigTest, MutualChap) {
  const std::string mutual = "mutual_chap = { user = \"s\", secret_file = \"" + mutual_ + "\" }\n";
  EXPECT_THAT(errors(with_initiator(mutual)),
              ElementsAre(StartsWith("15: `mutual_chap` needs `chap`")));
  EXPECT_THAT(errors("[discovery]\n" + mutual),
              ElementsAre(StartsWith("2: `mutual_chap` needs `chap`")));
  const std::string same = secret("same", "forward-secret");
  EXPECT_THAT(errors(with_initiator("chap = { user = \"u\", secret_file = \"" + forward_ +
                                    "\" }\n"
                                    "mutual_chap = { user = \"s\", secret_file = \"" +
                                    same + "\" }\n")),
              ElementsAre("16: `chap` and `mutual_chap` have the same secret: use two different "
                          "ones"));
  EXPECT_THAT(
      errors(with_initiator("chap = { user = \"\", secret_file = \"" + forward_ + "\" }\n")),
      ElementsAre("15: the CHAP user must not be empty"));
}

TEST_F(ConfigTest, AllErrorsAtOnceInTheOrderOfTheFile) {
  EXPECT_THAT(
      errors("threads = 999\nstate_dir = \"x\"\nbogus = 1\n\n"
             "[[disk]]\nname = \"a\"\nkind = \"file\"\npath = \"x\"\nsize = \"1XB\"\n"
             "[[target]]\nname = \"bad\"\nportal_groups = [1]\n"
             "luns = [{ lun = 0, disk = \"zzz\" }]\n"),
      ElementsAre(StartsWith("1: "), StartsWith("2: "), StartsWith("3: "), StartsWith("8: "),
                  StartsWith("9: "), StartsWith("11: "), StartsWith("12: "), StartsWith("13: ")));
}

TEST_F(ConfigTest, LoadsAFileAndNamesItInErrors) {
  const std::string path = secret("good.toml", kGood);
  const auto loaded = load_config(path);
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->disks.size(), 1u);

  const auto missing = load_config(directory_ + "/absent.toml");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error()[0].to_string(),
            directory_ + "/absent.toml: cannot read the configuration: No such file or directory");

  const auto wrong = load_config(secret("bad.toml", "\nthreads = true\n"));
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error()[0].to_string(),
            directory_ + "/bad.toml:2: `threads` must be a whole number from 0 to 256");

  EXPECT_FALSE(load_config(directory_).has_value());
  const auto huge =
      load_config(secret("huge.toml", std::string(daemon::kMaxConfigFileBytes + 1, '#')));
  EXPECT_THAT(huge.error().at(0).message, HasSubstr("larger than"));
}

}  // namespace
}  // namespace holdfast::target
