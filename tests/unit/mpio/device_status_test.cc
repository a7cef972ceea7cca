#include "mpio/device_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/mpio/sample_status.h"

namespace holdfast::mpio {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(DeviceStatus, NothingToWarnOf) { EXPECT_THAT(warnings(sample_status()), IsEmpty()); }

TEST(DeviceStatus, WarnsOfWhatIsNotRedundant) {
  DeviceStatus status = sample_status();
  status.paths[1].carries_io = false;
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("only one path works")));
  status.paths[0].carries_io = false;
  EXPECT_THAT(warnings(status), ElementsAre("no path works"));
  status = sample_status();
  status.paths[1].portal = "10.1.0.11:3260";
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("in one subnet")));
  status = sample_status();
  status.paths[1].source = status.paths[0].source;
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("one address of this host")));
  status = sample_status();
  std::swap(status.paths[0].source, status.paths[1].source);
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("are sources exchanged?"),
                                            HasSubstr("are sources exchanged?")));
  status.paths.pop_back();
  EXPECT_THAT(warnings(status), Contains(HasSubstr("only one portal is configured")));
}

TEST(DeviceStatus, WarnsOfSlowFences) {
  DeviceStatus status = sample_status();
  status.paths[1].portal_group_tag = 2;
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("several portal groups")));
  status = sample_status();
  status.drains_on_reinstatement = status.unit_reset_waits = "unknown";
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("not known to drain")));
}

TEST(DeviceStatus, SaysWhetherADeadSessionIsPreempted) {
  DeviceStatus status = sample_status();
  const std::string head = "fences by PREEMPT AND ABORT: ";
  const auto line = [&](const char* rest) { return Contains(HasSubstr(head + rest)); };
  status.paths[1].portal_group_tag = 2;
  EXPECT_THAT(explain(status), line("no, sessions have no keys"));
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("with `session_keys = true` it could be")));
  status.session_keys = true;
  EXPECT_THAT(explain(status), line("not yet, no session has registered"));
  status.reserved = false;
  EXPECT_THAT(explain(status), line("no, the reservation of our sessions is not in force"));
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("by slower means")));
  status.reserved = true;
  EXPECT_THAT(explain(status), line("yes, where a login cannot reinstate"));
  EXPECT_THAT(warnings(status), IsEmpty());
  status.preempt_drains = "unknown";
  EXPECT_THAT(explain(status), line("with a LOGICAL UNIT RESET after it"));
  status.preempt_drains = "no";
  EXPECT_THAT(explain(status), line("no, this target is known not to drain"));
  EXPECT_EQ(to_json(status)["reserved"], true);
}

TEST(DeviceStatus, SaysHowTheLastFenceWasCleared) {
  DeviceStatus status = sample_status();
  EXPECT_FALSE(to_json(status).contains("last_fence"));
  status.last_fence = {.path = "p", .proof = "preempted at a target that drains", .took_ms = 300};
  EXPECT_THAT(explain(status), Contains("the last fence, of path p, was cleared after 0.3 s: "
                                        "preempted at a target that drains"));
  EXPECT_EQ(to_json(status)["last_fence"]["took_ms"], 300);
}

TEST(DeviceStatus, SubnetsOfIpv6) {
  DeviceStatus status = sample_status();
  status.paths[0].portal = "[fd00:1:0:1::a]:3260";
  status.paths[1].portal = "[fd00:1:0:2::a]:3260";
  EXPECT_THAT(warnings(status), IsEmpty());
  status.paths[1].portal = "[fd00:1:0:1::b]:3260";
  EXPECT_THAT(warnings(status), ElementsAre(HasSubstr("in one subnet")));
}

TEST(DeviceStatus, ExplainsEachPath) {
  DeviceStatus status = sample_status();
  const auto line = [&] { return explain(status)[1]; };  // of the first path
  EXPECT_THAT(line(), HasSubstr("it carries requests; the target says active/optimized"));
  const std::string tier = std::exchange(status.paths[0].tier, "unusable");
  const std::string alua = std::exchange(status.paths[0].alua, "standby");
  EXPECT_THAT(line(), HasSubstr("it carries nothing as long as the target says standby"));
  status.paths[0].tier = tier;
  status.paths[0].alua = alua;
  status.paths[0].weight_permille = 0;
  EXPECT_THAT(line(), HasSubstr("kept idle until it has been stable"));
  status.paths[0].weight_permille = 300;
  EXPECT_THAT(line(), HasSubstr("gets 30 % of its share"));
  status.paths[0].rank = 2;
  EXPECT_THAT(line(), HasSubstr("kept in reserve"));
  status.paths[0].carries_io = false;
  status.paths[0].state = "BACKOFF";
  status.paths[0].why = "connection refused";
  EXPECT_THAT(line(), HasSubstr("BACKOFF for 60.0 s (connection refused): it will be tried again"));
  status.paths[0].disabled = true;
  EXPECT_THAT(line(), HasSubstr("the administrator disabled it"));
}

TEST(DeviceStatus, ExplainsGhostsAndFences) {
  DeviceStatus status = sample_status();
  EXPECT_THAT(explain(status), Contains("no write of unknown fate is open"));
  status.ghosts = 2;
  status.oldest_ghost_ms = 1500;
  status.fences.push_back({.path = "p", .step = "reinstate", .proof = "none", .since_ms = 200});
  EXPECT_THAT(explain(status), Contains(HasSubstr("the oldest for 1.5 s")));
  EXPECT_THAT(explain(status), Contains("a fence of path p is open for 0.2 s: reinstate"));
  status.fences[0].failure = "the socket was closed";
  EXPECT_THAT(explain(status), Contains("a fence of path p is open for 0.2 s: reinstate; before, "
                                        "the socket was closed"));
  status.known = false;
  EXPECT_THAT(explain(status), Contains(HasSubstr("has not been reached yet")));
  EXPECT_THAT(explain(status), Not(Contains(HasSubstr("naa."))));
}

TEST(DeviceStatus, AsJson) {
  const nlohmann::json json = to_json(sample_status());
  EXPECT_EQ(json["name"], "csv1");
  EXPECT_EQ(json["paths"][0]["portal"], "10.1.0.10:3260");
  EXPECT_EQ(json["effective"][0]["origin"], "m.toml:9");
  EXPECT_FALSE(json.contains("without_path_ms"));
  DeviceStatus status = sample_status();
  status.without_path_ms = 5;
  EXPECT_EQ(to_json(status)["without_path_ms"], 5);
}

}  // namespace
}  // namespace holdfast::mpio
