#include "qdisk/config.h"

#include <gmock/gmock.h>

#include "qdisk/layout.h"

namespace holdfast::qdisk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kTop = R"(
node_name = "hv1"
[cluster]
name = "lab"
uuid = "6f1c0a52-9e7b-4c39-8f1e-0D2A4B6C8E10"
[tls]
ca = "/etc/holdfast/ca.pem"
certificate = "/etc/holdfast/hv1.pem"
key = "/etc/holdfast/hv1.key"
)";
const std::string kNodes = R"(
[[node]]
name = "hv1"
id = 0
addresses = ["10.3.0.1:7790", "10.4.0.1:7790"]
[[node]]
name = "hv2"
id = 1
addresses = ["10.3.0.2:7790", "10.4.0.2:7790"]
)";
const std::string kDisks = R"(
[witness]
path = "/dev/disk/by-id/witness"
[[volume]]
name = "Volume1"
number = 0
path = "/dev/disk/by-id/volume1"
[watchdog]
device = "/dev/watchdog"
)";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::vector<std::string> errors_of(const std::string& text) {
  const auto config = parse_config(text, "f");
  std::vector<std::string> out;
  if (config) return out;
  for (const daemon::ConfigError& error : config.error()) out.push_back(error.to_string());
  return out;
}

// One error, of this line of kTop + kNodes + kDisks.
std::string error_with(std::string_view from, std::string_view to) {
  const auto errors = errors_of(replaced(kTop + kNodes + kDisks, from, to));
  EXPECT_EQ(errors.size(), 1U) << testing::PrintToString(errors);
  return errors.empty() ? "" : errors.front();
}

TEST(QdiskConfig, EverythingIsRead) {
  const auto config = parse_config(kTop + kNodes + kDisks, "f");
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->cluster_name, "lab");
  EXPECT_EQ(to_text(config->cluster), "6f1c0a52-9e7b-4c39-8f1e-0d2a4b6c8e10");
  EXPECT_EQ(config->self().id, 0);
  EXPECT_EQ(config->configured(), NodeSet(3));
  ASSERT_EQ(config->nodes.size(), 2U);
  EXPECT_EQ(config->nodes[1].addresses[1].to_string(), "10.4.0.2:7790");
  EXPECT_EQ(config->witness->path, "/dev/disk/by-id/witness");
  EXPECT_EQ(config->volumes[0].name, "Volume1");
  EXPECT_EQ(config->watchdog.device, "/dev/watchdog");
  EXPECT_EQ(config->timers, timers_of(TimerProfile::standard));
  EXPECT_EQ(config->mode, QuorumMode::node_and_disk_majority);
  EXPECT_EQ(config->name_of(1), "hv2");
  EXPECT_EQ(config->name_of(7), "7");
}

TEST(QdiskConfig, TheClustersChoicesAreRead) {
  const auto config = parse_config(
      replaced(kTop, "[tls]",
               "quorum = \"node-majority\"\nprofile = \"lan-fast\"\ntimers = [\"takeover=9s\"]\n"
               "lower_priority = \"hv2\"\nlast_man_solo = true\n[tls]") +
          kNodes,
      "f");
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->mode, QuorumMode::node_majority);
  EXPECT_EQ(config->timers.takeover, Milliseconds(9000));
  EXPECT_EQ(config->timers.lease, Milliseconds(4000));
  EXPECT_EQ(config->policy().lower_priority, 1);
  EXPECT_TRUE(config->policy().last_man_solo);
  EXPECT_FALSE(config->witness);
}

TEST(QdiskConfig, WhatIsWrongIsSaidWithItsLine) {
  EXPECT_THAT(error_with("node_name = \"hv1\"", "node_name = \"hv3\""),
              HasSubstr("f:2: no [[node]] is named `hv3`: did you mean"));
  EXPECT_THAT(error_with("6f1c0a52-", "6f1c0a5-2"), HasSubstr("f:5: `uuid` must be"));
  EXPECT_THAT(error_with("6f1c0a52-", "6f1c0a5g-"), HasSubstr("f:5: `uuid` must be"));
  EXPECT_THAT(error_with("name = \"lab\"", "name = \"a lab\""), HasSubstr("f:4: a cluster's name"));
  EXPECT_THAT(error_with("id = 1", "id = 64"), HasSubstr("f:17: "));
  EXPECT_THAT(error_with("id = 1", "id = 0"), HasSubstr("f:17: id 0 is there already, in line 13"));
  EXPECT_THAT(error_with("name = \"hv2\"", "name = \"hv1\""),
              HasSubstr("f:16: node `hv1` is there already"));
  EXPECT_THAT(error_with("\"10.3.0.2:7790\"", "\"10.3.0.1:7790\""),
              HasSubstr("10.3.0.1:7790 is there already"));
  EXPECT_THAT(error_with("\"10.3.0.2:7790\"", "\"10.3.0.2\""), HasSubstr("f:18: "));
  EXPECT_THAT(error_with(", \"10.4.0.2:7790\"", ""),
              HasSubstr("f:18: 1 addresses, and the first node has 2"));
  EXPECT_THAT(error_with("[witness]\npath = \"/dev/disk/by-id/witness\"\n", ""),
              HasSubstr("node and disk majority needs a [witness]"));
  EXPECT_THAT(error_with("path = \"/dev/disk/by-id/witness\"", ""),
              HasSubstr("witness needs either `path` or `device`"));
  EXPECT_THAT(
      error_with("path = \"/dev/disk/by-id/volume1\"", "path = \"/dev/disk/by-id/witness\""),
      HasSubstr("is there already, in line 20"));
  EXPECT_THAT(error_with("number = 0", "number = 16"), HasSubstr("f:24: "));
  EXPECT_THAT(
      error_with("device = \"/dev/watchdog\"", "device = \"/dev/watchdog\"\nlab = \"/run/lab\""),
      HasSubstr("either `device` or `lab`"));
  EXPECT_THAT(error_with("[tls]", "colour = 3\n[tls]"), HasSubstr("f:6: "));
}

