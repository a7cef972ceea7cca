#include "target/config_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::target {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kGiB = uint64_t{1} << 30;

DiskConfig disk(const std::string& name, uint64_t size_bytes = kGiB) {
  DiskConfig made;
  made.name = name;
  made.backing.path = "/srv/" + name;
  made.backing.size_bytes = size_bytes;
  return made;
}

Config base_config() {
  Config config;
  config.portal_groups = {{.tag = 1, .portals = {io::Endpoint::parse("10.1.0.10:3260").value()}}};
  config.disks = {disk("a"), disk("b")};
  TargetConfig target;
  target.name = "iqn.x:t";
  target.portal_groups = {1};
  target.luns = {{.lun = 0, .disk = "a"}, {.lun = 1, .disk = "b"}};
  InitiatorConfig initiator;
  initiator.name = "iqn.x:hv1";
  target.initiators = {initiator};
  config.targets = {target};
  return config;
}

ConfigDiff diff(const Config& wanted) { return diff_configs(base_config(), wanted, {}); }

TEST(ConfigDiff, NothingToChange) {
  const ConfigDiff same = diff(base_config());
  EXPECT_THAT(same.refusals, IsEmpty());
  EXPECT_THAT(same.sentences, IsEmpty());
}

TEST(ConfigDiff, WhatNeedsARestartIsRefusedByName) {
  const auto refused = [](const char* key, auto change) {
    Config wanted = base_config();
    change(wanted);
    const ConfigDiff result = diff(wanted);
    EXPECT_THAT(result.refusals, ElementsAre(HasSubstr("`" + std::string(key) + "`")));
    EXPECT_THAT(result.refusals, ElementsAre(HasSubstr("restart")));
  };
  refused("threads", [](Config& c) { c.threads = 7; });
  refused("state_dir", [](Config& c) { c.state_dir = "/elsewhere"; });
  refused("control_socket", [](Config& c) { c.control_socket = "/elsewhere"; });
  refused("metrics", [](Config& c) { c.metrics = "127.0.0.1:1"; });
  refused("spin_us", [](Config& c) { c.spin_us = 1; });
  refused("buffer_memory", [](Config& c) { c.buffer_memory_bytes = kGiB; });
  refused("max_connections", [](Config& c) { c.max_connections = 3; });
  refused("drain_deadline", [](Config& c) { c.drain_deadline_ms = 1; });
}

TEST(ConfigDiff, ADiskGrowsButNeverShrinks) {
  Config wanted = base_config();
  wanted.disks[0].backing.size_bytes = 2 * kGiB;
  const ConfigDiff grown = diff(wanted);
  EXPECT_THAT(grown.refusals, IsEmpty());
  EXPECT_THAT(grown.sentences, ElementsAre("disk `a` grown from 1GiB to 2GiB"));
  EXPECT_THAT(grown.grown_disks, ElementsAre(ConfigDiff::Growth{"a", kGiB, 2 * kGiB}));

  wanted.disks[0].backing.size_bytes = kGiB / 2;
  EXPECT_THAT(diff(wanted).refusals, ElementsAre(HasSubstr("never shrunk")));
}

TEST(ConfigDiff, WhatADiskIsCannotChange) {
  const auto refused = [](const char* what, auto change) {
    Config wanted = base_config();
    change(wanted.disks[1]);
    EXPECT_THAT(diff(wanted).refusals,
                ElementsAre(HasSubstr("disk `b`: " + std::string(what) + " cannot change")));
  };
  refused("path", [](DiskConfig& d) { d.backing.path = "/srv/other"; });
  refused("kind", [](DiskConfig& d) { d.backing.kind = io::BackingKind::memory; });
  refused("block_size", [](DiskConfig& d) { d.backing.block_size = 4096; });
  refused("thin", [](DiskConfig& d) { d.backing.thin = false; });
  refused("read_only", [](DiskConfig& d) { d.backing.read_only = true; });
  refused("removable", [](DiskConfig& d) { d.removable = true; });
  refused("write_cache", [](DiskConfig& d) { d.write_cache = true; });
  // Also together with a growth, which alone would be fine.
  refused("path", [](DiskConfig& d) {
    d.backing.path = "/srv/other";
    d.backing.size_bytes = 2 * kGiB;
  });
}

TEST(ConfigDiff, ARenamedDiskIsNotOpenedTwice) {
  Config wanted = base_config();
  wanted.disks[1].name = "c";
  wanted.targets[0].luns[1].disk = "c";
  EXPECT_THAT(diff(wanted).refusals, ElementsAre(HasSubstr("/srv/b is served as disk `b`")));
}

