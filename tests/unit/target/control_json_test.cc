#include "target/control_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/daemon/control_message.h"
#include "tests/unit/target/fake_node.h"

namespace holdfast::target {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

TEST(ControlJson, StatusSurvivesTheTrip) {
  const NodeStatus before = sample_status();
  const std::string line = daemon::to_line(to_json(before));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto parsed = daemon::parse_line(line);
  ASSERT_TRUE(parsed.has_value());
  const auto after = status_from_json(*parsed);
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ(daemon::to_line(to_json(*after)), line);
  ASSERT_EQ(after->disks.size(), 1u);
  EXPECT_EQ(after->disks[0].config, before.disks[0].config);
  EXPECT_EQ(after->disks[0].reservation.registrants[0].key, 0xfedcba9876543210u);
  EXPECT_EQ(after->disks[0].counters.read_latency.buckets[7], 90u);
  EXPECT_EQ(after->sessions[0].isid, 0x23d000001u);
  EXPECT_EQ(after->targets[0].initiators[0].addresses, before.targets[0].initiators[0].addresses);
  EXPECT_EQ(after->targets[0].initiators[0].mutual_chap, std::nullopt);
  EXPECT_EQ(after->connections_refused, 1u);
}

TEST(ControlJson, NamesAndForms) {
  const json status = to_json(sample_status());
  EXPECT_EQ(status["disks"][0]["config"]["backing"]["kind"], "file");
  EXPECT_EQ(status["disks"][0]["config"]["write_cache"], true);
  EXPECT_EQ(status["disks"][0]["reservation"]["registrants"][0]["key"], "0xfedcba9876543210");
  EXPECT_EQ(status["sessions"][0]["isid"], "0x00023d000001");
  EXPECT_EQ(status["targets"][0]["initiators"][0]["addresses"][0], "10.1.0.0/24");
  EXPECT_TRUE(status["targets"][0]["initiators"][0]["mutual_chap"].is_null());
}

TEST(ControlJson, SecretsStayInside) {
  EXPECT_THAT(daemon::to_line(to_json(sample_status())), Not(HasSubstr("never-to-be-shown")));
}

TEST(ControlJson, BytesThatAreNotUtf8DoNotStopTheAnswer) {
  NodeStatus status = sample_status();
  status.sessions[0].initiator_name = "iqn.\xff\xfe\n\x1b[2J";
  const std::string line = daemon::to_line(to_json(status));
  EXPECT_TRUE(daemon::parse_line(line).has_value());
  EXPECT_EQ(line.find('\n'), line.size() - 1);
}

TEST(ControlJson, DiskDescriptions) {
  const auto disk = disk_from_json(json::parse(
      R"({"name":"a","backing":{"kind":"memory","size_bytes":1048576,"block_size":4096}})"));
  ASSERT_TRUE(disk.has_value());
  EXPECT_EQ(disk->backing.kind, io::BackingKind::memory);
  EXPECT_EQ(disk->backing.block_size, 4096u);
  EXPECT_TRUE(disk->backing.thin);
  EXPECT_EQ(disk->write_cache, std::nullopt);
}

TEST(ControlJson, WrongTypesAreRefused) {
  for (const char* text :
       {"[]", "1", "null", R"({"name":1})", R"({"backing":[]})", R"({"backing":{"kind":"zfs"}})",
        R"({"backing":{"size_bytes":-1}})", R"({"backing":{"size_bytes":1.5}})",
        R"({"backing":{"block_size":4294967296}})", R"({"backing":{"thin":"yes"}})",
        R"({"write_cache":"on"})"}) {
    EXPECT_FALSE(disk_from_json(json::parse(text)).has_value()) << text;
  }
  for (const char* text :
       {R"({"disks":{}})", R"({"disks":[1]})", R"({"sessions":[{"isid":"23d"}]})",
        R"({"sessions":[{"isid":"0xzz"}]})", R"({"sessions":[{"isid":"0x11223344556677889"}]})",
        R"({"sessions":[{"tsih":65536}]})", R"({"threads":true})",
        R"({"targets":[{"initiators":[{"addresses":["no"]}]}]})"}) {
    EXPECT_FALSE(status_from_json(json::parse(text)).has_value()) << text;
  }
}

TEST(ControlJson, HistogramWithTooManyBucketsIsRefused) {
  json status = to_json(sample_status());
  EXPECT_TRUE(status_from_json(status).has_value());
  status["disks"][0]["counters"]["read_latency"]["buckets"].push_back(0);
  EXPECT_FALSE(status_from_json(status).has_value());
}

TEST(ControlJson, UnknownMembersAreIgnored) {
  const auto status = status_from_json(json::parse(R"({"version":"9","from_the_future":[{}]})"));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->version, "9");
}

}  // namespace
}  // namespace holdfast::target
