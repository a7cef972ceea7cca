#include "mpio/config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::mpio {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kWhole = R"(control_socket = "/run/m.sock"
initiator_name = "iqn.2026-11.org.holdfast:hv1"
state_dir = "/var/m"
io_threads = 2
[[device]]
name = "csv1"
target = "iqn.2026-11.org.holdfast:store"
lun = 1
portals = [{ address = "10.1.0.10:3260", source = "10.1.0.1" },
           { address = "[fd00::a]:3260", source = "fd00::1" }]
policy = "round-robin"
profile = "safe"
no_path_timeout = "5s"
header_digest = true
data_digest = "crc32c"
sessions_per_portal = 2
ghost_mode = "ghost-tracked"
ghost_hold = "30s"
drains_on_reinstatement = false
[[export]]
device = "csv1"
nbd = "/run/csv1.nbd"
)";

std::string with(const std::string& from, const std::string& to) {
  std::string text = kWhole;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::vector<std::string> errors(const std::string& text) {
  std::vector<std::string> out;
  const auto parsed = parse_config(text, "m.toml");
  if (parsed.has_value()) return out;
  for (const daemon::ConfigError& error : parsed.error()) out.push_back(error.to_string());
  return out;
}

std::string error(const std::string& text) {
  const auto all = errors(text);
  EXPECT_EQ(all.size(), 1u) << testing::PrintToString(all);
  return all.empty() ? "" : all[0];
}

TEST(MpioConfig, KeysOfSessionsWhereTheyAreOfUse) {
  const std::string last = "drains_on_reinstatement = false";
  const std::string keys = last + "\nsession_keys = true";
  const auto parsed = parse_config(with(last, keys), "m.toml");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->devices[0].session_keys);
  EXPECT_EQ(parsed->devices[0].lines.at("session_keys"), 20u);
  EXPECT_THAT(error(with(last, keys + "\npreempt_drains = false")),
              AllOf(HasSubstr("m.toml:20: "), HasSubstr("`preempt_drains = false`")));
  std::string one = with(last, keys);
  const size_t second = one.find(",\n           { address");
  one.replace(second, one.find(']', one.find(" }]", second)) - second, "");
  const std::string sessions = "sessions_per_portal = 2";
  one.replace(one.find(sessions), sessions.size(), "sessions_per_portal = 1");
  EXPECT_THAT(error(one), AllOf(HasSubstr("m.toml:19: "), HasSubstr("one path only")));
}