TEST(QdiskConfig, WhatWouldSilentlyDoNothingOrHarmIsRefused) {
  EXPECT_THAT(error_with("device = \"/dev/watchdog\"", "device = \"\""),
              HasSubstr("nothing ends this host when the daemon hangs"));
  EXPECT_THAT(error_with("device = \"/dev/watchdog\"\n", ""),
              HasSubstr("either `device` or `lab` is wanted"));
  EXPECT_THAT(error_with("node_name", "state_dir = \"/x\"\nlease_page = \"/x\"\nnode_name"),
              HasSubstr("f:3: `/x` is already another key's"));
  EXPECT_THAT(
      error_with("6f1c0a52-9e7b-4c39-8f1e-0D2A4B6C8E10", "00000000-0000-0000-0000-000000000000"),
      HasSubstr("f:5: all zeroes"));
  EXPECT_THAT(error_with("\"10.3.0.2:7790\"", "\"[fd00::2]:7790\""),
              HasSubstr("either IPv4 or IPv6"));
}

// What only follows from it is not said too.
TEST(QdiskConfig, OfATableThatIsMissingThatAloneIsSaid) {
  for (const std::string& error : errors_of("node_name = \"hv1\"\n")) {
    EXPECT_TRUE(error.contains("missing key") || error.contains("[[node]]") ||
                error.contains("[witness]"))
        << error;
  }
  EXPECT_THAT(error_with("path = \"/dev/disk/by-id/witness\"", "path = 5"),
              HasSubstr("`path` must be a string"));
}

TEST(QdiskConfig, TimesThatBreakTheirConditionAreRefused) {
  const auto errors =
      errors_of(replaced(kTop, "[tls]", "timers = [\"takeover=20s\"]\n[tls]") + kNodes + kDisks);
  EXPECT_THAT(errors, ElementsAre(HasSubstr("f:6: takeover")));
}

// --- multipath devices

const std::string kDevices = R"(
[witness]
device = "wit"
[[device]]
name = "wit"
target = "iqn.2026-11.org.holdfast:store"
lun = 0
portals = [{ address = "10.1.0.10:3260", source = "10.1.0.1" },
           { address = "10.2.0.10:3260", source = "10.2.0.1" }]
)";

TEST(QdiskConfig, MultipathDevicesAreThoseOfTheMultipathDaemon) {
  const std::string named = "initiator_name = \"iqn.2026-11.org.holdfast:hv1\"\n" + kTop + kNodes;
  const auto config = parse_config(named + kDevices, "f");
  ASSERT_TRUE(config.has_value()) << config.error()[0].to_string();
  EXPECT_EQ(config->witness->device, "wit");
  EXPECT_EQ(config->multipath.devices[0].portals.size(), 2U);
  EXPECT_EQ(config->multipath.initiator_name, "iqn.2026-11.org.holdfast:hv1");
  EXPECT_EQ(config->multipath.state_dir, config->state_dir + "/paths");

  EXPECT_THAT(errors_of(named + kDevices + "session_keys = true\n"),
              ElementsAre(HasSubstr("f:29: in a cluster a device has the key of its node")));
  EXPECT_THAT(errors_of(named + replaced(kDevices, "device = \"wit\"", "device = \"other\"")),
              ElementsAre(HasSubstr("f:22: no [[device]] is named `other`"),
                          HasSubstr("`wit` is neither the witness nor a volume")));
  EXPECT_THAT(errors_of(named + replaced(kDevices, "lun = 0", "lun = 0\npolicy = \"best\"")),
              ElementsAre(HasSubstr("f:27: `policy` must be")));
}

TEST(QdiskConfig, AMultipathDeviceNeedsAnInitiatorsName) {
  EXPECT_THAT(testing::PrintToString(errors_of(kTop + kNodes + kDevices)),
              HasSubstr("an iSCSI name"));
}

TEST(QdiskConfig, WhatIsMissingIsNamed) {
  EXPECT_THAT(testing::PrintToString(errors_of("node_name = \"hv1\"\n")),
              testing::AllOf(HasSubstr("`cluster`"), HasSubstr("`tls`"), HasSubstr("`node`")));
}

}  // namespace
}  // namespace holdfast::qdisk
