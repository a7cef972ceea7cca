#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "target/metrics_text.h"
#include "tests/unit/target/fake_node.h"

namespace holdfast::target {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(MetricsText, ShowsWhatTheNodeKnows) {
  const std::string page = metrics_text(sample_status());
  for (const char* line :
       {"holdfast_target_info{version=\"0.1.0\"} 1\n",
        "holdfast_target_uptime_seconds 3723\n",
        "holdfast_target_threads 2\n",
        "holdfast_target_connections_total 12\n",
        "holdfast_target_connections_refused_total 1\n",
        "holdfast_target_logins_failed_total 2\n",
        "holdfast_target_pdus_rejected_total 3\n",
        "holdfast_target_buffer_used_bytes 1048576\n",
        "holdfast_target_buffer_size_bytes 134217728\n",
        "holdfast_target_portal_up{portal=\"10.1.0.10:3260\",portal_group=\"1\"} 1\n",
        "holdfast_target_alua_state{portal_group=\"2\",state=\"standby\"} 1\n",
        "holdfast_target_alua_state{portal_group=\"2\",state=\"active/optimized\"} 0\n",
        "holdfast_target_sessions{target=\"iqn.2026-11.org.holdfast:store\"} 1\n",
        "holdfast_target_commands_in_flight{target=\"iqn.2026-11.org.holdfast:store\"} 4\n",
        "holdfast_target_disk_ready{disk=\"csv1\"} 1\n",
        "holdfast_target_disk_size_bytes{disk=\"csv1\"} 68719476736\n",
        "holdfast_target_commands_total{disk=\"csv1\",op=\"read\"} 100\n",
        "holdfast_target_commands_total{disk=\"csv1\",op=\"write\"} 50\n",
        "holdfast_target_bytes_total{disk=\"csv1\",op=\"read\"} 409600\n",
        "holdfast_target_command_errors_total{disk=\"csv1\",kind=\"reservation_conflict\"} 3\n",
        "holdfast_target_reservation_generation{disk=\"csv1\"} 7\n",
        "holdfast_target_reservation_held{disk=\"csv1\"} 1\n",
        "holdfast_target_reservation_registrants{disk=\"csv1\"} 2\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST(MetricsText, HistogramIsCumulative) {
  const std::string page = metrics_text(sample_status());
  const std::string name = "holdfast_target_command_duration_seconds";
  EXPECT_THAT(page, HasSubstr("# TYPE " + name + " histogram\n"));
  const std::string labels = "{disk=\"csv1\",op=\"read\"";
  EXPECT_THAT(page, HasSubstr(name + "_bucket" + labels + ",le=\"6.4e-05\"} 0\n"));
  EXPECT_THAT(page, HasSubstr(name + "_bucket" + labels + ",le=\"0.000128\"} 90\n"));
  EXPECT_THAT(page, HasSubstr(name + "_bucket" + labels + ",le=\"0.000512\"} 90\n"));
  EXPECT_THAT(page, HasSubstr(name + "_bucket" + labels + ",le=\"0.001024\"} 100\n"));
  EXPECT_THAT(page, HasSubstr(name + "_bucket" + labels + ",le=\"+Inf\"} 100\n"));
  EXPECT_THAT(page, HasSubstr(name + "_sum" + labels + "} 0.015\n"));
  EXPECT_THAT(page, HasSubstr(name + "_count" + labels + "} 100\n"));
}

TEST(MetricsText, CountIsNeverBelowItsBuckets) {
  NodeStatus status = sample_status();
  status.disks[0].counters.read_latency.count = 1;  // read earlier than the buckets
  EXPECT_THAT(metrics_text(status), HasSubstr("_count{disk=\"csv1\",op=\"read\"} 100\n"));
}

TEST(MetricsText, EveryFamilyHasHelpTypeAndPrefix) {
  std::istringstream page(metrics_text(sample_status()));
  std::string line;
  std::set<std::string> helped, typed;
  while (std::getline(page, line)) {
    std::istringstream words(line);
    std::string hash, kind, name;
    words >> hash >> kind >> name;
    if (hash != "#") {
      EXPECT_THAT(line, StartsWith("holdfast_target_"));
      continue;
    }
    const bool first = kind == "HELP" ? helped.insert(name).second : typed.insert(name).second;
    EXPECT_TRUE(first) << line;
  }
  EXPECT_EQ(helped, typed);
  EXPECT_GT(helped.size(), 15u);
}

TEST(MetricsText, FailuresShow) {
  NodeStatus status = sample_status();
  status.disks[0].state = "failed: gone";
  status.portals[0].state = "failed: in use";
  const std::string page = metrics_text(status);
  EXPECT_THAT(page, HasSubstr("holdfast_target_disk_ready{disk=\"csv1\"} 0\n"));
  EXPECT_THAT(page, HasSubstr("{portal=\"10.1.0.10:3260\",portal_group=\"1\"} 0\n"));
}

TEST(MetricsText, LabelsAreEscaped) {
  NodeStatus status = sample_status();
  status.version = "a\"b\\c\nd";
  EXPECT_THAT(metrics_text(status), HasSubstr("version=\"a\\\"b\\\\c\\nd\""));
}

TEST(MetricsPage, AsksTheNodeAndShowsIt) {
  FakeNode node;
  std::string text;
  metrics_page(node)([&](daemon::StreamServer::Answer answer) { text = answer(); });
  EXPECT_EQ(text, metrics_text(sample_status()));
}

}  // namespace
}  // namespace holdfast::target