TEST(ConfigDiff, Luns) {
  Config wanted = base_config();
  wanted.disks.push_back(disk("c"));
  wanted.targets[0].luns[1] = {.lun = 2, .disk = "c"};
  const ConfigDiff result = diff(wanted);
  EXPECT_THAT(result.refusals, IsEmpty());
  EXPECT_THAT(result.added_disks, SizeIs(1));
  EXPECT_THAT(result.other_lun_inventory, ElementsAre("iqn.x:t"));
  EXPECT_THAT(result.removed_luns, ElementsAre(ConfigDiff::LunRemoval{"iqn.x:t", "b"}));
  EXPECT_THAT(result.sentences,
              ElementsAre("disk `c` added", "target iqn.x:t: LUN 2 added: disk `c`",
                          "target iqn.x:t: LUN 1 removed: disk `b`"));
}

TEST(ConfigDiff, AnotherDiskUnderTheSameLunIsARemovalAndAnAddition) {
  Config wanted = base_config();
  std::swap(wanted.targets[0].luns[0].disk, wanted.targets[0].luns[1].disk);
  const ConfigDiff result = diff(wanted);
  EXPECT_THAT(result.removed_luns, SizeIs(2));
  EXPECT_THAT(result.other_lun_inventory, SizeIs(1));
}

TEST(ConfigDiff, RemovedDiskTargetAndGroup) {
  Config wanted = base_config();
  wanted.targets.clear();
  wanted.portal_groups.clear();
  wanted.disks.pop_back();
  const ConfigDiff result = diff(wanted);
  EXPECT_THAT(result.removed_disks, ElementsAre("b"));
  EXPECT_THAT(result.removed_luns, IsEmpty());  // the whole target goes
  EXPECT_THAT(result.sentences, Contains(HasSubstr("target iqn.x:t removed")));
  EXPECT_THAT(result.sentences, Contains(HasSubstr("portal group 1 removed")));
  EXPECT_THAT(result.sentences, Contains("disk `b` removed; its data stays where it is"));
  DiskConfig in_memory = wanted.disks[0];
  in_memory.backing.kind = io::BackingKind::memory;
  EXPECT_THAT(fate_of_data(in_memory), HasSubstr("its data is lost"));
}

TEST(ConfigDiff, AccessIsDescribedWithoutSecrets) {
  Config running = base_config();
  running.targets[0].initiators[0].chap =
      daemon::ChapConfig{.user = "hv1", .secret_file = "/etc/s", .secret = "old secret of 16"};
  Config wanted = running;
  wanted.targets[0].initiators[0].chap->secret = "new secret of 16";
  InitiatorConfig other;
  other.name = "*";
  wanted.targets[0].initiators.push_back(other);
  const ConfigDiff result = diff_configs(running, wanted, {});
  EXPECT_THAT(result.refusals, IsEmpty());
  EXPECT_THAT(result.sentences, ElementsAre(HasSubstr("authentication changed"),
                                            HasSubstr("any initiator may log in")));
  for (const std::string& sentence : result.sentences) {
    EXPECT_EQ(sentence.find("secret of"), std::string::npos);
  }
  const ConfigDiff back = diff_configs(wanted, running, {});
  EXPECT_THAT(back.sentences, Contains(HasSubstr("any initiator may no longer log in")));
  // Whoever loses its own entry beside one for all is let in by that.
  wanted.targets[0].initiators = {other};
  EXPECT_THAT(diff_configs(running, wanted, {}).sentences,
              Contains(HasSubstr("has no entry of its own any more: it is let in as any")));
}

TEST(ConfigConflicts, DisksOfTheCommandLine) {
  const std::vector<DiskConfig> created{disk("scratch")};
  Config config = base_config();
  EXPECT_THAT(config_conflicts(config, created), IsEmpty());

  config.targets[0].luns.push_back({.lun = 2, .disk = "scratch"});
  EXPECT_THAT(config_conflicts(config, created), IsEmpty());
  EXPECT_THAT(config_conflicts(config, {}), ElementsAre(HasSubstr("names disk `scratch`")));

  config.disks.push_back(disk("scratch"));
  EXPECT_THAT(config_conflicts(config, created),
              ElementsAre(HasSubstr("disk `scratch`: `holdfast target disk create` made one")));
  config.disks.back().name = "other";
  EXPECT_THAT(config_conflicts(config, created), ElementsAre(HasSubstr("use one of them")));
}

}  // namespace
}  // namespace holdfast::target