TEST(MpioConfig, ReadsEveryKey) {
  const auto parsed = parse_config(kWhole, "m.toml");
  ASSERT_TRUE(parsed.has_value()) << testing::PrintToString(errors(kWhole));
  const Config& config = *parsed;
  EXPECT_EQ(config.io_threads, 2u);
  ASSERT_EQ(config.devices.size(), 1u);
  const DeviceConfig& device = config.devices[0];
  EXPECT_EQ(device.lun, 1);
  ASSERT_EQ(device.portals.size(), 2u);
  EXPECT_EQ(device.portals[0].address.to_string(), "10.1.0.10:3260");
  EXPECT_EQ(device.portals[0].source->address_to_string(), "10.1.0.1");
  EXPECT_EQ(device.portals[1].source->address_to_string(), "fd00::1");
  EXPECT_EQ(device.policy, Policy::round_robin);
  EXPECT_EQ(device.profile, &kSafe);
  EXPECT_EQ(device.no_path_timeout_ms, 5000u);
  EXPECT_TRUE(device.header_digest);
  EXPECT_TRUE(device.data_digest);
  EXPECT_EQ(device.sessions_per_portal, 2u);
  EXPECT_TRUE(device.ghost_tracked);
  EXPECT_EQ(device.ghost_hold_ms, 30'000u);
  EXPECT_EQ(device.target_override.drains_on_reinstatement, false);
  EXPECT_EQ(device.target_override.unit_reset_waits, std::nullopt);
  EXPECT_FALSE(device.session_keys);
  EXPECT_EQ(device.lines.at("policy"), 11u);
  EXPECT_EQ(device.lines.at("no_path_timeout"), 13u);
  EXPECT_FALSE(device.lines.contains("chap"));
  EXPECT_EQ(config.exports[0].nbd, "/run/csv1.nbd");
}

TEST(MpioConfig, HasDefaults) {
  const auto parsed = parse_config("initiator_name = \"iqn.2026-11.org.holdfast:h\"\n", "m.toml");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->control_socket, "/run/holdfast/mpiod.sock");
  EXPECT_EQ(parsed->state_dir, "/var/lib/holdfast/mpiod");
  EXPECT_EQ(DeviceConfig{}.policy, Policy::adaptive);
  EXPECT_EQ(DeviceConfig{}.profile, &kLan);
  EXPECT_EQ(DeviceConfig{}.no_path_timeout_ms, 60'000u);
}

TEST(MpioConfig, EveryErrorHasItsLine) {
  EXPECT_THAT(
      errors("initiator_name = \"h\"\n\n[[device]]\nname = \"a b\"\ntarget = \"x\"\nlun = 99999\n"
             "portals = []\npolicy = \"fast\"\nprofile = \"slow\"\nbogus = 1\n"),
      ElementsAre(HasSubstr("m.toml:1: `h` is not an iSCSI name"),
                  HasSubstr("m.toml:4: `a b` is not a device name"),
                  HasSubstr("m.toml:5: `x` is not an iSCSI name"),
                  "m.toml:6: `lun` must be a whole number from 0 to 16383",
                  "m.toml:7: `portals` must not be empty", HasSubstr("m.toml:8: `policy` must be"),
                  HasSubstr("m.toml:9: `profile` must be"),
                  HasSubstr("m.toml:10: unknown key `bogus` in [device]")));
}

TEST(MpioConfig, WhatMustBeUnique) {
  EXPECT_EQ(error(with("[fd00::a]:3260\", source = \"fd00::1\"",
                       "10.1.0.10:3260\", source = \"10.1.0.1\"")),
            "m.toml:10: portal 10.1.0.10:3260 from 10.1.0.1 is already used in line 9");
  EXPECT_THAT(error(with("/run/csv1.nbd", "/run/m.sock")),
              HasSubstr("m.toml:22: socket /run/m.sock is already used in line 1"));
  const std::string twice = std::string(kWhole) +
                            "[[device]]\nname = \"csv1\"\ntarget = "
                            "\"iqn.2026-11.org.holdfast:store\"\nlun = 1\n"
                            "portals = [{ address = \"10.1.0.10:3260\" }]\n";
  EXPECT_THAT(errors(twice),
              ElementsAre("m.toml:24: device `csv1` is already used in line 6",
                          HasSubstr("m.toml:26: LUN 1 of iqn.2026-11.org.holdfast:store is "
                                    "already used in line 8")));
}

TEST(MpioConfig, ADeviceIsExportedOnce) {
  EXPECT_EQ(error(std::string(kWhole) + "[[export]]\ndevice = \"csv1\"\nnbd = \"/run/b.nbd\"\n"),
            "m.toml:24: device `csv1` is already used in line 21");
}

TEST(MpioConfig, DigestsAndThreadsOfADevice) {
  const auto parsed =
      parse_config(with("header_digest = true\ndata_digest = \"crc32c\"",
                        "digests = \"crc32c\"\nheader_digest = false\nio_threads = 5"),
                   "m.toml");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_FALSE(parsed->devices[0].header_digest);
  EXPECT_TRUE(parsed->devices[0].data_digest);
  EXPECT_EQ(parsed->io_threads, 5u);
}

TEST(MpioConfig, BuffersHoldTheLargestRequest) {
  EXPECT_THAT(error(with("io_threads = 2", "buffer_memory = \"31MiB\"")),
              HasSubstr("m.toml:4: `buffer_memory` (of each thread) must be from 32MiB"));
}

TEST(MpioConfig, PortalsAreAddresses) {
  EXPECT_THAT(error(with("10.1.0.10:3260", "store:3260")), HasSubstr("`address` = \"store:3260\""));
  EXPECT_THAT(error(with("10.1.0.10:3260", "0.0.0.0:3260")), HasSubstr("write the target's"));
  EXPECT_THAT(error(with("source = \"10.1.0.1\"", "source = \"10.1.0.1:5\"")),
              HasSubstr("`source` = \"10.1.0.1:5\""));
  EXPECT_THAT(error(with("source = \"10.1.0.1\"", "source = \"fd00::1\"")),
              HasSubstr("both be IPv4 or both IPv6"));
  EXPECT_THAT(error(with("sessions_per_portal = 2", "sessions_per_portal = 9")),
              HasSubstr("whole number from 1 to 8"));
}

TEST(MpioConfig, ValuesOfTwoWords) {
  EXPECT_THAT(error(with("header_digest = true", "header_digest = \"yes\"")),
              HasSubstr("`header_digest` must be \"crc32c\" or \"none\", or true or false"));
  EXPECT_THAT(error(with("\"ghost-tracked\"", "true")),
              HasSubstr("`ghost_mode` must be \"ghost-tracked\" or \"strict\""));
  EXPECT_THAT(error(with("\"ghost-tracked\"", "\"loose\"")), HasSubstr("`ghost_mode` must be"));
}

TEST(MpioConfig, ExportsNeedTheirDevice) {
  EXPECT_EQ(error(with("device = \"csv1\"", "device = \"csv2\"")),
            "m.toml:21: no device is named `csv2`: did you mean `csv1`?");
  EXPECT_THAT(error(with("/run/csv1.nbd", "csv1.nbd")), HasSubstr("must be an absolute path"));
}

TEST(MpioConfig, WhatAReloadMayChange) {
  const auto obstacles = [](const std::string& text) {
    return reload_obstacles(*parse_config(kWhole, "m.toml"), *parse_config(text, "m.toml"));
  };
  EXPECT_THAT(obstacles(kWhole), ElementsAre());
  EXPECT_THAT(obstacles(with("round-robin", "failover")), ElementsAre());
  EXPECT_THAT(obstacles(with("\"safe\"", "\"lan\"")), ElementsAre());
  EXPECT_THAT(obstacles(with("\"5s\"", "\"9s\"")), ElementsAre());
  EXPECT_THAT(obstacles(with("io_threads = 2", "io_threads = 3")),
              ElementsAre("`io_threads` cannot be changed while the daemon runs"));
  EXPECT_THAT(obstacles(with("10.1.0.10", "10.1.0.11")), ElementsAre(HasSubstr("`portals`")));
  EXPECT_THAT(obstacles(with("\"30s\"", "\"31s\"")), ElementsAre(HasSubstr("`ghost_hold`")));
  EXPECT_THAT(obstacles(with("lun = 1", "lun = 2")), ElementsAre(HasSubstr("`lun`")));
  // Devices and exports come and go.
  EXPECT_THAT(obstacles("initiator_name = \"iqn.2026-11.org.holdfast:hv1\"\ncontrol_socket = "
                        "\"/run/m.sock\"\nstate_dir = \"/var/m\"\nio_threads = 2\n"),
              ElementsAre());
  EXPECT_THAT(obstacles(with("/run/csv1.nbd", "/run/other.nbd")), ElementsAre());
}

}  // namespace
}  // namespace holdfast::mpio
